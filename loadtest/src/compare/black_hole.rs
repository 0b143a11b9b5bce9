//! Drops all packets on a path, inside a network namespace of this program, so that nothing else on the machine is
//! affected.

use std::convert::Infallible;
use std::env::VarError;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Tells this program that it runs in its own namespace. The value is the original network namespace.
const INSIDE: &str = "ADIT_LOADTEST_INSIDE";
/// The link that names the network namespace of a process.
const OWN_NAMESPACE: &str = "/proc/self/ns/net";
/// Folders that are often missing in a user's PATH.
const ADMIN_PATHS: &str = ":/usr/sbin:/sbin";
/// The name of the table of rules.
const TABLE: &str = "inet adit_loadtest";

/// Why no path can be cut.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CutError {
    #[error("a path is cut in a network namespace, and none can be created: run as root, or allow user namespaces")]
    Namespace,
    #[error(
        "{INSIDE} is set, but this program does not run in a network namespace of its own, and packets of other programs \
         would be dropped: unset it"
    )]
    NotInside,
    #[error("{OWN_NAMESPACE} cannot be read, which names the network namespace: {0}; mount /proc")]
    Unnamed(io::Error),
    #[error("{program} cannot be run: {source}; install {package}")]
    Missing { program: String, package: &'static str, source: io::Error },
    #[error("{command}: {message}")]
    Failed { command: String, message: String },
}

/// A path that stays cut until this is dropped.
pub(crate) struct BlackHole(());

impl BlackHole {
    /// Drops packets from and to this address from now on.
    ///
    /// # Errors
    ///
    /// If the system rejects the rules.
    pub(crate) fn around(address: SocketAddr) -> Result<BlackHole, CutError> {
        let port = address.port();
        // nft requires each statement on its own line.
        let rules = format!(
            "table {TABLE} {{\nchain cut {{\ntype filter hook input priority 0;\ntcp dport {port} drop\ntcp sport {port} drop\n}}\n}}\n"
        );
        run("nft", &[&rules], "nftables")?;
        Ok(BlackHole(()))
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        // If this fails, the table stays until the namespace ends with this program.
        let _ = run("nft", &[&format!("delete table {TABLE}")], "nftables");
    }
}

/// Prepares the network if this program runs in its own namespace; otherwise restarts the program in one.
///
/// # Errors
///
/// If no namespace can be created. Returns `Ok` only inside one.
pub(crate) fn enter() -> Result<(), CutError> {
    let own = namespace()?;
    match std::env::var(INSIDE) {
        Ok(outside) if is_another(&outside, &own) => run("ip", &["link", "set", "lo", "up"], "iproute2"),
        // Another program set the variable.
        Ok(_) | Err(VarError::NotUnicode(_)) => Err(CutError::NotInside),
        Err(VarError::NotPresent) => match start_again(&own)? {},
    }
}

/// The name of the network namespace in which this program runs.
fn namespace() -> Result<String, CutError> {
    let link = std::fs::read_link(OWN_NAMESPACE).map_err(CutError::Unnamed)?;
    Ok(link.to_string_lossy().into_owned())
}

/// Whether this is the name of another network namespace than `own`.
fn is_another(outside: &str, own: &str) -> bool {
    outside.starts_with("net:[") && outside != own
}

fn start_again(outside: &str) -> Result<Infallible, CutError> {
    const WAYS: [&[&str]; 2] = [&["--net"], &["--map-root-user", "--net"]];
    let missing = |source| CutError::Missing { program: "unshare".to_owned(), package: "util-linux", source };
    for flags in WAYS {
        let tried = Command::new("unshare").args(flags).args(["--", "true"]).output().map_err(missing)?;
        if tried.status.success() {
            let own = std::env::current_exe().map_err(missing)?;
            let path = std::env::var("PATH").unwrap_or_default() + ADMIN_PATHS;
            let mut again = Command::new("unshare");
            again
                .args(flags)
                .arg("--")
                .arg(own)
                .args(std::env::args_os().skip(1))
                .env(INSIDE, outside)
                .env("PATH", path);
            return Err(missing(again.exec()));
        }
    }
    Err(CutError::Namespace)
}

fn run(program: &str, args: &[&str], package: &'static str) -> Result<(), CutError> {
    let done = Command::new(program).args(args).output();
    let done = done.map_err(|source| CutError::Missing { program: program.to_owned(), package, source })?;
    if done.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&done.stderr).lines().next().unwrap_or_default().to_owned();
    Err(CutError::Failed { command: format!("{program} {}", args.join(" ")), message: stderr })
}
