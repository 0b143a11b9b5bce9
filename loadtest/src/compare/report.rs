//! The complete report of a comparison, written as and read from JSON.

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
    /// The command line that created it.
    pub(crate) command: String,
    /// The version of this program.
    pub(crate) version: String,
    /// When it began (RFC 3339, UTC).
    pub(crate) began: String,
    /// The method of the measurements.
    pub(crate) method: Method,
    /// The machine on which it was measured.
    pub(crate) host: Host,
    /// The results: by payload, then connections, then in the order of the peers.
    pub(crate) rows: Vec<Row>,
    /// Peers with a missing program.
    pub(crate) not_found: Vec<String>,
    /// Peers whose other side is a vendor's service.
    pub(crate) no_far_side: Vec<String>,
    /// Notes on all peers, measured or not.
    pub(crate) peers: Vec<PeerNote>,
    /// Why rounds are missing; none if all are complete.
    pub(crate) ended_early: Option<String>,
    /// Whether this program, and so likely the adit beside it, was built without optimisation.
    pub(crate) debug_build: bool,
}

/// The method of the measurements.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Method {
    /// The kind of each call.
    pub(crate) call: String,
    /// `closed`, or the rate of an open loop.
    pub(crate) mode: String,
    /// The number of rounds.
    pub(crate) rounds: usize,
    /// The length of one measurement, in seconds.
    pub(crate) duration_s: f64,
    /// The warm-up time before it, in seconds.
    pub(crate) warm_up_s: f64,
}

/// A note on one peer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct PeerNote {
    /// The name of the peer.
    pub(crate) name: String,
    /// A description in a few words.
    pub(crate) summary: String,
    /// The kind, because only peers of one kind are comparable.
    pub(crate) kind: Kind,
    /// The licence, as an SPDX expression.
    pub(crate) licence: String,
    /// The home page of the peer.
    pub(crate) home: String,
    /// How a user installs it.
    pub(crate) install: String,
    /// Whether the agent connects with TLS.
    pub(crate) agent_tls: bool,
    /// Whether the hop between its two processes is encrypted.
    pub(crate) link_encrypted: bool,
    /// The encryption of each hop, in words.
    pub(crate) encrypts: String,
    /// The version texts of its programs.
    pub(crate) version: Option<String>,
    /// `measured`, `not found` or `no far side`.
    pub(crate) state: State,
    /// Why it was not measured.
    pub(crate) reason: Option<String>,
}

/// Whether a peer was measured.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum State {
    /// All its programs were found, and it was measured.
    #[default]
    #[serde(rename = "measured")]
    Measured,
    /// A program of it is missing.
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

/// Why a file is not a valid report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    #[error("{} cannot be read: {source}; check the path", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a comparison that `compare --json` wrote: {source}", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
}

impl Report {
    /// Reads a file of `compare --json`. Values that an older version did not write count as not measured.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not a report.
    pub(crate) fn read(path: &Path) -> Result<Report, ReportError> {
        let text = fs::read_to_string(path).map_err(|source| ReportError::Read { path: path.to_owned(), source })?;
        serde_json::from_str(&text).map_err(|source| ReportError::Parse { path: path.to_owned(), source })
    }

    /// The rows of each workload, in order.
    pub(crate) fn by_workload(&self) -> Vec<&[Row]> {
        self.rows.chunk_by(|a, b| (a.payload, a.connections) == (b.payload, b.connections)).collect()
    }

    /// Whether every peer that could be run was measured without errors.
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
        fs::write(&path, text).expect("the file is writable");
        Report::read(&path)
    }

    #[test]
    fn a_written_report_is_read_back_and_makes_the_same_page() {
        let written = report();
        let text = serde_json::to_string(&written).expect("it serializes");
        let read = read_back(&text).expect("it was written here");
        // Compare the pages, because a parsed number may differ in its last bit.
        assert!(
            html(&read).expect("the page is created") == html(&written).expect("the page is created"),
            "another page"
        );
        assert!(crate::compare::table::text(&read) == crate::compare::table::text(&written), "another table");
    }

    #[test]
    fn a_report_of_an_older_version_is_read_too() {
        let mut older = serde_json::to_value(report()).expect("it serializes");
        older["rows"][0].as_object_mut().expect("a row").remove("in_flight");
        older["host"].as_object_mut().expect("a host").remove("governor");
        let read = read_back(&older.to_string()).expect("an older report is readable");
        assert_eq!((read.rows[0].in_flight, read.host.governor.as_str()), (None, ""));
        html(&read).expect("the page is created");
    }

    #[test]
    fn an_invalid_report_is_named_in_the_error() {
        for text in ["", "{}", "[1]", r#"{"rows":[{"peer":1}]}"#] {
            let error = read_back(text).expect_err("it is none").to_string();
            assert!(error.contains("x.json is not a comparison"), "{error}");
        }
        let error = Report::read(Path::new("/nowhere/x.json")).expect_err("it is not there").to_string();
        assert!(error.contains("/nowhere/x.json cannot be read"), "{error}");
    }
}
