//! Commands that stand in errors and in the log are run as they are printed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::hosts::Log;
use super::printed::{commands, value_of};
use super::shell::{Shell, quoted_command};
use super::site::text_of;
use super::{private_write, start_refused};
use crate::process::Adit;

#[test]
fn a_data_directory_that_is_missing_or_half_there_is_made() {
    let parent = tempfile::tempdir().unwrap();
    let (operator, dir) = (Shell::new(), parent.path().join("an operator's data"));
    let message = start_refused(&dir);
    operator.run(quoted_command(&message), "");
    let run = format!("exec adit edge --json --data-dir \"{}\" --listen 127.0.0.1:0", text_of(&dir));
    let start = || {
        let mut edge = operator.command(&run);
        edge.env("ADIT_EDGE_CONNECTORS_LISTEN", "127.0.0.1:0").env("ADIT_EDGE_ADMIN_LISTEN", "127.0.0.1:0");
        Adit::of(edge)
    };
    start().event("listening");

    for (lost, left) in [("ca.pem", Some("ca.key")), ("edge.key", Some("edge.pem")), ("admin.token", None)] {
        let init = format!("adit edge init --data-dir \"{}\"", text_of(&dir));
        match left {
            Some(left) => {
                fs::remove_file(dir.join(lost)).unwrap();
                let message = operator.refused(&init);
                // The first file is moved away, as it says.
                fs::remove_file(dir.join(left)).unwrap();
                operator.run(quoted_command(&message), "");
            }
            None => {
                private_write(&dir.join(lost), "");
                let message = operator.refused(&format!("adit tunnel list --data-dir \"{}\"", text_of(&dir)));
                fs::remove_file(dir.join(lost)).unwrap();
                operator.run(quoted_command(&message), "");
            }
        }
        start().event("listening");
    }
}

#[test]
fn files_that_others_may_read_are_closed_to_them() {
    let (_parent, site, flags) = super::printed::site();
    let operator = Shell::new();
    let list = format!("adit tunnel list {flags}");
    fs::set_permissions(site.data_dir().join("admin.token"), fs::Permissions::from_mode(0o644)).unwrap();
    operator.run(quoted_command(&operator.refused(&list)), "");
    fs::set_permissions(site.data_dir(), fs::Permissions::from_mode(0o777)).unwrap();
    operator.run(quoted_command(&operator.refused(&list)), "");
    operator.run(&list, "");
}

#[test]
fn a_store_that_is_held_or_half_restored_or_has_no_back_up() {
    let (_parent, mut site, flags) = super::printed::site();
    let operator = Shell::new();
    let data_dir = format!("--data-dir \"{}\"", text_of(&site.data_dir()));
    let store = site.data_dir().join("store.sqlite");
    let made = site.create(&["--host", "a.test"]);
    let backup = operator.path("an operator's copy");
    operator.run(&format!("adit edge backup {data_dir} --to \"{}\"", text_of(&backup)), "");

    let holder = rusqlite::Connection::open(&store).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let message = operator.refused(&format!("adit tunnel create {flags} --host b.test"));
    let holders = operator.run(quoted_command(&message), "");
    assert!(holders.split_whitespace().any(|id| id == std::process::id().to_string()), "{holders}");
    holder.execute_batch("ROLLBACK").unwrap();
    drop(holder);
    site.end_edge();

    // Cut off before its last move.
    operator.run(&format!("adit edge backup {data_dir}"), "");
    fs::copy(&store, site.data_dir().join("store.sqlite.restored-20270115T080000Z")).unwrap();
    fs::rename(&store, site.data_dir().join("store.sqlite.replaced-20270115T080000Z")).unwrap();
    let message = operator.refused(&format!("adit edge backup {data_dir}"));
    operator.run(quoted_command(&message), "");
    site.run_edge("auto");
    assert_eq!(site.show(&made.tunnel.id).id, made.tunnel.id);
    site.end_edge();

    fs::remove_dir_all(site.data_dir().join("backups")).unwrap();
    let mut bytes = fs::read(&store).unwrap();
    bytes[4096..].fill(0);
    fs::write(&store, &bytes).unwrap();
    let message = start_refused(&site.data_dir());
    let command = quoted_command(&message).replace("FILE", &format!("\"{}\"", text_of(&backup)));
    operator.run(&command, "");
    site.run_edge("auto");
    assert_eq!(site.show(&made.tunnel.id).id, made.tunnel.id);
}

