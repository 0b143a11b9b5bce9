use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// The command of the program that starts a child and ends it with all of its descendants, see [`StdioSettings::guard`].
pub const STDIO_GUARD: &str = "stdio-guard";

/// The exit code of that program if it could not start the command.
pub const NOT_STARTED: u8 = 126;

/// How the child of a route is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StdioSettings {
    /// The route, for logs.
    pub route: String,
    /// The program and its arguments. No shell reads them.
    pub command: Vec<String>,
    /// Variables that are added to the environment. Variables of this process whose names begin with `ADIT_`,
    /// and those of the service manager, are not passed on.
    pub env: Vec<(String, String)>,
    /// The folder in which it runs; by default that of this process.
    pub cwd: Option<PathBuf>,
    /// The program that is started with the argument [`STDIO_GUARD`] and the command. It starts the child, and kills it and its
    /// descendants when the child's input is closed or this process has ended.
    pub guard: PathBuf,
}

impl StdioSettings {
    /// The program that is started, for messages.
    pub(super) fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    /// Finds the program as the system will.
    ///
    /// # Errors
    ///
    /// What to tell the operator: the program, and where it was looked for.
    pub fn find(&self) -> Result<(), String> {
        let program = self.program();
        let cwd = self.cwd.clone().unwrap_or_default();
        if program.contains('/') {
            return match is_program(&cwd.join(program)) {
                true => Ok(()),
                false => Err(format!("cannot start {program}: there is no such program: check `command`")),
            };
        }
        let own = self.env.iter().rfind(|(name, _)| name == "PATH").map(|(_, value)| OsString::from(value));
        let path = own.or_else(|| env::var_os("PATH")).unwrap_or_default();
        match env::split_paths(&path).any(|folder| is_program(&cwd.join(folder).join(program))) {
            true => Ok(()),
            false => Err(format!(
                "cannot start {program}: it is in no folder of PATH ({}): install it, or write its whole path in `command`",
                path.display()
            )),
        }
    }
}

fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}
