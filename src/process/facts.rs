use crate::control::ProcessFacts;
use crate::engine::Cores;

/// The commit from which this binary was built, if the build was told `GIT_COMMIT`.
pub const COMMIT: &str = match option_env!("GIT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The facts that the running cores give.
pub(super) fn facts(cores: &Cores) -> ProcessFacts {
    ProcessFacts {
        version: env!("CARGO_PKG_VERSION"),
        commit: COMMIT,
        driver: cores.driver().to_string(),
        driver_why: cores.why().to_owned(),
        ..ProcessFacts::default()
    }
}