#[test]
fn restored_credentials_are_revoked() {
    let (_parent, mut site, _) = super::printed::site();
    let operator = Shell::new();
    let data_dir = format!("--data-dir \"{}\"", text_of(&site.data_dir()));
    let [archived, sealed] = ["a.test", "b.test"].map(|host| site.create(&["--host", host]).tunnel.id);
    let authority = adit::tls::Authority::new("a connector", UnixTime::now(), 1).unwrap();
    let pem = operator.path("seal-ca.pem");
    fs::write(&pem, authority.cert_pem()).unwrap();
    let certificate: adit::control::bodies::CertificateInfo = site.tunnel(&["cert", "add", &sealed, text_of(&pem)]);
    let key = site.create_key(&["--uses", "1"]);
    let backup = operator.run(&format!("adit edge backup {data_dir}"), "");
    site.run_tunnel(&["archive", &archived]);
    site.run_tunnel(&["cert", "archive", &sealed, &certificate.id]);
    site.run_tunnel(&["key", "revoke", &key.key.id]);
    site.end_edge();
    let message = operator.run(&format!("adit edge restore {data_dir} --from \"{}\"", backup.trim()), "");
    let lines = commands(&message);
    assert_eq!(lines.len(), 4, "{message}");
    site.run_edge("auto");
    // The admin listener has any free port here.
    lines[..3].iter().for_each(|line| drop(operator.run(&format!("ADIT_ADMIN_URL={} {line}", site.admin), "")));
    assert!(site.show(&archived).archived_at.is_some());
    assert_eq!(site.show(&sealed).certificates_active, 0);
    assert!(!site.keys()[0].good);
}

#[test]
fn the_authority_that_the_log_of_a_connector_names_is_registered() {
    let (_parent, site, flags) = super::printed::site();
    let (operator, connector) = (Shell::new(), Shell::new());
    let message = operator.run(&format!("adit tunnel create {flags} --host a.test --traffic resealed"), "");
    let lines = commands(&message);
    connector.run(&lines[0], value_of(&message, "token"));
    let mut running = connector.command(&format!("exec {}", super::printed::upstream_of(&site, &lines[1])));
    running.stderr(Stdio::piped());
    let mut running = Adit::of(running);
    let line = Log::of(running.take_log()).line(&["register it there"]);
    site.until_linked(value_of(&message, "id"));
    fs::copy(connector.path("adit-state/seal-ca.pem"), operator.path("seal-ca.pem")).unwrap();
    operator.run_at(&site, quoted_command(&line));
    assert_eq!(site.call("a.test", "echo").0, 200);
}

#[test]
fn a_secret_and_a_key_without_a_passphrase_are_made_with_openssl() {
    let shell = Shell::new();
    let tunnel = |secret: &str| format!("[[tunnel]]\nid = 'tnl_a'\nhosts = 'a.test'\nsecret = '{}'\n", secret.trim());
    let edge =
        "[edge]\nagents_listen = '127.0.0.1:0'\nconnectors_cert_file = 'cert.pem'\nconnectors_key_file = 'key.pem'\n";
    let check = "adit config check --config adit.toml";
    private_write(&shell.path("adit.toml"), &format!("{edge}{}", tunnel("short")));
    let secret = shell.run(quoted_command(&shell.refused(check)), "");
    private_write(&shell.path("adit.toml"), &format!("{edge}{}", tunnel(&secret)));

    let authority = adit::tls::Authority::new("an edge", UnixTime::now(), 1).unwrap();
    let issued = authority.issue(&["edge.test"]).unwrap();
    fs::write(shell.path("cert.pem"), issued.cert_pem).unwrap();
    adit::private::write(&shell.path("plain.pem"), issued.key_pem.expose()).unwrap();
    let passphrase = "-passout pass:a-passphrase";
    shell.run(&format!("openssl pkcs8 -topk8 -in plain.pem -out \"an operator's.pem\" {passphrase}"), "");
    let start = "adit edge --config adit.toml --admin off --connectors-listen 127.0.0.1:0 --driver epoll --cores 1";
    let message = shell.refused(&format!("{start} --connectors-key-file \"an operator's.pem\""));
    let decrypt = quoted_command(&message);
    // The passphrase is typed where there is a terminal.
    shell.run(&format!("{decrypt} -passin stdin"), "a-passphrase\n");
    let printed = shell.run("openssl x509 -fingerprint -sha256 -noout -in cert.pem", "");
    let der = CertificateDer::pem_file_iter(shell.path("cert.pem")).unwrap().next().unwrap().unwrap();
    let of_file = adit::tls::Fingerprint::of(&der);
    assert_eq!(printed.trim().rsplit('=').next().unwrap().parse(), Ok(of_file));
    let running = shell.start(&format!("{start} --json"));
    running.event("listening");
}
