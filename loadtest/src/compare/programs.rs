//! Finds the programs of the peers.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::peer::Peer;

/// Folders of programs that are not on every user's PATH.
const MORE_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// The paths on which programs of peers are searched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Programs {
    /// The user's path for a program or a peer: its file, or a folder that contains it.
    given: BTreeMap<String, PathBuf>,
    /// The folder of this program, which contains the adit that was built with it.
    own: Option<PathBuf>,
}

/// The error for a missing program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) program: String,
    /// The only path on which it was searched, if the user gave one.
    pub(crate) given: Option<PathBuf>,
}

impl Programs {
    pub(crate) fn new(given: impl IntoIterator<Item = (String, PathBuf)>, this: &Path) -> Self {
        Self { given: given.into_iter().collect(), own: this.parent().map(Path::to_owned) }
    }

    /// All programs of a peer, by name.
    ///
    /// # Errors
    ///
    /// If a program is missing.
    pub(crate) fn of(&self, peer: &Peer) -> Result<BTreeMap<String, PathBuf>, Missing> {
        let programs = peer.file.programs.iter();
        programs.map(|program| Ok((program.name.clone(), self.find(&peer.name, &program.name)?))).collect()
    }

    /// The path of a program of a peer.
    ///
    /// # Errors
    ///
    /// If it is missing.
    pub(crate) fn find(&self, peer: &str, program: &str) -> Result<PathBuf, Missing> {
        let given = self.given.get(program).or_else(|| self.given.get(peer));
        let found = match given {
            Some(path) if path.is_dir() => search(program, path.clone().into_os_string()),
            Some(path) => search(path, OsString::new()),
            None => search(program, self.folders()),
        };
        found.ok_or_else(|| Missing { program: program.to_owned(), given: given.cloned() })
    }

    fn folders(&self) -> OsString {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = self.own.iter().cloned().chain(env::split_paths(&path)).chain(MORE_FOLDERS.map(PathBuf::from));
        // The existing folders came from a PATH, so joining succeeds.
        env::join_paths(folders).unwrap_or(path)
    }
}

fn search(program: impl AsRef<std::ffi::OsStr>, folders: OsString) -> Option<PathBuf> {
    let here = env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    which::which_in(program, Some(folders), here).ok()
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.given {
            Some(path) => write!(f, "{} is not a program or a folder with {}", path.display(), self.program),
            None => write!(f, "{} is not on the PATH", self.program),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn peer(name: &str) -> Peer {
        Peer::named([name]).expect("a known peer").remove(0)
    }

    fn program(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, "#!/bin/sh\n").expect("the file is writable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our own file");
        path
    }

    #[test]
    fn a_program_is_found_at_the_given_path_or_beside_this_one() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let (frps, frpc) = (program(folder.path(), "frps"), program(folder.path(), "frpc"));
        let adit = program(folder.path(), "adit");
        let this = folder.path().join("adit-loadtest");
        let given = |name: &str, path: &Path| Programs::new([(name.to_owned(), path.to_owned())], &this);
        let found = given("frp", folder.path()).of(&peer("frp")).expect("both are there");
        assert_eq!((&found["frps"], &found["frpc"]), (&frps, &frpc));
        let found = given("rathole", &adit).of(&peer("rathole-noise")).expect("any program will do");
        assert_eq!(found["rathole"], adit);
        assert_eq!(Programs::new([], &this).of(&peer("adit-epoll-park")).expect("it is beside")["adit"], adit);
        assert!(Programs::new([], &this).of(&peer("direct")).expect("it needs none").is_empty());
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let given = [("rathole".to_owned(), folder.path().to_owned())];
        let missing = Programs::new(given, Path::new("/x")).of(&peer("rathole")).expect_err("the folder is empty");
        assert_eq!(missing.program, "rathole");
        assert!(missing.to_string().contains(&folder.path().display().to_string()), "{missing}");
    }
}
