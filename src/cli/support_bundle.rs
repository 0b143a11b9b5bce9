//! `adit support-bundle`: one archive with what support needs, without secrets.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::json;

use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::error_pages::{FILES, line};
use crate::cli::output::print;
use crate::cli::run::{EXIT_FAILURE, RunError, on_control_thread};
use crate::cli::support_bundle_args::SupportBundleArgs;
use crate::cli::version::version;
use crate::config::{ADMIN_URL_ENV, Config, Purpose};
use crate::control::WallTime;
use crate::control::bodies::{CallsBody, LatencyBody, StatusBody};
use crate::process::doctor::{DoctorOptions, examine};

/// The folder in the archive.
const FOLDER: &str = "adit-support";
/// How many of the last failed calls are asked for.
const CALLS_ASKED: usize = 200;
/// The archive is for its owner, who decides who gets it.
const FILE_MODE: u32 = 0o600;
/// What comes first in the archive.
const README: &str = "\
Made by `adit support-bundle`. It contains no secrets: passwords, tokens and keys are masked in the configuration, and calls have
neither bodies nor credentials. It does contain host names, addresses, names of tools, and settings. Look through it before you
hand it on.

version.txt       the version of this program
system.txt        the kernel and the limits of this process
config.txt        every setting and where it came from, masked
doctor.txt        what `adit doctor` found
status.json       links, upstreams, certificates, breakers and limits of the running process
latency.json      the times of calls by route, method and tool
failed-calls.json the last calls that failed, and where they stopped

A part that could not be had is a file that ends with .error.txt.
";

/// A file of the archive.
struct Part {
    name: String,
    content: String,
}

/// Runs `adit support-bundle` and returns the exit code.
#[must_use]
pub fn run_support_bundle(args: &SupportBundleArgs, env: &BTreeMap<String, String>) -> u8 {
    on_control_thread(async {
        let parts = gather(args, env).await;
        if let Err(error) = write_archive(&args.output, &parts, WallTime::now()) {
            let file = args.output.display();
            eprintln!("{file} cannot be written: {error}; choose another with --output{}", line(FILES));
            return Ok::<u8, RunError>(EXIT_FAILURE);
        }
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        print(&if args.json {
            format!("{:#}\n", json!({ "file": args.output, "parts": names }))
        } else {
            format!(
                "{} was written, with {}.\nIt contains host names and addresses, and no secrets: look through it before you hand it on.\n",
                args.output.display(),
                names.join(", ")
            )
        });
        Ok(0)
    })
}

async fn gather(args: &SupportBundleArgs, env: &BTreeMap<String, String>) -> Vec<Part> {
    let sources = || args.file.sources(Purpose::Check, env, Vec::new());
    let config = sources().and_then(|sources| Config::load(&sources));
    let options =
        DoctorOptions { url: args.url.clone(), url_ca_file: args.url_ca_file.clone(), mcp_path: args.mcp_path.clone() };
    let mut parts = vec![
        part("README.txt", README.to_owned()),
        part("version.txt", version(&[], false)),
        part("system.txt", system()),
        match &config {
            Ok(config) => part("config.txt", config.show()),
            Err(faults) => failed_part("config.txt", faults),
        },
        part("doctor.txt", examine(sources(), &options).await.to_string()),
    ];
    let admin = args.admin.clone().or_else(|| env.get(ADMIN_URL_ENV).cloned());
    let admin = admin.or_else(|| config.ok().as_ref().and_then(admin_url));
    let client = AdminClient::without_token(admin.as_deref(), env);
    let failed = [("failed", "true".to_owned()), ("limit", CALLS_ASKED.to_string())];
    parts.push(asked::<StatusBody>("status.json", &client, "status", &[]).await);
    parts.push(asked::<LatencyBody>("latency.json", &client, "latency", &[]).await);
    parts.push(asked::<CallsBody>("failed-calls.json", &client, "calls", &failed).await);
    parts
}

fn part(name: &str, content: String) -> Part {
    Part { name: name.to_owned(), content }
}

fn failed_part(name: &str, why: impl std::fmt::Display) -> Part {
    part(&format!("{name}.error.txt"), format!("{why}\n"))
}

async fn asked<T: Serialize + serde::de::DeserializeOwned>(
    name: &str,
    client: &Result<AdminClient, AdminError>,
    path: &str,
    query: &[(&str, String)],
) -> Part {
    let client = match client {
        Ok(client) => client,
        Err(error) => return failed_part(name, error),
    };
    match client.get::<T>(&[path], query).await {
        Ok(body) => part(name, format!("{:#}\n", json!(body))),
        Err(error) => failed_part(name, error),
    }
}

/// Where the admin API of the configured role listens.
fn admin_url(config: &Config) -> Option<String> {
    let edge = config.edge.as_ref().and_then(|edge| edge.admin_listen);
    let address: SocketAddr = edge.or_else(|| config.connect.as_ref().and_then(|connect| connect.admin_listen))?;
    let ip = if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
    Some(format!("http://{}", SocketAddr::new(ip, address.port())))
}

fn system() -> String {
    let name = rustix::system::uname();
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "{} {} {}\ncpus {cpus}\nopen files {:?} of {:?}\n",
        name.sysname().to_string_lossy(),
        name.release().to_string_lossy(),
        name.machine().to_string_lossy(),
        files.current,
        files.maximum,
    )
}

fn write_archive(path: &Path, parts: &[Part], now: WallTime) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for part in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(part.content.len() as u64);
        header.set_mode(FILE_MODE);
        header.set_mtime(now.since(WallTime(0)).as_secs());
        archive.append_data(&mut header, format!("{FOLDER}/{}", part.name), part.content.as_bytes())?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn the_archive_has_each_part_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar.gz");
        let parts = [part("a.txt", "first\n".to_owned()), failed_part("b.json", "no process runs")];
        write_archive(&path, &parts, WallTime::now()).unwrap();
        let mut archive = tar::Archive::new(GzDecoder::new(std::fs::File::open(&path).unwrap()));
        let read = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().display().to_string(), text)
        });
        let expected = [("adit-support/a.txt", "first\n"), ("adit-support/b.json.error.txt", "no process runs\n")];
        assert_eq!(read.collect::<Vec<_>>(), expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
        assert!(write_archive(&path, &parts, WallTime::now()).is_err());
    }
}
