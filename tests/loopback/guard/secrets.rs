//! No secret comes out anywhere: every word that the program says in these runs is searched for those that it was given.

use std::fs::{self, File};
use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use adit::private;
use adit::tls::{ALPN_HTTP1, Authority, Roots};
use flate2::read::GzDecoder;
use rustls::pki_types::UnixTime;

use super::site::{LOCALHOST, ask, dial, serve, text, tls_client};
use crate::process::{PATIENCE, command};

const SECRET: &str = "a-secret-that-nobody-may-ever-see-4711";
const WRONG: &str = "another-secret-that-nobody-may-see-0815";
const SHORT: &str = "hunter2-short";
/// What an agent sends for the upstream's eyes.
const TOKEN: &str = "Bearer-token-of-an-agent-2026";
const BODY: &str = "what-an-agent-says-to-a-tool";

/// Where everything lies, and the output of all programs.
struct Runs {
    dir: tempfile::TempDir,
    /// Every piece of output, by its source.
    output: Vec<(String, String)>,
    running: Vec<(Child, PathBuf)>,
}

impl Runs {
    fn path(&self, name: &str) -> String {
        text(&self.dir.path().join(name))
    }

    /// Runs a command to its end.
    fn run(&mut self, what: &str, mut command: Command) {
        let out = command.output().expect("it runs");
        let all = [out.stdout, out.stderr].concat();
        self.output.push((what.to_owned(), String::from_utf8_lossy(&all).into_owned()));
    }

    /// Starts a role, whose output goes to a file, and waits until that holds this word.
    fn start(&mut self, what: &str, mut command: Command, until: &str) {
        let file = self.dir.path().join(format!("{what}.output"));
        let out = File::create(&file).expect("a file");
        command.stdout(out.try_clone().expect("shared")).stderr(out);
        let child = command.spawn().expect("it starts");
        let argv = fs::read(format!("/proc/{}/cmdline", child.id())).unwrap_or_default();
        self.output.push((format!("the command line of {what}"), String::from_utf8_lossy(&argv).into_owned()));
        self.running.push((child, file.clone()));
        let began = Instant::now();
        while !fs::read_to_string(&file).expect("text").contains(until) {
            assert!(began.elapsed() < PATIENCE, "{what} does not say {until}");
            std::thread::yield_now();
        }
    }

    /// The value of a key that a role announced.
    fn announced(&self, what: &str, key: &str) -> String {
        let stated = fs::read_to_string(self.dir.path().join(format!("{what}.output"))).expect("text");
        let mut lines = stated.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.find_map(|line| line[key].as_str().map(str::to_owned)).unwrap_or_else(|| panic!("no {key} in {stated}"))
    }

    /// Ends what runs, and gathers all output.
    fn end(mut self) -> Vec<(String, String)> {
        for (mut child, file) in std::mem::take(&mut self.running) {
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            let _ = child.wait();
            let mut log = String::new();
            File::open(&file).and_then(|mut file| file.read_to_string(&mut log)).expect("text");
            assert!(log.contains(" INFO "), "{} has too little output", file.display());
            self.output.push((text(&file), log));
        }
        self.output
    }
}

/// The forms in which a secret might slip out.
fn forms(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let decimal = secret.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    vec![secret.to_owned(), base64(secret.as_bytes()), hex, decimal]
}

/// As in RFC 4648 section 4, less what depends on the last bytes.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks_exact(3) {
        let group = u32::from_be_bytes([0, chunk[0], chunk[1], chunk[2]]);
        out.extend([18, 12, 6, 0].map(|shift| LETTERS[(group >> shift & 63) as usize] as char));
    }
    out
}

