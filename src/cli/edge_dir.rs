//! `adit edge init`, `adit edge identity-keys`, `adit edge backup` and `adit edge restore`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::base::TunnelId;
use crate::cli::EXIT_USAGE;
use crate::cli::admin_args::DataDirArgs;
use crate::cli::command_line::CommandLine;
use crate::cli::output::print;
use crate::cli::progress::Progress;
use crate::cli::role_args::EdgeDirCommand;
use crate::cli::run::refuse;
use crate::cli::table::Table;
use crate::control::DataDir;
use crate::control::store::{Reinstated, ReinstatedKind, Restored};
use crate::process::{self, RestoredFrom, RunError};

/// The variable of the setting `edge.data_dir`.
pub(super) const DATA_DIR_ENV: &str = "ADIT_EDGE_DATA_DIR";

/// Runs a command on the data directory, and returns the exit code.
pub(super) fn run_edge_dir(command: &EdgeDirCommand, env: &BTreeMap<String, String>) -> u8 {
    let (EdgeDirCommand::Init { dir, .. }
    | EdgeDirCommand::IdentityKeys { dir, .. }
    | EdgeDirCommand::Backup { dir, .. }
    | EdgeDirCommand::Restore { dir, .. }) = command;
    let Some(dir) = data_dir(dir, env) else {
        eprintln!("no data directory: give --data-dir, or set {DATA_DIR_ENV}");
        return EXIT_USAGE;
    };
    let done = match command {
        EdgeDirCommand::Init { name, json, .. } => init(&dir, name, *json),
        EdgeDirCommand::IdentityKeys { rotate, .. } => identity_keys(&dir, *rotate),
        EdgeDirCommand::Backup { to, json, .. } => backup(&dir, to.clone(), *json),
        EdgeDirCommand::Restore { from, keep_withdrawn, dir: given, json } => {
            let given = (!json).then_some(given.data_dir.as_deref());
            put_back(&dir, given, from.clone(), *keep_withdrawn)
        }
    };
    done.map_or_else(|error| refuse(&error), |()| 0)
}

/// The data directory named by flags or environment.
pub(super) fn data_dir(args: &DataDirArgs, env: &BTreeMap<String, String>) -> Option<DataDir> {
    let by_env = || env.get(DATA_DIR_ENV).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    args.data_dir.clone().or_else(by_env).map(DataDir::new)
}

fn init(dir: &DataDir, names: &[String], json: bool) -> Result<(), RunError> {
    let done = process::init_data_dir(dir, names)?;
    let path = dir.path().display();
    if json {
        let made: Vec<String> = done.made.iter().map(|file| file.display().to_string()).collect();
        let authority = done.authority.to_string();
        let result = json!({ "data_dir": dir.path(), "made": made, "names": done.names, "authority": authority });
        print(&format!("{result:#}\n"));
        return Ok(());
    }
    let made: String = done.made.iter().map(|file| format!("made       {}\n", file.display())).collect();
    let edge = CommandLine::new("adit edge").data_dir(Some(dir.path()));
    let edge =
        edge.flag("--listen", "0.0.0.0:443").flag("--agents-cert-file", "FILE").flag("--agents-key-file", "FILE");
    let create = CommandLine::new("adit tunnel create").data_dir(Some(dir.path())).flag("--host", "NAME");
    print(&format!(
        "{made}names      {}\nauthority  SHA-256 {}\n\nNext:\n\n  {edge}\n  {create}\n\nBack up {path}, and keep ca.key secret: \
         with it anyone can issue certificates for connectors.\n",
        done.names.join(", "),
        done.authority,
    ));
    Ok(())
}

fn identity_keys(dir: &DataDir, rotate: bool) -> Result<(), RunError> {
    print(&format!("{:#}\n", process::identity_key_set(dir, rotate)?));
    Ok(())
}

fn backup(dir: &DataDir, to: Option<PathBuf>, json: bool) -> Result<(), RunError> {
    let file = process::back_up_store(dir, to, Progress::of_copy("copying"))?;
    print(&if json { format!("{:#}\n", json!({ "backup": file })) } else { format!("{}\n", file.display()) });
    Ok(())
}

