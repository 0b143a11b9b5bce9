//! What the system allows a child, tried with the guard itself.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use adit::stdio::{Confinement, NOT_STARTED, STDIO_GUARD};

/// What a command says that is run with these limits.
fn run(confinement: &Confinement, command: &[&str]) -> Output {
    let confinement = serde_json::to_string(confinement).unwrap();
    let mut guard = Command::new(env!("CARGO_BIN_EXE_adit"));
    // It ends all processes of its group.
    guard.args([STDIO_GUARD, "--confine", &confinement, "--"]).args(command).process_group(0);
    let child = guard.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Standard input stays open until the command has ended.
    let mut child = child;
    let input = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(input);
    output
}

fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn limits_hold_for_the_command_and_not_for_its_guard() {
    let allowed = tempfile::tempdir().unwrap();
    let hidden = tempfile::tempdir().unwrap();
    std::fs::write(allowed.path().join("a"), "readable").unwrap();
    std::fs::write(hidden.path().join("b"), "hidden").unwrap();
    let own = std::fs::metadata(allowed.path()).unwrap();
    let uid = std::os::unix::fs::MetadataExt::uid(&own);
    let confinement = Confinement {
        files_max: Some(32),
        cpu_time_s: Some(77),
        memory_max: Some(64 << 20),
        user: Some(uid.to_string()),
        read_paths: ["/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/dev"]
            .map(PathBuf::from)
            .into_iter()
            .filter(|path| path.exists())
            .collect(),
        write_paths: vec![allowed.path().to_owned()],
        ..Confinement::default()
    };
    let (a, b, c) = (allowed.path().join("a"), hidden.path().join("b"), allowed.path().join("c"));
    let script = format!(
        "ulimit -n; ulimit -t; grep NoNewPrivs /proc/self/status; id -u; cat {}; cat {}; echo x > {} && cat {}; grep 'data size' /proc/self/limits",
        a.display(),
        b.display(),
        c.display(),
        c.display()
    );
    let output = run(&confinement, &["sh", "-c", &script]);
    let text = output_text(&output);
    for wanted in ["32\n77\n", "NoNewPrivs:\t1", &format!("\n{uid}\n"), "readable", "x\n", "67108864"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(text.contains("Permission denied") && !text.contains("hidden\n"), "{text}");
    let free = run(
        &Confinement { may_gain_privileges: true, ..Confinement::default() },
        &["grep", "NoNewPrivs", "/proc/self/status"],
    );
    assert!(String::from_utf8_lossy(&free.stdout).contains("NoNewPrivs:\t0"));
}

/// Only root can start a command as another user; where the tests run as somebody else, this tries less.
#[test]
fn the_command_runs_as_its_user_with_no_other_groups() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("not tried: only root can start a command as another user");
    }
    let folder = tempfile::tempdir().unwrap();
    let script = format!("id -u; id -g; id -G; echo x > {}/of-root && echo written", folder.path().display());
    let show = ["sh", "-c", &script];
    let confinement = |group: Option<&str>| Confinement {
        user: Some("65534".into()),
        group: group.map(Into::into),
        ..Confinement::default()
    };
    let output = output_text(&run(&confinement(Some("65533")), &show));
    assert!(output.starts_with("65534\n65533\n65533\n") && !output.contains("written"), "{output}");
    let output = output_text(&run(&confinement(None), &show));
    assert!(output.starts_with("65534\n") && !output.contains("written"), "{output}");
    let groups: Vec<&str> = output.lines().skip(1).take(2).collect();
    assert!(groups.iter().all(|groups| *groups != "0" && !groups.starts_with("0 ")), "{output}");
}

/// The folder in which this user may make control groups (version 2), if there is one, and the controllers that it has.
fn cgroup_folder() -> Option<(PathBuf, String)> {
    let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
    let place = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?.split(' ').nth(1)?;
    let folder = Path::new(place).join(format!("adit-test-{}", std::process::id()));
    std::fs::create_dir(&folder).ok()?;
    let controllers = std::fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    Some((folder, controllers))
}

/// Where control groups cannot be made, or have no controllers, this says what it does not try.
#[test]
fn the_command_is_in_a_control_group_of_its_own_whose_limits_hold() {
    let Some((folder, controllers)) = cgroup_folder() else {
        return eprintln!("not tried: this user may make no control groups of version 2 here");
    };
    let in_group = || Confinement { cgroup: Some(folder.clone()), ..Confinement::default() };
    // What it leaves behind ends with it.
    let output = output_text(&run(&in_group(), &["sh", "-c", "cat /proc/self/cgroup; sleep 1000 > /dev/null 2>&1 &"]));
    let group = output.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    let (parent, own) = group.rsplit_once('/').unwrap_or_default();
    let name = folder.file_name().unwrap().to_str().unwrap();
    assert!(parent.ends_with(name) && own.starts_with("adit-"), "{output}");
    assert!(!folder.join(own).exists(), "the group is removed with its last process");
    if controllers.split_whitespace().any(|name| name == "pids") {
        let few = Confinement { processes_max: Some(3), ..in_group() };
        let script = "for i in 1 2 3 4 5 6; do sleep 5 & done; wait";
        let output = output_text(&run(&few, &["sh", "-c", script]));
        assert!(output.to_lowercase().contains("fork"), "{output}");
    } else {
        eprintln!(
            "not tried: the limit of processes, as control groups have no controller `pids` here ({controllers:?})"
        );
    }
    if controllers.split_whitespace().any(|name| name == "memory") {
        let small = Confinement { memory_max: Some(32 << 20), ..in_group() };
        let output = run(&small, &["sh", "-c", "head -c 100000000 /dev/zero | tail | wc -c; echo end"]);
        assert!(!output_text(&output).contains("100000000"), "{}", output_text(&output));
    } else {
        eprintln!(
            "not tried: the limit of memory, as control groups have no controller `memory` here ({controllers:?})"
        );
    }
    std::fs::remove_dir(&folder).unwrap();
}

#[test]
fn a_command_that_cannot_be_started_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let (script, plain) = (folder.path().join("script"), folder.path().join("plain"));
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::fs::write(&plain, "").unwrap();
    Command::new("chmod").arg("+x").arg(&script).status().unwrap();
    let none = Confinement::default;
    let group = folder.path().join("group");
    std::fs::create_dir(&group).unwrap();
    let in_group = || Confinement { cgroup: Some(group.clone()), memory_max: Some(1 << 20), ..none() };
    let text = |path: &Path| path.display().to_string();
    for (confinement, program, why) in [
        (none(), "no-such-program".to_owned(), "check `command` and PATH"),
        (none(), text(&script), "the interpreter in its first line"),
        (none(), text(&plain), "check the mode of the file"),
        (Confinement { user: Some("no-such-user".into()), ..none() }, "true".to_owned(), "check `child_user`"),
        (
            Confinement { read_paths: vec!["/no/such/path".into()], ..none() },
            "true".to_owned(),
            "check `child_read_paths`",
        ),
        (in_group(), "true".to_owned(), "cgroup.controllers cannot be read"),
    ] {
        let output = run(&confinement, &[&program]);
        assert_eq!(output.status.code(), Some(NOT_STARTED.into()));
        let stated = output_text(&output);
        assert!(stated.contains(&format!("cannot start {program}")) && stated.contains(why), "{why}: {stated}");
    }
    std::fs::write(group.join("cgroup.controllers"), "io pids").unwrap();
    let stated = output_text(&run(&in_group(), &["true"]));
    assert!(stated.contains("has no controller `memory`, only `io pids`"), "{stated}");
}
