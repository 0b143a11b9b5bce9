use std::fmt;
use std::str::FromStr;

/// A set of settings for one purpose, with lower precedence than the file, the environment and the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// For large answers and uploads.
    Bulk,
    /// For the lowest latency, on dedicated CPUs.
    Latency,
    /// For CPUs that other processes use too.
    Shared,
}

/// No profile has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown profile: use latency, shared or bulk")]
pub struct UnknownProfile;

impl Profile {
    /// All profiles, in the order in which they are listed.
    pub const ALL: [Profile; 3] = [Profile::Latency, Profile::Shared, Profile::Bulk];

    /// Its name, as `--profile` takes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Profile::Bulk => "bulk",
            Profile::Latency => "latency",
            Profile::Shared => "shared",
        }
    }

    /// Its settings, in the format of a configuration file.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Profile::Bulk => include_str!("../../profiles/bulk.toml"),
            Profile::Latency => include_str!("../../profiles/latency.toml"),
            Profile::Shared => include_str!("../../profiles/shared.toml"),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Profile, UnknownProfile> {
        Profile::ALL.into_iter().find(|profile| profile.as_str() == text).ok_or(UnknownProfile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, FileText, Flag, Origin, Purpose, Sources};

    fn load(profile: Profile, file: &str, flags: Vec<Flag>) -> Config {
        let file = FileText { path: "a.toml".into(), text: file.to_owned() };
        let sources = Sources {
            purpose: Purpose::Check,
            profile: Some(profile),
            file: Some(file),
            env: [].into(),
            flags,
            credentials: Vec::new(),
        };
        Config::load(&sources).unwrap_or_else(|faults| panic!("{profile}: {faults}"))
    }

    fn origin(config: &Config, key: &str) -> Origin {
        config.values.iter().find(|value| value.key == key).expect("the key is shown").origin.clone()
    }

    #[test]
    fn each_is_a_good_configuration_and_changes_something() {
        for profile in Profile::ALL {
            assert_eq!(profile.as_str().parse(), Ok(profile));
            let config = load(profile, "", Vec::new());
            assert!(config.values.iter().any(|value| value.origin == Origin::Profile(profile)), "{profile}");
        }
        assert_eq!("fast".parse::<Profile>(), Err(UnknownProfile));
    }

    #[test]
    fn file_and_flags_win_over_it_and_it_wins_over_defaults() {
        let config = load(Profile::Shared, "[engine]\ncores = 3\n", vec![Flag::new("engine.pin", "true")]);
        assert_eq!((config.engine.cores, config.engine.pin), (3, true));
        assert!(matches!(origin(&config, "engine.cores"), Origin::File { .. }));
        assert!(matches!(origin(&config, "engine.pin"), Origin::Flag(_)));
        assert_eq!(origin(&config, "engine.spin_us"), Origin::Profile(Profile::Shared));
        assert_eq!(origin(&config, "engine.driver"), Origin::Default);
    }

    #[test]
    fn one_that_speaks_of_the_edge_makes_a_connector_no_edge() {
        let sources = Sources {
            purpose: Purpose::Check,
            profile: Some(Profile::Bulk),
            file: None,
            env: [].into(),
            flags: vec![Flag::new("route", "a.example=http://127.0.0.1:1")],
            credentials: Vec::new(),
        };
        let faults = Config::load(&sources).expect_err("the edge to dial is missing").to_string();
        assert!(!faults.contains("connectors_cert_file"), "{faults}");
    }
}