fn write_files(dir: &Path, upstream: &str) -> Vec<String> {
    let authority = Authority::new("test", UnixTime::now(), 1).expect("an authority");
    let issued = authority.issue(&["localhost", "one.test"]).expect("a certificate");
    private::write(&dir.join("edge.key"), issued.key_pem.expose()).expect("written");
    fs::write(dir.join("edge.crt"), issued.cert_pem).expect("written");
    fs::write(dir.join("ca.pem"), authority.cert_pem()).expect("written");
    private::write(&dir.join("secret"), SECRET.as_bytes()).expect("written");
    private::write(&dir.join("wrong"), WRONG.as_bytes()).expect("written");
    private::write(&dir.join("short"), SHORT.as_bytes()).expect("written");
    let edge = "[engine]\ncores = 1\npin = false\n[edge]\nagents_listen = \"127.0.0.1:0\"\n\
                connectors_listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nagents_cert_file = \"edge.crt\"\n\
                agents_key_file = \"edge.key\"\nconnectors_cert_file = \"edge.crt\"\nconnectors_key_file = \"edge.key\"\n\
                slow_call_ms = 1\n[[tunnel]]\nid = \"tnl_one\"\nhosts = \"one.test\"\n";
    private::write(&dir.join("edge.toml"), format!("{edge}secret = \"{SECRET}\"\n").as_bytes()).expect("written");
    let broken = format!("{edge}secret = \"{SECRET}\"\nsecret_file = \"secret\"\n[edge\nx = \"{SECRET}\"\n");
    private::write(&dir.join("broken.toml"), broken.as_bytes()).expect("written");
    let twice = format!("{edge}secret = \"{SECRET}\"\nsecret_file = \"secret\"\n");
    private::write(&dir.join("twice.toml"), twice.as_bytes()).expect("written");
    let connect = format!(
        "[engine]\ncores = 1\npin = false\n[connect]\nedge = \"EDGE\"\nedge_name = \"localhost\"\ntunnel = \"tnl_one\"\n\
         edge_ca_file = \"ca.pem\"\nbackoff_max_ms = 200\nadmin_listen = \"127.0.0.1:0\"\n\
         [[route]]\nhost = \"one.test\"\nupstream = \"{upstream}\"\n"
    );
    fs::write(dir.join("connect.toml"), connect).expect("written");
    let pem = String::from_utf8(issued.key_pem.expose().to_vec()).expect("PEM");
    pem.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned).collect()
}

