//! Paths on which packets vanish: in a network namespace of this program's own, so that nothing else on the machine loses any.

use std::convert::Infallible;
use std::env::VarError;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Says to this program that it runs in the namespace. Its value is the network namespace that the program came from.
const INSIDE: &str = "ADIT_LOADTEST_INSIDE";
/// The link that names the network namespace of a process.
const OWN_NAMESPACE: &str = "/proc/self/ns/net";
/// Where a user's PATH often does not lead.
const ADMIN_PATHS: &str = ":/usr/sbin:/sbin";
/// The table of rules.
const TABLE: &str = "inet adit_loadtest";

/// Why no path can be cut.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CutError {
    #[error(
        "a path is cut in a network namespace, and none can be made here: run it as root, or allow user namespaces"
    )]
    Namespace,
    #[error(
        "{INSIDE} is set, but this program does not run in a network namespace of its own, and packets of other programs \
         would vanish: unset it"
    )]
    NotInside,
    #[error("{OWN_NAMESPACE} cannot be read, which names the network namespace: {0}; mount /proc")]
    Unnamed(io::Error),
    #[error("{program} cannot be run: {source}; install {package}")]
    Missing { program: String, package: &'static str, source: io::Error },
    #[error("{command}: {said}")]
    Failed { command: String, said: String },
}

/// A path that is cut until this is dropped.
pub(crate) struct BlackHole(());

impl BlackHole {
    /// From now on packets from and to this address vanish.
    ///
    /// # Errors
    ///
    /// The system does not take the rules.
    pub(crate) fn around(address: SocketAddr) -> Result<BlackHole, CutError> {
        let port = address.port();
        // It wants each statement on a line of its own.
        let rules = format!(
            "table {TABLE} {{\nchain cut {{\ntype filter hook input priority 0;\ntcp dport {port} drop\ntcp sport {port} drop\n}}\n}}\n"
        );
        run("nft", &[&rules], "nftables")?;
        Ok(BlackHole(()))
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        // If it fails the table stays until the namespace ends, with this program.
        let _ = run("nft", &[&format!("delete table {TABLE}")], "nftables");
    }
}

/// Prepares the network if this program runs in a namespace of its own, and starts the program again in one otherwise.
///
/// # Errors
///
/// There can be none. It returns well only inside.
pub(crate) fn enter() -> Result<(), CutError> {
    let own = namespace()?;
    match std::env::var(INSIDE) {
        Ok(outside) if is_another(&outside, &own) => run("ip", &["link", "set", "lo", "up"], "iproute2"),
        // Another program has set the variable.
        Ok(_) | Err(VarError::NotUnicode(_)) => Err(CutError::NotInside),
        Err(VarError::NotPresent) => match start_again(&own)? {},
    }
}

/// The name of the network namespace in which this program runs.
fn namespace() -> Result<String, CutError> {
    let link = std::fs::read_link(OWN_NAMESPACE).map_err(CutError::Unnamed)?;
    Ok(link.to_string_lossy().into_owned())
}

/// Whether this names a network namespace, and another one than `own`.
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
    let said = String::from_utf8_lossy(&done.stderr).lines().next().unwrap_or_default().to_owned();
    Err(CutError::Failed { command: format!("{program} {}", args.join(" ")), said })
}
