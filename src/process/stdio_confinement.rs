//! What the system allows a child process: limits, user, privileges and files. Set by a process on itself, just before it executes
//! the command.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::set_no_new_privs;

use crate::process::error::RunError;
use crate::process::stdio_cgroup::ChildCgroup;
use crate::stdio::{Confinement, spawn_error};

/// The newest kind of Landlock rules that is used. Older kernels enforce those that they know.
const LANDLOCK_ABI: ABI = ABI::V5;

/// Confines this process, which has one thread, and executes the command in it.
///
/// # Errors
///
/// Why the command cannot be executed, or not with these limits.
pub fn exec_confined(confinement: &Confinement, command: &[String]) -> Result<Infallible, RunError> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| RunError::Other("no command to start".to_owned()))?;
    let fault = |what: String| RunError::Other(format!("cannot start {program}: {what}"));
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(group) = &confinement.cgroup {
        ChildCgroup::join(group).map_err(fault)?;
    }
    if let Some(user) = &confinement.user {
        let (uid, gid) = user_of(user).map_err(fault)?;
        command.uid(uid).gid(gid);
    }
    if let Some(group) = &confinement.group {
        command.gid(group_of(group).map_err(fault)?);
    }
    if !confinement.may_gain_privileges {
        set_no_new_privs(true).map_err(|error| fault(format!("privileges cannot be kept from it: {error}")))?;
    }
    if !confinement.read_paths.is_empty() || !confinement.write_paths.is_empty() {
        restrict_files(confinement).map_err(fault)?;
    }
    set_limits(confinement).map_err(|(what, error)| fault(format!("its limit of {what} cannot be set: {error}")))?;
    let error = command.exec();
    let mut why = spawn_error(program, &error);
    if error.kind() == io::ErrorKind::PermissionDenied && confinement.user.is_some() {
        why.push_str("; only root can start it as another user (`child_user`)");
    }
    if error.kind() == io::ErrorKind::PermissionDenied && !confinement.read_paths.is_empty() {
        why.push_str("; `child_read_paths` must name the program, its interpreter and its libraries");
    }
    Err(RunError::Other(why))
}

/// Checks what can be checked of a confinement without a command: its user, group, paths and control group.
///
/// # Errors
///
/// What to tell the operator.
pub(super) fn check_confinement(confinement: &Confinement) -> Result<(), String> {
    let own = rustix::process::geteuid();
    let user = confinement.user.as_deref().map(user_of).transpose()?;
    confinement.group.as_deref().map(group_of).transpose()?;
    if user.is_some_and(|(uid, _)| uid != own.as_raw()) && !own.is_root() {
        return Err(
            "only root can start it as another user: remove `child_user`, or run the connector as root".to_owned()
        );
    }
    check_paths(confinement)?;
    confinement.cgroup.as_deref().map(|parent| ChildCgroup::make(parent, confinement)).transpose()?;
    Ok(())
}

fn check_paths(confinement: &Confinement) -> Result<(), String> {
    let mut paths = confinement.read_paths.iter().chain(&confinement.write_paths);
    match paths.find_map(|path| Some((path, fs::metadata(path).err()?))) {
        Some((path, error)) => Err(format!(
            "{} cannot be allowed: {error}: check `child_read_paths` and `child_write_paths`",
            path.display()
        )),
        None => Ok(()),
    }
}

/// Sets the limits of each process (`setrlimit`). The memory comes last, as the steps before need some.
fn set_limits(confinement: &Confinement) -> Result<(), (&'static str, io::Error)> {
    let without_group = |limit: Option<u64>| limit.filter(|_| confinement.cgroup.is_none());
    let limits = [
        ("CPU time", Resource::Cpu, confinement.cpu_time_s),
        ("open files", Resource::Nofile, confinement.files_max),
        ("processes", Resource::Nproc, without_group(confinement.processes_max)),
        // Address space that is only reserved does not count, of which some runtimes reserve very much.
        ("memory", Resource::Data, without_group(confinement.memory_max)),
    ];
    for (what, resource, limit) in limits {
        if let Some(limit) = limit {
            let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
            setrlimit(resource, limit).map_err(|error| (what, error.into()))?;
        }
    }
    Ok(())
}

/// Allows this process only the named files and folders.
fn restrict_files(confinement: &Confinement) -> Result<(), String> {
    check_paths(confinement)?;
    let restrict = || -> Result<RulesetStatus, RulesetError> {
        let (read, all) = (AccessFs::from_read(LANDLOCK_ABI), AccessFs::from_all(LANDLOCK_ABI));
        let ruleset = Ruleset::default().handle_access(all)?.create()?;
        let ruleset = ruleset.add_rules(path_beneath_rules(&confinement.read_paths, read))?;
        let ruleset = ruleset.add_rules(path_beneath_rules(&confinement.write_paths, all))?;
        Ok(ruleset.restrict_self()?.ruleset)
    };
    match restrict() {
        Ok(RulesetStatus::NotEnforced) => {
            Err("this kernel has no Landlock: remove `child_read_paths` and `child_write_paths`".to_owned())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(format!("its files cannot be restricted: {error}")),
    }
}

/// The numbers of a user and of its group.
fn user_of(user: &str) -> Result<(u32, u32), String> {
    let known = entry(Path::new("/etc/passwd"), user).and_then(|fields| Some((fields[0], *fields.get(1)?)));
    let number = user.parse().ok().map(|number| (number, number));
    known.or(number).ok_or_else(|| format!("/etc/passwd has no user {user}: check `child_user`, or write its number"))
}

fn group_of(group: &str) -> Result<u32, String> {
    let known = entry(Path::new("/etc/group"), group).map(|fields| fields[0]);
    known.or(group.parse().ok()).ok_or_else(|| format!("/etc/group has no group {group}: check `child_group`"))
}

/// The numbers of the line with this name or number, in a file such as `/etc/passwd`.
fn entry(file: &Path, name: &str) -> Option<Vec<u32>> {
    let text = fs::read_to_string(file).ok()?;
    let numbers = |line: &str| line.split(':').skip(2).map_while(|field| field.parse().ok()).collect::<Vec<u32>>();
    let line = text.lines().find(|line| {
        let mut fields = line.split(':');
        fields.next() == Some(name) || fields.nth(1) == Some(name)
    });
    line.map(numbers).filter(|numbers| !numbers.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        assert_eq!(user_of("root"), Ok((0, 0)));
        assert_eq!(user_of("0"), Ok((0, 0)));
        assert_eq!(user_of("4000000001"), Ok((4_000_000_001, 4_000_000_001)));
        assert_eq!(group_of("root"), Ok(0));
        assert!(user_of("no such user").unwrap_err().contains("child_user"));
        assert!(group_of("no such group").unwrap_err().contains("child_group"));
    }
}