#[test]
fn no_secret_is_ever_printed() {
    // Slow enough for the log of slow calls, however fast the machine is.
    let upstream = serve(|_| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(5) {
            std::thread::yield_now();
        }
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
    });
    let mut runs = Runs { dir: tempfile::tempdir().unwrap(), output: Vec::new(), running: Vec::new() };
    let key_lines = write_files(runs.dir.path(), &format!("http://{upstream}"));

    // Roles that run, with all that they can be made to say.
    let all = ["--json", "--log-level", "trace"];
    runs.start("edge", command(&[&["edge", "--config", &runs.path("edge.toml")][..], &all].concat()), "\"listening\"");
    let edge = runs.announced("edge", "connectors");
    let config = fs::read_to_string(runs.path("connect.toml")).unwrap().replace("EDGE", &edge);
    fs::write(runs.path("connect.toml"), config).unwrap();
    let connect_file = runs.path("connect.toml");
    let connect = [&["connect", "--config", &connect_file][..], &all].concat();
    let with_file = |name: &str| {
        let mut command = command(&connect);
        command.env("ADIT_TUNNEL_SECRET_FILE", runs.path(name));
        command
    };
    let (good, wrong) = (with_file("secret"), with_file("wrong"));
    runs.start("connect", good, "\"linked\"");
    runs.start("guesser", wrong, "\"no_link\"");
    let mut by_env = command(&connect);
    by_env.env("ADIT_TUNNEL_SECRET", SECRET);
    runs.start("connect-by-env", by_env, "\"linked\"");

    // A call whose credentials and body are the upstream's alone, and one that is refused.
    let agents = runs.announced("edge", "agents").parse().unwrap();
    for host in ["one.test", "other.test"] {
        let request = format!(
            "POST /mcp?token={TOKEN} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\nCookie: s={TOKEN}\r\n\
             Content-Length: {}\r\n\r\n{BODY}",
            BODY.len()
        );
        let mut roots = Roots::new();
        roots.add_pem("ca.pem", &fs::read(runs.path("ca.pem")).unwrap()).unwrap();
        let mut agent =
            tls_client(roots, dial(agents, LOCALHOST).unwrap(), "one.test", b"", ALPN_HTTP1).expect("a handshake");
        let answer = ask(&mut agent, &request).unwrap();
        assert_eq!(answer.starts_with("HTTP/1.1 200 "), host == "one.test", "{answer}");
        runs.output.push((format!("the answer for {host}"), answer));
    }
    for role in ["edge", "connect"] {
        let admin = runs.announced(role, "admin");
        for path in
            ["/metrics", "/v1/status", "/v1/latency", "/v1/calls?limit=1000", "/v1/tasks", "/healthz", "/readyz"]
        {
            let mut socket = TcpStream::connect(admin.trim_start_matches("http://")).unwrap();
            let get = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            runs.output.push((format!("{path} of {role}"), ask(&mut socket, &get).unwrap()));
        }
    }

    // The support bundle of each role.
    for (role, file) in [("edge", "edge.toml"), ("connect", "connect.toml")] {
        let output = runs.path(&format!("{role}.tar.gz"));
        let admin = format!("http://{}", runs.announced(role, "admin").trim_start_matches("http://"));
        let args = ["support-bundle", "--config", &runs.path(file), "--admin", &admin, "--output", &output];
        let mut bundle = command(&args);
        if role == "connect" {
            bundle.env("ADIT_TUNNEL_SECRET", SECRET);
        }
        runs.run(&format!("the bundle of {role}"), bundle);
        let mut archive = tar::Archive::new(GzDecoder::new(File::open(&output).expect("an archive")));
        for entry in archive.entries().expect("entries") {
            let mut entry = entry.expect("an entry");
            let name = format!("{} in the bundle of {role}", entry.path().expect("a path").display());
            let mut content = String::new();
            entry.read_to_string(&mut content).expect("text");
            runs.output.push((name, content));
        }
    }
    let bundled = |part: &str, word: &str| {
        runs.output
            .iter()
            .any(|(source, text)| source.starts_with(part) && source.ends_with("edge") && text.contains(word))
    };
    assert!(
        bundled("adit-support/failed-calls.json", "unknown_host") && bundled("adit-support/status.json", "tnl_one")
    );
    assert!(bundled("adit-support/config.txt", "tunnel[0].secret") && bundled("adit-support/doctor.txt", "config"));

    // Commands that end by themselves, most of them because something is wrong.
    for file in ["edge.toml", "broken.toml", "twice.toml", "connect.toml"] {
        for args in [&["config", "show"][..], &["config", "show", "--json"], &["config", "check"], &["doctor"]] {
            let mut command = command(&[args, &["--config", &runs.path(file)]].concat());
            command.env("ADIT_TUNNEL_SECRET", SECRET);
            runs.run(&format!("{args:?} of {file}"), command);
        }
    }
    for (variable, value) in
        [("ADIT_TUNNEL_SECRET", SHORT), ("ADIT_TUNNEL_SECRETT", SECRET), ("ADIT_CONNECT_SECRET", SECRET)]
    {
        let mut command = command(&["config", "check", "--config", &runs.path("connect.toml")]);
        command.env(variable, value);
        runs.run(variable, command);
    }
    for (name, set) in
        [("short", "connect.secret_file"), ("edge.key", "connect.secret_file"), ("secret", "edge.agents_key_file")]
    {
        let value = format!("{set}={}", runs.path(name));
        let args = ["config", "check", "--config", &runs.path("edge.toml"), "--set", &value];
        runs.run(&format!("{name} as {set}"), command(&args));
    }
    let mut once = command(&["up", "--once", "--log-level", "trace"]);
    once.env("ADIT_TUNNEL_SECRET", SECRET);
    runs.run("up --once", once);

    let output = runs.end();
    assert!(output.len() > 50, "{} pieces of output", output.len());
    assert!(output.iter().any(|(source, text)| source.ends_with("edge.output") && text.contains("slow call")));
    let secrets = [SECRET, WRONG, SHORT, TOKEN, BODY].into_iter().flat_map(forms).chain(key_lines);
    for secret in secrets {
        for (source, text) in &output {
            assert!(!text.contains(&secret), "{source} contains {secret}");
        }
    }
}