/// Restores the store. `given` is the data directory from the command line, which printed commands must repeat; `None` prints JSON.
fn put_back(
    dir: &DataDir,
    given: Option<Option<&Path>>,
    from: Option<PathBuf>,
    keep_withdrawn: bool,
) -> Result<(), RunError> {
    let RestoredFrom { backup, restored: Restored { aside, reinstated } } =
        process::restore_store(dir, from, keep_withdrawn, Progress::of_copy("restoring"))?;
    let Some(given) = given else {
        let body = json!({
            "backup": backup,
            "former_store": aside,
            "withdrawn_again": keep_withdrawn,
            "reinstated": reinstated.as_deref().map(|all| all.iter().map(reinstated_body).collect::<Vec<_>>()),
        });
        print(&format!("{body:#}\n"));
        return Ok(());
    };
    let mut report = format!("the store was restored from {}\n", backup.display());
    if let Some(aside) = aside {
        report += &format!("the former store is kept as {}\n", aside.display());
    }
    report += &match reinstated {
        None => "\nThe former store cannot be read: whatever was revoked, archived or rotated after the back-up was made is \
                 valid again, and is not known here. Look through `adit tunnel list`, and rotate or revoke what should not be.\n"
            .to_owned(),
        Some(reinstated) if reinstated.is_empty() => String::new(),
        Some(reinstated) if keep_withdrawn => format!("\nwithdrawn as before:\n\n{}", reinstated_table(&reinstated)),
        Some(reinstated) => format!(
            "\nValid again, though withdrawn after the back-up was made:\n\n{}\nWithdraw them as soon as the edge runs:\n\n{}\n\
             or restore once more before it does:\n\n  {}\n",
            reinstated_table(&reinstated),
            withdrawals(&reinstated, given),
            CommandLine::new("adit edge restore")
                .data_dir(given)
                .flag("--from", &backup.to_string_lossy())
                .word("--keep-withdrawn"),
        ),
    };
    print(&report);
    Ok(())
}

fn reinstated_body(Reinstated { kind, tunnel, id, ended_at }: &Reinstated) -> serde_json::Value {
    let tunnel = tunnel.as_ref().map(TunnelId::as_str);
    json!({ "what": kind_name(*kind), "tunnel": tunnel, "id": id, "good_until": ended_at.to_string() })
}

const fn kind_name(kind: ReinstatedKind) -> &'static str {
    match kind {
        ReinstatedKind::Tunnel => "tunnel",
        ReinstatedKind::Credential => "credential",
        ReinstatedKind::Certificate => "certificate",
        ReinstatedKind::ProvisioningKey => "provisioning key",
    }
}

fn reinstated_table(reinstated: &[Reinstated]) -> String {
    let mut table = Table::new(["WHAT", "TUNNEL", "ID", "GOOD UNTIL"]);
    for Reinstated { kind, tunnel, id, ended_at } in reinstated {
        let tunnel = tunnel.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        table.row([kind_name(*kind).to_owned(), tunnel, id.clone(), ended_at.to_string()]);
    }
    table.text("nothing")
}

/// The commands that revoke what became valid again. Archiving a tunnel includes everything that belongs to it.
fn withdrawals(reinstated: &[Reinstated], given: Option<&Path>) -> String {
    let archived = |tunnel: &Option<TunnelId>| {
        reinstated.iter().any(|other| other.kind == ReinstatedKind::Tunnel && other.tunnel == *tunnel)
    };
    let command = |one: &Reinstated| {
        let tunnel = one.tunnel.as_ref().map_or("", TunnelId::as_str);
        let id = &one.id;
        let of = |words: &str| CommandLine::new(words).data_dir(given);
        let command = match one.kind {
            ReinstatedKind::Tunnel => of("adit tunnel archive").word(id),
            ReinstatedKind::ProvisioningKey => of("adit tunnel key revoke").word(id),
            _ if archived(&one.tunnel) => return None,
            ReinstatedKind::Credential => of("adit tunnel revoke").word(tunnel).flag("--credential", id),
            ReinstatedKind::Certificate => of("adit tunnel cert archive").word(tunnel).word(id),
        };
        Some(format!("  {command}\n"))
    };
    reinstated.iter().filter_map(command).collect()
}
