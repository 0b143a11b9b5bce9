//! `adit edge init`, `adit edge backup` and `adit edge restore`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use crate::base::TunnelId;
use crate::cli::EXIT_USAGE;
use crate::cli::args::{DataDirArgs, EdgeDirCommand};
use crate::cli::run::refuse;
use crate::cli::table::Table;
use crate::control::DataDir;
use crate::control::store::{Restored, Revived, RevivedKind};
use crate::process::{self, RestoredFrom, RunError};

/// The variable that names the data directory: that of the setting.
pub(super) const DATA_DIR_ENV: &str = "ADIT_EDGE_DATA_DIR";

/// Runs a command about the data directory, and gives back the exit code.
pub(super) fn run_edge_dir(command: &EdgeDirCommand, env: &BTreeMap<String, String>) -> u8 {
    let (EdgeDirCommand::Init { dir, .. } | EdgeDirCommand::Backup { dir, .. } | EdgeDirCommand::Restore { dir, .. }) =
        command;
    let Some(dir) = data_dir(dir, env) else {
        eprintln!("no data directory: give --data-dir, or set {DATA_DIR_ENV}");
        return EXIT_USAGE;
    };
    let done = match command {
        EdgeDirCommand::Init { name, json, .. } => init(&dir, name, *json),
        EdgeDirCommand::Backup { to, .. } => backup(&dir, to.clone()),
        EdgeDirCommand::Restore { from, keep_withdrawn, .. } => put_back(&dir, from.clone(), *keep_withdrawn),
    };
    done.map_or_else(|error| refuse(&error), |()| 0)
}

/// The data directory that flags or environment name.
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
        println!("{:#}", json!({ "data_dir": dir.path(), "made": made, "names": done.names, "authority": authority }));
        return Ok(());
    }
    for file in &done.made {
        println!("made       {}", file.display());
    }
    println!("names      {}", done.names.join(", "));
    println!("authority  SHA-256 {}", done.authority);
    println!(
        "\nNext:\n\n  adit edge --data-dir {path} --listen 0.0.0.0:443 --agents-cert-file FILE --agents-key-file FILE\n  \
         adit tunnel create --data-dir {path} --host NAME\n\nBack up {path}: whoever has ca.key can vouch for connectors."
    );
    Ok(())
}

fn backup(dir: &DataDir, to: Option<PathBuf>) -> Result<(), RunError> {
    println!("{}", process::back_up_store(dir, to)?.display());
    Ok(())
}

fn put_back(dir: &DataDir, from: Option<PathBuf>, keep_withdrawn: bool) -> Result<(), RunError> {
    let RestoredFrom { backup, restored: Restored { aside, revived } } =
        process::restore_store(dir, from, keep_withdrawn)?;
    println!("the store was restored from {}", backup.display());
    if let Some(aside) = aside {
        println!("the former store is kept as {}", aside.display());
    }
    match revived {
        None => println!(
            "\nThe former store cannot be read: whatever was revoked, archived or rotated after the back-up was made is valid \
             again, and is not known here. Look through `adit tunnel list`, and rotate or revoke what should not be."
        ),
        Some(revived) if revived.is_empty() => {}
        Some(revived) if keep_withdrawn => print!("\nwithdrawn as before:\n\n{}", revived_table(&revived)),
        Some(revived) => print!(
            "\nValid again, though withdrawn after the back-up was made:\n\n{}\nWithdraw them as soon as the edge runs:\n\n{}\n\
             or restore once more with --from {} --keep-withdrawn before it does.\n",
            revived_table(&revived),
            withdrawals(&revived),
            backup.display(),
        ),
    }
    Ok(())
}

fn revived_table(revived: &[Revived]) -> String {
    let mut table = Table::new(["WHAT", "TUNNEL", "ID", "GOOD UNTIL"]);
    for Revived { kind, tunnel, id, ended_at } in revived {
        let what = match kind {
            RevivedKind::Tunnel => "tunnel",
            RevivedKind::Credential => "credential",
            RevivedKind::Certificate => "certificate",
            RevivedKind::ProvisioningKey => "provisioning key",
        };
        let tunnel = tunnel.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        table.row([what.to_owned(), tunnel, id.clone(), ended_at.to_string()]);
    }
    table.text("nothing")
}

/// The commands that withdraw what came back; a tunnel takes along what is its own.
fn withdrawals(revived: &[Revived]) -> String {
    let archived = |tunnel: &Option<TunnelId>| {
        revived.iter().any(|other| other.kind == RevivedKind::Tunnel && other.tunnel == *tunnel)
    };
    let command = |one: &Revived| {
        let tunnel = one.tunnel.as_ref().map_or("", TunnelId::as_str);
        let id = &one.id;
        match one.kind {
            RevivedKind::Tunnel => Some(format!("  adit tunnel archive {id}\n")),
            RevivedKind::ProvisioningKey => Some(format!("  adit tunnel key revoke {id}\n")),
            _ if archived(&one.tunnel) => None,
            RevivedKind::Credential => Some(format!("  adit tunnel revoke {tunnel} --credential {id}\n")),
            RevivedKind::Certificate => Some(format!("  adit tunnel cert archive {tunnel} {id}\n")),
        }
    };
    revived.iter().filter_map(command).collect()
}
