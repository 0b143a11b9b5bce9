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
