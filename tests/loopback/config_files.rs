//! The configuration as its users meet it: whole files, right and wrong, and who wins over whom.
//!
//! Beside each file in `tests/config/invalid` stands what is said about it, word for word. To write those files anew after
//! a message was changed on purpose: `ADIT_TEST_BLESS=1 cargo test --test loopback config_files`, then read the difference.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use adit::config::{
    self, Config, Driver, FileText, Flag, MASK, Millis, Origin, Preset, Profile, Purpose, Reload, Sources,
};
use adit::process::credentials;

use crate::process::command;

const SECRET: &str = "a-very-hidden-secret-0123";

fn sources(purpose: Purpose, text: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
    let file = (!text.is_empty()).then(|| FileText { path: "conf/adit.toml".into(), text: text.to_owned() });
    let env: BTreeMap<String, String> = env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Sources {
        purpose,
        profile: None,
        file,
        env,
        flags: flags.iter().map(|(key, value)| Flag::new(key, *value)).collect(),
        credentials: Vec::new(),
    }
}

fn check(text: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, String> {
    Config::load(&sources(Purpose::Check, text, env, flags)).map_err(|faults| faults.to_string())
}

fn fixtures(kind: &str) -> Vec<(PathBuf, FileText)> {
    files_in(&format!("tests/config/{kind}"))
}

fn files_in(folder: &str) -> Vec<(PathBuf, FileText)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found: Vec<(PathBuf, FileText)> = fs::read_dir(dir)
        .expect("the folder of fixtures is there")
        .map(|entry| entry.expect("a folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| {
            let text = FileText {
                text: fs::read_to_string(&path).expect("a fixture is text"),
                path: path.file_name().expect("a fixture has a name").into(),
            };
            (path, text)
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn origin_of(config: &Config, key: &str) -> String {
    config
        .values
        .iter()
        .find(|value| value.key == key)
        .unwrap_or_else(|| panic!("{key} is not shown"))
        .origin
        .to_string()
}

#[test]
fn valid_files_load() {
    let (found, profiles) = (fixtures("valid"), files_in("profiles"));
    assert!(found.len() >= 3 && profiles.len() >= 2);
    for (path, file) in found.into_iter().chain(profiles) {
        let purpose = Purpose::Check;
        // An engine profile says nothing of roles: it is laid below a file, not given as one.
        let profile = path.file_stem().and_then(|stem| stem.to_str()?.parse::<Profile>().ok());
        let file = Some(file).filter(|_| profile.is_none());
        let loaded = Config::load(&Sources {
            purpose,
            profile,
            file,
            env: BTreeMap::new(),
            flags: Vec::new(),
            credentials: Vec::new(),
        });
        assert!(loaded.is_ok(), "{}:\n{}", path.display(), loaded.unwrap_err());
    }
}

#[test]
fn every_fault_of_an_invalid_file_is_reported_word_for_word() {
    let found = fixtures("invalid");
    assert!(found.len() >= 7);
    for (path, file) in found {
        let purpose = Purpose::Check;
        let loaded = Config::load(&Sources {
            purpose,
            profile: None,
            file: Some(file),
            env: BTreeMap::new(),
            flags: Vec::new(),
            credentials: Vec::new(),
        });
        let message = format!("{}\n", loaded.err().unwrap_or_else(|| panic!("{} is valid", path.display())));
        let expected = path.with_extension("txt");
        if std::env::var_os("ADIT_TEST_BLESS").is_some() {
            fs::write(&expected, &message).unwrap();
        }
        assert_eq!(message, fs::read_to_string(&expected).unwrap(), "{}", path.display());
    }
}

#[test]
fn later_sources_win_and_are_shown() {
    let file = "[engine]\ncores = 1\n\n[log]\nlevel = \"warn\"\n[edge]\ndrain_timeout_ms = 1\n[connect]\n";
    let layers = |file, env: &[_], flags: &[_]| {
        let mut all = sources(Purpose::Up, file, env, flags);
        all.flags.extend(complete());
        Config::load(&all).unwrap()
    };
    let none = layers("", &[], &[]);
    assert_eq!((none.engine.cores, origin_of(&none, "engine.cores").as_str()), (0, "default"));
    let some = layers(file, &[], &[]);
    assert_eq!((some.engine.cores, origin_of(&some, "engine.cores").as_str()), (1, "conf/adit.toml:2"));
    assert_eq!(origin_of(&some, "log.level"), "conf/adit.toml:5");
    let more = layers(file, &[("ADIT_ENGINE_CORES", "2"), ("ADIT_LOG", "debug"), ("ADIT_DRIVER", "epoll")], &[]);
    assert_eq!((more.engine.cores, origin_of(&more, "engine.cores").as_str()), (2, "ADIT_ENGINE_CORES"));
    assert_eq!((more.log.level.as_str(), more.engine.driver), ("debug", Driver::Epoll));
    let most = layers(file, &[("ADIT_ENGINE_CORES", "2")], &[("engine.cores", "3"), ("edge.drain_timeout_ms", "5s")]);
    assert_eq!((most.engine.cores, origin_of(&most, "engine.cores").as_str()), (3, "--cores"));
    assert_eq!(most.edge.as_ref().unwrap().drain_timeout_ms, Millis(5_000));
    assert_eq!(origin_of(&most, "edge.drain_timeout_ms"), "--set");
    assert_eq!(origin_of(&most, "edge.header_timeout_ms"), "default");
    // An empty variable is one that is not set.
    assert_eq!(layers(file, &[("ADIT_ENGINE_CORES", "")], &[]).engine.cores, 1);
}

/// What both roles demand, as flags.
fn complete() -> Vec<Flag> {
    [
        ("tunnel[0].id", "tnl_one"),
        ("tunnel[0].secret", SECRET),
        ("tunnel[0].hosts", "a.example.com"),
        ("connect.edge", "edge.example.com:7844"),
        ("connect.tunnel", "tnl_one"),
        ("connect.secret", SECRET),
        ("route", "a.example.com=http://127.0.0.1:9000"),
    ]
    .map(|(key, value)| Flag::new(key, value))
    .into()
}

/// Every setting that a variable can set takes its example from there, and the result is another configuration: nothing
/// in the table is read by nobody.
#[test]
fn every_setting_is_read() {
    let load = |env: &[(&str, &str)]| {
        let mut all = sources(Purpose::Up, "", env, &[]);
        // A pair of files and a range are only right together.
        all.flags = complete();
        for key in ["edge.agents_cert_file", "edge.agents_key_file"] {
            all.flags.push(Flag::new(key, "some.pem"));
        }
        for key in ["edge.connectors_cert_file", "edge.connectors_key_file"] {
            all.flags.push(Flag::new(key, "some.pem"));
        }
        for key in ["edge.connectors_ca_file", "edge.connectors_ca_key_file"] {
            all.flags.push(Flag::new(key, "some.pem"));
        }
        for key in ["edge.cloudflared_cert_file", "edge.cloudflared_key_file"] {
            all.flags.push(Flag::new(key, "some.pem"));
        }
        all.flags.push(Flag::new("approvals.webhook_url", "https://other.example.com"));
        all.flags.push(Flag::new("approvals.webhook_secret_file", "other.secret"));
        all.flags.push(Flag::new("otlp.endpoint", "https://other.example.com"));
        if env.iter().any(|(name, _)| name.starts_with("ADIT_CONNECT_SEAL_")) {
            for key in ["connect.seal_cert_file", "connect.seal_key_file"] {
                all.flags.push(Flag::new(key, "other.pem"));
            }
        }
        // The flag would win.
        let given: Vec<String> = config::settings()
            .filter(|s| s.env().is_some_and(|env_name| env.iter().any(|(name, _)| *name == env_name)))
            .map(|s| s.path())
            .collect();
        all.flags.retain(|flag| !given.contains(&flag.key));
        if given.iter().any(|key| key == "connect.secret_file") {
            all.flags.retain(|flag| flag.key != "connect.secret");
        }
        if given.iter().any(|key| key == "connect.token_file" || key == "connect.provisioning_key_file") {
            all.flags.retain(|flag| flag.key != "connect.secret" && flag.key != "connect.tunnel");
        }
        if given.iter().any(|key| key == "connect.provisioning_key_file" || key == "connect.traffic") {
            all.flags.push(Flag::new("connect.state_dir", "state"));
        }
        let config = Config::load(&all).unwrap_or_else(|faults| panic!("{env:?}: {faults}"));
        let Config { engine, edge, admission, connect, identity, approvals, audit, otlp, log, .. } = config;
        format!("{engine:?} {edge:?} {admission:?} {connect:?} {identity:?} {approvals:?} {audit:?} {otlp:?} {log:?}")
    };
    let plain = load(&[]);
    let mut tried = 0;
    for setting in config::settings() {
        let Some(env) = setting.env() else { continue };
        // Masked in what is compared, and tested below.
        if setting.secret || setting.path() == "connect.edge" {
            continue;
        }
        assert_ne!(load(&[(&env, setting.example)]), plain, "{env}={} changes nothing", setting.example);
        tried += 1;
    }
    assert!(tried > 35, "{tried}");
}

#[test]
fn every_default_holds_and_stands_in_the_table() {
    let mut all = sources(Purpose::Up, "", &[], &[]);
    all.flags = complete();
    let config = Config::load(&all).unwrap();
    for setting in config::settings().filter(|setting| setting.env().is_some()) {
        if let Preset::Value(_) | Preset::Unset = setting.preset
            && !setting.secret
            && setting.path() != "connect.tunnel"
        {
            assert_eq!(origin_of(&config, &setting.path()), "default");
        }
    }
    let edge = config.edge.unwrap();
    assert_eq!(edge.agents_listen.to_string(), "127.0.0.1:8443");
    assert_eq!(edge.drain_timeout_ms, Millis(30_000));
    assert_eq!(edge.first_byte_timeout_ms, Millis(120_000));
    assert_eq!(edge.offline_wait_ms, Millis(1_500));
    let connect = config.connect.unwrap();
    assert_eq!((connect.backoff_min_ms, connect.backoff_max_ms), (Millis(100), Millis(5_000)));
    assert_eq!(connect.admin_listen, None);
}

#[test]
fn each_command_demands_only_its_own_tables() {
    let load =
        |purpose, text: &str| Config::load(&sources(purpose, text, &[], &[])).map_err(|faults| faults.to_string());
    let edge = "[edge]\nconnectors_cert_file = \"c\"\nconnectors_key_file = \"k\"\n\
                [[tunnel]]\nid = \"t\"\nsecret_file = \"s\"\nhosts = \"a\"\n[connect]\nlinks = 2\n";
    let config = load(Purpose::Edge, edge).unwrap();
    assert!(config.edge.is_some() && config.connect.is_none());
    let faults = load(Purpose::Connect, edge).unwrap_err();
    assert!(faults.contains("connect.secret: missing") && !faults.contains("edge.agents"), "{faults}");
    // A wrong value is wrong, whoever reads it.
    assert!(load(Purpose::Edge, &format!("{edge}[[route]]\nidle_timeout_ms = true\n")).is_err());
    assert!(load(Purpose::Check, "").unwrap().edge.is_none());
}

#[test]
fn a_token_or_an_id_and_a_secret_and_the_highest_layer_counts() {
    let file = "[connect]\nedge = 'e:1'\ntunnel = 'tnl_file'\nsecret = 'a-secret-of-the-file'\n\
                [[route]]\nhost = 'a'\nupstream = 'http://127.0.0.1:1'\n";
    let token = "tnl_token:a-secret-of-a-token";
    let load = |text: &str, env: &[(&str, &str)], flags: &[(&str, &str)]| {
        Config::load(&sources(Purpose::Connect, text, env, flags)).map_err(|faults| faults.to_string())
    };
    let who = |config: &Config| {
        let token = credentials(config.connect.as_ref().unwrap()).unwrap();
        (token.id.to_string(), String::from_utf8(token.secret.expose().to_vec()).unwrap())
    };
    let of = |id: &str, secret: &str| (id.to_owned(), secret.to_owned());
    assert_eq!(who(&load(file, &[], &[]).unwrap()), of("tnl_file", "a-secret-of-the-file"));
    let by_env = load(file, &[("ADIT_TUNNEL_TOKEN", token)], &[]).unwrap();
    assert_eq!(who(&by_env), of("tnl_token", "a-secret-of-a-token"));
    let by_flag = load(file, &[("ADIT_TUNNEL_TOKEN", token)], &[("connect.secret", "a-secret-of-a-flag")]).unwrap();
    assert_eq!(who(&by_flag), of("tnl_file", "a-secret-of-a-flag"));

    let faults = load(file, &[], &[("connect.token", token), ("connect.tunnel", "tnl_x")]).unwrap_err();
    assert!(faults.contains("--id: connect.tunnel: a token names the tunnel already"), "{faults}");
    let both = [("connect.token", token), ("connect.secret_file", "x")];
    assert!(load(file, &[], &both).unwrap_err().contains("token and secret_file are both set"));
    let faults = load(file, &[], &[("connect.token", "no-token-but-long-enough")]).unwrap_err();
    assert!(faults.contains("a token is the tunnel's id, a colon") && !faults.contains("no-token"), "{faults}");
    let without_id = "[connect]\nedge = 'e:1'\nsecret = 'a-secret-of-the-file'\n\
                      [[route]]\nhost = 'a'\nupstream = 'http://127.0.0.1:1'\n";
    assert!(load(without_id, &[], &[]).unwrap_err().contains("connect.tunnel: missing"));

    // What systemd hands over counts where nothing else does.
    let with_credentials = |text: &str| {
        let mut all = sources(Purpose::Connect, text, &[], &[("connect.tunnel", "tnl_x")]);
        all.credentials = vec![("connect.secret_file", "/run/credentials/adit.secret".into())];
        Config::load(&all).unwrap().connect.unwrap()
    };
    let anonymous = "[connect]\nedge = 'e:1'\n[[route]]\nhost = 'a'\nupstream = 'http://127.0.0.1:1'\n";
    let handed = with_credentials(anonymous);
    assert_eq!(handed.secret_file.as_deref(), Some(Path::new("/run/credentials/adit.secret")));
    assert_eq!(with_credentials(file).secret_file, None);
}

#[test]
fn unknown_variables_are_refused_and_foreign_ones_left_alone() {
    let faults = check("", &[("ADIT_EDGE_AGENTS_LISTN", "x"), ("ADIT_ENGINE_DRIVER", "epoll"), ("ADIT_QQQ", "")], &[]);
    assert_eq!(
        faults.unwrap_err(),
        "ADIT_EDGE_AGENTS_LISTN: unknown variable, did you mean ADIT_EDGE_AGENTS_LISTEN?\n\
         ADIT_ENGINE_DRIVER: unknown variable, did you mean ADIT_DRIVER?\n\
         ADIT_QQQ: unknown variable"
    );
    let by_flag = [("ADIT_EDGE_LISTEN", "x"), ("ADIT_TOKEN", "x"), ("ADIT_ADMIN_TOKE", "x"), ("ADIT_CONNECT_ID", "x")];
    assert_eq!(
        check("", &by_flag, &[]).unwrap_err(),
        "ADIT_ADMIN_TOKE: unknown variable, did you mean ADIT_ADMIN_TOKEN?\n\
         ADIT_CONNECT_ID: unknown variable, did you mean ADIT_TUNNEL_ID?\n\
         ADIT_EDGE_LISTEN: unknown variable, did you mean ADIT_EDGE_AGENTS_LISTEN?\n\
         ADIT_TOKEN: unknown variable, did you mean ADIT_TUNNEL_TOKEN?"
    );
    let left_alone = [("ADIT_TEST_SEED", "1"), ("ADIT_CONFIG", "x.toml"), ("PATH", "/bin"), ("ADITX", "1")];
    assert!(check("", &left_alone, &[]).is_ok());
}

#[test]
fn variables_of_a_kubernetes_service_are_ignored_with_one_warning() {
    let service = [
        ("ADIT_EDGE_PORT", "tcp://10.96.0.7:7844"),
        ("ADIT_EDGE_PORT_7844_TCP", "tcp://10.96.0.7:7844"),
        ("ADIT_EDGE_PORT_7844_TCP_ADDR", "10.96.0.7"),
        ("ADIT_EDGE_PORT_7844_TCP_PORT", "7844"),
        ("ADIT_EDGE_PORT_7844_TCP_PROTO", "tcp"),
        ("ADIT_EDGE_SERVICE_HOST", "10.96.0.7"),
        ("ADIT_EDGE_SERVICE_PORT", "7844"),
        ("ADIT_EDGE_SERVICE_PORT_CONNECTORS", "7844"),
    ];
    let warnings = check("", &service, &[]).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("ADIT_EDGE_PORT and 7 more ignored: Kubernetes "), "{warnings:?}");
    let other = check("", &[("ADIT_EDGE_PORT", "7844")], &[]).unwrap_err();
    assert!(other.starts_with("ADIT_EDGE_PORT: unknown variable"), "{other}");
}

#[test]
fn a_variable_may_end_with_a_newline_as_a_file_may() {
    let run =
        |variables: &[(&str, &str)]| command(&["config", "show"]).envs(variables.iter().copied()).output().unwrap();
    let out = run(&[
        ("ADIT_LOG", "debug\n"),
        ("ADIT_CONNECT_EDGE", "edge.test:7844\r\n"),
        ("ADIT_TUNNEL_ID", "\u{feff}tnl_a\n"),
        ("ADIT_TUNNEL_SECRET", "0123456789abcdef\n"),
        ("ADIT_ROUTES", "a.test=unix:/a\n"),
    ]);
    let (page, faults) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert_eq!(faults, "");
    for line in [
        ["log.level", "debug", "ADIT_LOG"],
        ["connect.edge", "edge.test:7844", "ADIT_CONNECT_EDGE"],
        ["connect.tunnel", "tnl_a", "ADIT_TUNNEL_ID"],
        ["route[0].upstream", "unix:/a", "ADIT_ROUTES"],
    ] {
        assert!(page.lines().any(|shown| shown.split_whitespace().eq(line)), "{line:?} in {page}");
    }
    // The newline is no part of the secret.
    let out = run(&[("ADIT_TUNNEL_SECRET", "0123456789abcde\n")]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("this one has 15"));
}

#[test]
fn a_wrong_secret_is_reported_with_its_source() {
    let tunnel = "[[tunnel]]\nid = 't'\nhosts = 'a'\nsecret = 'short'\n";
    for (file, flags, advice) in [
        ("", [("connect.token", "x")].as_slice(), "`adit tunnel create` and `adit tunnel rotate` print a token"),
        ("", &[("connect.provisioning_key", "x")], "`adit tunnel key create` prints a provisioning key"),
        ("", &[("connect.secret", "x")], "it is the secret that the edge has for the tunnel"),
        (tunnel, &[], "`openssl rand -hex 32` makes one"),
    ] {
        let faults = check(file, &[], flags).unwrap_err();
        let line =
            faults.lines().find(|line| line.contains("has 16 to 256 bytes")).unwrap_or_else(|| panic!("{faults}"));
        assert!(line.ends_with(advice), "{line}");
    }
}

#[test]
fn faults_of_all_layers_come_together() {
    let faults = check(
        "[engine]\ncores = -1\n",
        &[("ADIT_EDGE_DRAIN_TIMEOUT_MS", "soon"), ("ADIT_ROUTES", "nothing")],
        &[("log.level", "loud"), ("log.format", "text"), ("log.format", "json"), ("route[x].host", "a")],
    );
    let message = faults.unwrap_err();
    let places = [
        "conf/adit.toml:2: engine.cores: ",
        "ADIT_EDGE_DRAIN_TIMEOUT_MS: edge.drain_timeout_ms: ",
        "ADIT_ROUTES: route: \"nothing\" is not HOST=URL",
        "--log-format: log.format: already given by --log-format",
        "--log-level: log.level: \"loud\" is not one of ",
        "--set: route[x].host: unknown key",
    ];
    for place in places {
        assert!(message.contains(place), "{place} is not in\n{message}");
    }
}

#[test]
fn routes_of_a_higher_layer_take_the_place_of_the_lower() {
    let file = "[connect]\nedge = \"e:1\"\ntunnel = \"t\"\nsecret_file = \"s\"\n\
                [[route]]\nhost = \"a\"\nupstream = \"http://a\"\nconnect_timeout_ms = 7\n[[route]]\nhost = \"b\"\nupstream = \"http://b\"\n";
    let hosts = |env: &[_], flags: &[_]| {
        let routes = check(file, env, flags).unwrap().connect.unwrap().routes;
        routes.iter().map(|route| format!("{} {}", route.host, route.connect_timeout_ms.0)).collect::<Vec<_>>()
    };
    assert_eq!(hosts(&[], &[]), ["a 7", "b 5000"]);
    assert_eq!(hosts(&[("ADIT_ROUTES", "c=http://c, d=unix:/d")], &[]), ["c 5000", "d 5000"]);
    let flags = [("route", "e=http://e"), ("route", "f=https://f")];
    assert_eq!(hosts(&[("ADIT_ROUTES", "c=http://c")], &flags), ["e 5000", "f 5000"]);
}

#[test]
fn a_secret_in_a_higher_layer_takes_the_place_of_a_file_in_a_lower() {
    let file = "[connect]\nedge = \"e:1\"\ntunnel = \"t\"\nsecret_file = \"s\"\n[[route]]\nhost = \"a\"\nupstream = \"http://a\"\n";
    let config = check(file, &[("ADIT_TUNNEL_SECRET", SECRET)], &[]).unwrap();
    let connect = config.connect.unwrap();
    assert!(connect.secret.is_some() && connect.secret_file.is_none());
    assert_eq!(connect.secret_source().unwrap().read().unwrap().expose(), SECRET.as_bytes());
    let both = check(file, &[("ADIT_TUNNEL_SECRET", SECRET)], &[("connect.secret_file", "other")]).unwrap();
    assert_eq!(both.connect.unwrap().secret_file, Some(PathBuf::from("other")));
}

#[test]
fn a_secret_is_never_shown() {
    let file = format!(
        "[[tunnel]]\nid = \"t\"\nsecret = \"{SECRET}\"\nhosts = \"a\"\n[edge]\nconnectors_cert_file = \"c\"\nconnectors_key_file = \"k\"\n"
    );
    let flags = [("connect.secret", SECRET), ("connect.edge", "e:1"), ("connect.tunnel", "t"), ("route", "a=http://a")];
    let config = check(&file, &[], &flags).unwrap();
    let shown = [config.show(), config.show_json().to_string(), format!("{config:?}"), config.warnings.join("\n")];
    for text in &shown {
        assert!(!text.contains(SECRET), "{text}");
    }
    assert_eq!(shown[0].matches(MASK).count(), 2, "{}", shown[0]);
    assert!(config.warnings[0].starts_with("--secret: connect.secret: "), "{:?}", config.warnings);
    assert_eq!(config.warnings.len(), 1, "a secret in a file is no reason to warn");
    let mut by_set = sources(Purpose::Connect, "", &[], &flags);
    by_set.flags.iter_mut().for_each(|flag| flag.name = "--set".to_owned());
    assert!(Config::load(&by_set).unwrap().warnings[0].starts_with("--set: connect.secret: "));

    for (path, file) in fixtures("invalid") {
        let purpose = Purpose::Check;
        let faults = Config::load(&Sources {
            purpose,
            profile: None,
            file: Some(file),
            env: BTreeMap::new(),
            flags: Vec::new(),
            credentials: Vec::new(),
        });
        let (shown, debug) = faults.map_err(|faults| (faults.to_string(), format!("{faults:?}"))).unwrap_err();
        assert!(!shown.contains("hunter2") && !debug.contains("hunter2"), "{}:\n{shown}", path.display());
    }
    let faults = check("", &[("ADIT_TUNNEL_SECRET", "hunter2")], &[("connect.secret_file", "")]).unwrap_err();
    assert!(!faults.contains("hunter2"), "{faults}");
}

#[test]
fn paths_count_from_the_folder_of_the_file_or_from_where_one_stands() {
    let file = "[connect]\nedge = \"e:1\"\ntunnel = \"t\"\nsecret_file = \"s\"\nedge_ca_file = \"/ca\"\n\
                [[route]]\nhost = \"a\"\nupstream = \"http://a\"\n";
    let connect = |flags: &[_]| check(file, &[], flags).unwrap().connect.unwrap();
    assert_eq!(connect(&[]).secret_file, Some(PathBuf::from("conf/s")));
    assert_eq!(connect(&[]).edge_ca_file, Some(PathBuf::from("/ca")));
    assert_eq!(connect(&[("connect.secret_file", "s")]).secret_file, Some(PathBuf::from("s")));
}

/// The tables all of whose settings a reload changes.
const LIVE: [&str; 12] = [
    "tunnel",
    "host",
    "tool",
    "route",
    "admission",
    "network_set",
    "identity",
    "identity_provider",
    "client_authority",
    "edge_authority",
    "token_exchange",
    "trusted_edge",
];

#[test]
fn a_reload_is_enough_for_tunnels_routes_admission_and_log_levels_only() {
    let (_, edge) = fixtures("valid").into_iter().find(|(path, _)| path.ends_with("edge.toml")).unwrap();
    let load = |change: fn(String) -> String| check(&change(edge.text.clone()), &[], &[]).unwrap();
    let old = load(|text| text);
    let live = load(|text| text.replace("tnl_two", "tnl_three").replace("0001", "0009").replace("info,", "warn,"));
    assert_eq!(Config::restart_needed(&old, &live), Vec::<String>::new());
    let more = load(|text| {
        text.replace("cores = 2", "cores = 1").replace("slow_call_ms = \"250ms\"", "").replace("json", "text")
    });
    assert_eq!(Config::restart_needed(&old, &more), ["engine.cores", "log.format", "edge.slow_call_ms"]);
    assert_eq!(Config::restart_needed(&old, &check("", &[], &[]).unwrap()).last().unwrap(), "edge");
    for setting in config::settings() {
        let live = LIVE.contains(&setting.section)
            || [
                "log.level",
                "connect.allowed_upstreams",
                "connect.breaker",
                "connect.breaker_calls_min",
                "connect.breaker_failed_percent",
                "connect.breaker_open_ms",
                "connect.breaker_slow_percent",
                "connect.concurrency_limit",
                "connect.concurrency_min",
                "connect.concurrency_max",
                "connect.concurrency_queue_max",
                "connect.concurrency_queue_ms",
                "connect.agent_share_percent",
                "connect.deadline",
                "connect.deadline_floor_ms",
                "connect.first_byte_timeout_ms",
                "connect.progress_max_ms",
                "connect.traffic",
                "connect.seal_cert_file",
                "connect.seal_key_file",
                "connect.http2",
            ]
            .contains(&setting.path().as_str());
        assert_eq!(setting.reload == Reload::Live, live, "{}", setting.path());
    }
}

#[test]
fn the_page_of_settings_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIG.md");
    let page = fs::read_to_string(path).unwrap_or_default();
    assert!(page == config::markdown(), "docs/CONFIG.md is out of date: cargo run -- config docs > docs/CONFIG.md");
}

#[test]
fn no_input_panics() {
    let mut rng = adit::base::Rng::new(7);
    let texts: Vec<String> =
        fixtures("valid").into_iter().chain(fixtures("invalid")).map(|(_, file)| file.text).collect();
    for _ in 0..2_000 {
        let mut bytes = texts[rng.below(texts.len() as u64) as usize].clone().into_bytes();
        for _ in 0..=rng.below(4) {
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(3) {
                0 => bytes[at] = rng.below(128) as u8,
                1 => _ = bytes.remove(at),
                _ => bytes.insert(at, b"\"[]{}=.,#\n0-"[rng.below(12) as usize]),
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Err(faults) = Config::load(&sources(Purpose::Check, &text, &[], &[])) {
            assert!(
                !faults.all().is_empty() && faults.all().iter().all(|fault| !matches!(fault.origin, Origin::Env(_)))
            );
        }
    }
}
