use std::fmt::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};

use crate::config::ConfigErrors;
use crate::process::error::RunError;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The check passed without remarks.
    Ok,
    /// It works, but something is unwise or will soon fail.
    Warn,
    /// It does not work.
    Fail,
}

/// The finding of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The machine-readable name of the check, such as `edge.tcp`.
    pub check: &'static str,
    /// The result of the check.
    pub verdict: Verdict,
    /// What was found, as a sentence.
    pub found: String,
    /// How to fix it, if there is anything to fix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// The findings of all checks, in order.
#[derive(Clone, Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Adds a finding that a check passed.
    pub fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.0.push(Finding { check, verdict: Verdict::Ok, found: found.into(), remedy: None });
    }

    /// Adds a finding that something is unwise or will soon fail.
    pub fn warn(&mut self, check: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Verdict::Warn, found, remedy);
    }

    /// Adds a finding that something does not work.
    pub fn fail(&mut self, check: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Verdict::Fail, found, remedy);
    }

    /// Adds a finding that something does not work, whose text already contains the remedy.
    pub fn fail_without_remedy(&mut self, check: &'static str, found: impl Into<String>) {
        self.0.push(Finding { check, verdict: Verdict::Fail, found: found.into(), remedy: None });
    }

    /// Adds the faults of the configuration, each of which contains its remedy.
    pub(super) fn add_faults(&mut self, check: &'static str, faults: &ConfigErrors) {
        faults.all().iter().for_each(|fault| self.fail_without_remedy(check, fault.to_string()));
    }

    /// Adds the error that would keep a role from running.
    pub(super) fn add_error(&mut self, check: &'static str, error: &RunError) {
        match error {
            RunError::Config(faults) => self.add_faults(check, faults),
            other => self.fail_without_remedy(check, other.to_string()),
        }
    }

    /// The findings in the order of the checks.
    #[must_use]
    #[cfg(test)]
    pub fn all(&self) -> &[Finding] {
        &self.0
    }

    /// The worst verdict of all findings.
    #[must_use]
    pub fn worst(&self) -> Verdict {
        self.0.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
    }

    /// All of them as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "verdict": self.worst(), "findings": self.0 })
    }

    fn add(&mut self, check: &'static str, verdict: Verdict, found: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { check, verdict, found: found.into(), remedy: Some(remedy.into()) });
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Ok => "OK",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        })
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        for Finding { check, verdict, found, remedy } in &self.0 {
            let verdict = verdict.to_string();
            writeln!(f, "{verdict:<4}  {check:<width$}  {}", on_one_line(found))?;
            if let Some(remedy) = remedy {
                writeln!(f, "      {:<width$}  → {}", "", on_one_line(remedy))?;
            }
        }
        Ok(())
    }
}

/// Removes line ends and control characters, which text from a peer may contain.
fn on_one_line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        let _ = line.write_char(if c.is_control() { ' ' } else { c });
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_lines_for_people_and_an_object_for_programs() {
        let mut findings = Findings::default();
        assert_eq!(findings.worst(), Verdict::Ok);
        findings.ok("edge.dns", "a.test is 10.0.0.1");
        findings.warn("file_limit", "1024 files", "raise it");
        assert_eq!(findings.worst(), Verdict::Warn);
        findings.fail("edge.tcp", "it said:\n\x1b[31mno", "start it");
        assert_eq!(findings.worst(), Verdict::Fail);
        let want = "OK    edge.dns    a.test is 10.0.0.1\n\
                    WARN  file_limit  1024 files\n                  → raise it\n\
                    FAIL  edge.tcp    it said:  [31mno\n                  → start it\n";
        assert_eq!(findings.to_string(), want);
        let json = findings.to_json();
        assert_eq!((&json["verdict"], &json["findings"][0]["verdict"]), (&json!("fail"), &json!("ok")));
        assert_eq!(json["findings"][1]["remedy"], "raise it");
        assert_eq!(json["findings"][0].get("remedy"), None);
    }
}
