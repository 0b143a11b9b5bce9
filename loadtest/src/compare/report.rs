//! All that a comparison found, as it is written to JSON and read from it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::host::Host;
use super::peer::{Kind, Peer};
use super::rows::Row;

/// The report of a whole comparison.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Report {
    /// The command line that made it.
    pub(crate) command: String,
    /// The version of this program.
    pub(crate) version: String,
    /// When it began (RFC 3339, UTC).
    pub(crate) began: String,
    /// How it was measured.
    pub(crate) method: Method,
    /// The machine on which it was measured.
    pub(crate) host: Host,
    /// What was measured: by payload, then connections, then in the order of the peers.
    pub(crate) rows: Vec<Row>,
    /// Peers whose program is missing here.
    pub(crate) not_found: Vec<String>,
    /// Peers that are only one side of a vendor's service.
    pub(crate) no_far_side: Vec<String>,
    /// What each peer is, measured or not.
    pub(crate) peers: Vec<PeerNote>,
    /// Why rounds are missing; none if they are all there.
    pub(crate) ended_early: Option<String>,
    /// Whether this program, and so likely the adit beside it, was built without optimisation.
    pub(crate) debug_build: bool,
}

/// How it was measured.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Method {
    /// What each call is.
    pub(crate) call: String,
    /// `closed`, or the rate of an open loop.
    pub(crate) mode: String,
    /// The number of rounds.
    pub(crate) rounds: usize,
    /// The counted time of one measurement, in seconds.
    pub(crate) duration_s: f64,
    /// The time before it that was not counted, in seconds.
    pub(crate) warm_up_s: f64,
}

/// What a peer is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct PeerNote {
    /// The name of the peer.
    pub(crate) name: String,
    /// What it is, in a few words.
    pub(crate) summary: String,
    /// What it may be compared with.
    pub(crate) kind: Kind,
    /// The licence, as an SPDX expression.
    pub(crate) licence: String,
    /// Where it comes from.
    pub(crate) home: String,
    /// How a user installs it.
    pub(crate) install: String,
    /// Whether the agent speaks TLS to it.
    pub(crate) agent_tls: bool,
    /// Whether the hop between its two processes is encrypted.
    pub(crate) link_encrypted: bool,
    /// What it encrypts, in words.
    pub(crate) encrypts: String,
    /// What its programs say of their version.
    pub(crate) version: Option<String>,
    /// `measured`, `not found` or `no far side`.
    pub(crate) state: State,
    /// Why it was not measured.
    pub(crate) reason: Option<String>,
}

/// What became of a peer.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum State {
    /// All its programs were found, and it was measured.
    #[default]
    #[serde(rename = "measured")]
    Measured,
    /// A program of it is missing here.
    #[serde(rename = "not found")]
    NotFound,
    /// It is one side of a vendor's service.
    #[serde(rename = "no far side")]
    NoFarSide,
}

impl PeerNote {
    pub(crate) fn new(peer: &Peer, state: State, reason: Option<String>) -> Self {
        let file = peer.file.clone();
        Self {
            name: peer.name.clone(),
            summary: file.summary,
            kind: file.kind,
            licence: file.licence,
            home: file.home,
            install: file.install,
            agent_tls: file.agent_tls,
            link_encrypted: file.link_encrypted,
            encrypts: file.encrypts,
            version: None,
            state,
            reason,
        }
    }
}

/// Why a file is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    #[error("{} cannot be read: {source}; check the path", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a comparison that `compare --json` wrote: {source}", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
}

impl Report {
    /// Reads what `compare --json` wrote. What an older version did not write is as if it had not been measured.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds something else.
    pub(crate) fn read(path: &Path) -> Result<Report, ReportError> {
        let text = fs::read_to_string(path).map_err(|source| ReportError::Read { path: path.to_owned(), source })?;
        serde_json::from_str(&text).map_err(|source| ReportError::Parse { path: path.to_owned(), source })
    }

    /// The rows of each workload, in order.
    pub(crate) fn by_workload(&self) -> Vec<&[Row]> {
        self.rows.chunk_by(|a, b| (a.payload, a.connections) == (b.payload, b.connections)).collect()
    }

    /// Whether every peer that could be run was measured well.
    #[must_use]
    pub(crate) fn is_good(&self) -> bool {
        self.ended_early.is_none()
            && !self.rows.is_empty()
            && self.rows.iter().all(|row| row.error.is_none() && row.counts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::page::html;
    use crate::compare::sample::report;

    fn read_back(text: &str) -> Result<Report, ReportError> {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("x.json");
        fs::write(&path, text).expect("it can be written");
        Report::read(&path)
    }

    #[test]
    fn what_was_written_is_read_back_and_makes_the_same_page() {
        let written = report();
        let text = serde_json::to_string(&written).expect("plain");
        let read = read_back(&text).expect("it was written here");
        // Not by what is in them: a number that is read may differ in its last bit.
        assert!(html(&read).expect("it can be made") == html(&written).expect("it can be made"), "another page");
        assert!(crate::compare::table::text(&read) == crate::compare::table::text(&written), "another table");
    }

    #[test]
    fn a_report_of_an_older_version_is_read_too() {
        let mut older = serde_json::to_value(report()).expect("plain");
        older["rows"][0].as_object_mut().expect("a row").remove("in_flight");
        older["host"].as_object_mut().expect("a host").remove("governor");
        let read = read_back(&older.to_string()).expect("it lacks little");
        assert_eq!((read.rows[0].in_flight, read.host.governor.as_str()), (None, ""));
        html(&read).expect("it can be made");
    }

    #[test]
    fn what_is_no_report_is_told_by_its_name() {
        for text in ["", "{}", "[1]", r#"{"rows":[{"peer":1}]}"#] {
            let error = read_back(text).expect_err("it is none").to_string();
            assert!(error.contains("x.json is not a comparison"), "{error}");
        }
        let error = Report::read(Path::new("/nowhere/x.json")).expect_err("it is not there").to_string();
        assert!(error.contains("/nowhere/x.json cannot be read"), "{error}");
    }
}
