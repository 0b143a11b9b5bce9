//! The container image and the Compose file.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{USER, assert_is_setting, assert_is_understood, longest_drain, profiles, read, seconds, strings, yaml};

/// The instructions of the Containerfile, each in one line.
fn instructions() -> Vec<(String, String)> {
    let text = read("container/Containerfile");
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    let joined = lines.replace("\\\n", " ");
    let lines = joined.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let (name, rest) = line.split_once(' ').unwrap();
            (name.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect()
}

#[test]
fn the_image_is_the_program_alone_and_runs_as_nobody() {
    let all = instructions();
    let last = all.iter().rposition(|(name, _)| name == "FROM").unwrap();
    let (build, image) = all.split_at(last);
    assert_eq!(image[0].1, "scratch");
    let of = |name: &'static str| image.iter().filter(move |(known, _)| known == name).map(|(_, rest)| rest.as_str());
    assert_eq!(of("USER").collect::<Vec<_>>(), [format!("{USER}:{USER}")]);
    assert_eq!(of("RUN").count(), 0, "there is no shell");
    let built: String = build.iter().filter(|(name, _)| name == "RUN").map(|(_, rest)| format!("{rest}\n")).collect();
    for copy in of("COPY") {
        let words: Vec<&str> = copy.split(' ').collect();
        let source = words[words.len() - 2].trim_end_matches('/');
        assert!(words.contains(&"--from=build") && built.contains(source), "{copy}");
    }
    // What starts is what was built.
    let entry: Vec<String> = serde_json::from_str(of("ENTRYPOINT").next().unwrap()).unwrap();
    assert_eq!(entry, ["/usr/bin/adit"]);
    assert!(built.contains(&format!("/image{}", entry[0])), "{built}");
    assert!(built.contains("--locked --profile dist --no-default-features"), "{built}");
    // The user has a home that it owns.
    assert!(of("COPY").any(|copy| copy.contains(&format!("--chown={USER}:{USER}")) && copy.ends_with("/var/lib/")));
}

#[test]
fn the_build_sees_all_that_cargo_reads() {
    let ignore = read("container/Containerfile.dockerignore");
    let kept: BTreeSet<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let root = profiles().parent().unwrap().to_path_buf();
    for needed in ["Cargo.toml", "Cargo.lock", "src", "benches", "loadtest", "tests", "profiles"] {
        assert!(kept.contains(needed) && root.join(needed).exists(), "{needed}");
    }
    assert!(ignore.lines().any(|line| line == "*"), "the rest is left out");
}

#[test]
fn compose_runs_confined_programs_with_known_flags_and_settings() {
    let compose = yaml("container/compose.yaml");
    let exposed = instructions().into_iter().find(|(name, _)| name == "EXPOSE").unwrap().1;
    let mut ours = 0;
    for (name, service) in compose["services"].as_object().unwrap() {
        assert_eq!(strings(&service["cap_drop"]), ["ALL"], "{name}");
        if service["image"] != "adit" {
            continue;
        }
        ours += 1;
        assert_eq!(service["user"], format!("{USER}:{USER}"));
        assert_eq!(service["read_only"], true, "{name}");
        let options = strings(&service["security_opt"]);
        assert!(options.contains(&"no-new-privileges:true".to_owned()), "{name}");
        let seccomp = options.iter().find_map(|option| option.strip_prefix("seccomp=")).unwrap();
        assert!(profiles().join("container").join(seccomp).is_file(), "{seccomp}");
        let dockerfile = service["build"]["dockerfile"].as_str().unwrap();
        assert!(profiles().parent().unwrap().join(dockerfile).is_file());

        let command = strings(&service["command"]);
        assert_is_understood(&command, name);
        let check = strings(&service["healthcheck"]["test"]);
        if !check.is_empty() {
            assert_eq!(check[..2], ["CMD", "/usr/bin/adit"]);
            assert_is_understood(&check[2..], name);
        }
        for variable in service["environment"].as_object().unwrap().keys() {
            assert_is_setting(variable, name);
        }
        let role = if command[0] == "edge" { "edge" } else { "connect" };
        assert!(seconds(service["stop_grace_period"].as_str().unwrap()) > longest_drain(role), "{name}");
        for port in strings(&service["ports"]) {
            let (host, inner) = port.rsplit_once(':').unwrap();
            assert!(host.starts_with("127.0.0.1:"), "{port}: plain HTTP must not leave this machine");
            assert!(command.iter().any(|arg| arg.ends_with(&format!(":{inner}"))), "nothing listens at {inner}");
            assert!(exposed.split(' ').any(|known| known == inner), "{inner} is not exposed");
        }
        // What it writes to is a volume.
        for volume in strings(&service["volumes"]) {
            let (volume, path) = volume.split_once(':').unwrap();
            assert!(compose["volumes"].as_object().unwrap().contains_key(volume));
            assert!(command.iter().any(|arg| arg.starts_with(path)), "{name} does not use {path}");
        }
    }
    assert_eq!(ours, 2);
    // The commands in the head of the file.
    let text = read("container/compose.yaml");
    let shown = text.lines().filter_map(|line| line.strip_prefix("#     docker compose "));
    let of_adit = shown.filter_map(|line| {
        let line = line.split("  #").next().unwrap_or_default();
        line.split_once("/usr/bin/adit ").or_else(|| line.split_once("run --rm edge ")).map(|(_, args)| args)
    });
    let commands: Vec<Vec<String>> = of_adit.map(|args| args.split_whitespace().map(str::to_owned).collect()).collect();
    assert_eq!(commands.len(), 2);
    commands.iter().for_each(|args| assert_is_understood(args, "compose.yaml"));
}

#[test]
fn the_seccomp_profile_allows_io_uring_and_nothing_that_is_not_listed() {
    let profile: Value = serde_json::from_str(&read("container/seccomp.json")).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let rules = profile["syscalls"].as_array().unwrap();
    let free = |rule: &&Value| rule["action"] == "SCMP_ACT_ALLOW" && rule["args"].is_null();
    let allowed: BTreeSet<String> = rules.iter().filter(free).flat_map(|rule| strings(&rule["names"])).collect();
    for needed in ["io_uring_setup", "io_uring_enter", "io_uring_register", "execve", "epoll_wait", "sched_setaffinity"]
    {
        assert!(allowed.contains(needed), "{needed}");
    }
    for refused in ["mount", "ptrace", "bpf", "unshare", "setns", "keyctl", "init_module", "clone"] {
        assert!(!allowed.contains(refused), "{refused}");
    }
}
