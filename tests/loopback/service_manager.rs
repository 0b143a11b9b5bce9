//! A service manager, such as systemd with `Type=notify`, is told when a role is ready, reloads and ends, and its watchdog is
//! pinged.

use std::os::unix::net::UnixDatagram;

use crate::process::{Adit, PATIENCE, command};

/// The socket of a service manager, as a service finds it.
struct ServiceManager {
    socket: UnixDatagram,
    dir: tempfile::TempDir,
}

impl ServiceManager {
    fn new() -> ServiceManager {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        ServiceManager { socket, dir }
    }

    fn start(&self, args: &[&str]) -> Adit {
        let mut command = command(args);
        command.env("NOTIFY_SOCKET", self.dir.path().join("notify")).env("WATCHDOG_USEC", "2000000");
        Adit::of(command)
    }

    /// Passes over messages until one that begins like this.
    fn expect(&self, start: &str) -> String {
        let mut buffer = [0; 1024];
        loop {
            let len = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no message {start}: {error}"));
            let message = str::from_utf8(&buffer[..len]).unwrap();
            if message.starts_with(start) {
                return message.to_owned();
            }
        }
    }
}

#[test]
fn a_service_manager_is_told_of_start_reload_and_end_of_each_role() {
    let manager = ServiceManager::new();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let init = command(&["edge", "init", "--data-dir", &data, "--name", "localhost"]).output().unwrap();
    assert!(init.status.success(), "{init:?}");
    let anywhere = ["--listen", "127.0.0.1:0", "--connectors-listen", "127.0.0.1:0", "--admin", "off"];
    let edge = [&["edge", "--data-dir", &data], &anywhere[..]].concat();
    // Nothing answers at that port: a connector is ready all the same, and goes on dialling.
    let nowhere = ["connect", "--edge", "127.0.0.1:1", "--id", "tnl_a", "--route", "a.test=http://127.0.0.1:1"];
    let secret = dir.path().join("secret");
    adit::private::write(&secret, b"0123456789abcdef0123456789abcdef").unwrap();
    let connector = [&nowhere[..], &["--secret-file", secret.to_str().unwrap()]].concat();
    for (args, status) in [(edge, "STATUS=edge: 0 links"), (connector, "STATUS=connector: 0 links")] {
        let adit = manager.start(&args);
        manager.expect("READY=1");
        manager.expect("WATCHDOG=1");
        manager.expect(status);
        manager.expect("WATCHDOG=1");
        adit.signal("HUP");
        manager.expect("RELOADING=1\nMONOTONIC_USEC=");
        manager.expect("READY=1");
        adit.signal("TERM");
        manager.expect("STOPPING=1");
        assert_eq!(adit.ended(), Some(0), "{args:?}");
    }
}
