use crate::control::ProcessFacts;
use crate::engine::Cores;

/// The commit that this binary was built from, if `GIT_COMMIT` was set during the build.
pub const COMMIT: &str = match option_env!("GIT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The facts about running cores.
pub(super) fn facts(cores: &Cores) -> ProcessFacts {
    ProcessFacts {
        version: env!("CARGO_PKG_VERSION"),
        commit: COMMIT,
        driver: cores.driver().to_string(),
        driver_why: cores.why().to_owned(),
        ..ProcessFacts::default()
    }
}
