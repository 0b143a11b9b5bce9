use crate::config::setting_type::SettingType;

/// What applies if a setting is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// This default, written as in a variable.
    Value(&'static str),
    /// No default: the setting is optional.
    Unset,
    /// The setting is required by the command that reads the section.
    Required,
}

/// When a changed setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// On a reload: SIGHUP, or the file changes.
    Live,
    /// After a restart of the process.
    Restart,
}

/// One row of the table of settings, from which everything else about the setting is generated.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The table of the file in which it stands.
    pub section: &'static str,
    /// Its key in that table.
    pub key: &'static str,
    /// Its type in a word or two.
    pub kind: &'static str,
    /// The default, or that there is none.
    pub preset: Preset,
    /// The least and the greatest value, for numbers, durations and sizes.
    pub bounds: Option<(u64, u64)>,
    /// The flag that sets it.
    pub flag: Option<&'static str>,
    /// When a change takes effect.
    pub reload: Reload,
    /// A value that differs from the default.
    pub example: &'static str,
    /// Whether its value is never shown.
    pub secret: bool,
    env_special: Option<&'static str>,
    record: bool,
    doc: &'static [&'static str],
}

impl Setting {
    /// The key path, such as `edge.agents_listen`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    /// The environment variable that sets it; `None` for settings in a list of tables.
    #[must_use]
    pub fn env(&self) -> Option<String> {
        match (self.record, self.env_special) {
            (true, _) => None,
            (false, Some(name)) => Some(name.to_owned()),
            (false, None) => Some(self.env_by_rule()),
        }
    }

    /// The name of the variable according to the usual rule.
    pub(super) fn env_by_rule(&self) -> String {
        format!("ADIT_{}_{}", self.section, self.key).to_ascii_uppercase()
    }

    /// What it means, in one line.
    #[must_use]
    pub fn doc(&self) -> String {
        self.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

/// One table of the file with its settings.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Its name in the file.
    pub name: &'static str,
    /// Whether it is a list: `[[name]]`, any number of times.
    pub record: bool,
    /// Its settings in the order in which they are shown.
    pub settings: &'static [Setting],
    about: &'static [&'static str],
}

impl Part {
    /// What the table is for, in one line.
    #[must_use]
    pub fn about(&self) -> String {
        self.about.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }

    pub(super) const fn of<S: TableSection>() -> Part {
        Part { name: S::NAME, record: S::RECORD, settings: S::SETTINGS, about: S::ABOUT }
    }
}

/// The source from which a section reads its settings.
pub(super) trait ReadSettings {
    /// Reads one value of the current table. Returns `None` only if the table of settings itself is wrong.
    fn setting<T: SettingType>(&mut self, setting: &'static Setting) -> Option<T>;

    /// Reads all tables of a kind, `[[tunnel]]`.
    fn records<S: TableSection>(&mut self) -> Option<Vec<S>>;
}

/// A plain struct that the macro `section!` generates from its rows of the table.
pub(super) trait TableSection: Sized {
    const NAME: &'static str;
    const RECORD: bool;
    const ABOUT: &'static [&'static str];
    const SETTINGS: &'static [Setting];

    /// Reads every setting, even after a fault, so that all faults are reported at once.
    fn build(reader: &mut impl ReadSettings) -> Option<Self>;

    /// The settings in which two values differ.
    fn changed(&self, other: &Self) -> Vec<&'static Setting>;
}

/// Generates, from one list of rows, a struct, the table of its settings and the code that reads it.
///
/// A row consists of the documentation, `field: Type = default`, `in least..=greatest` for types with a size, whether a
/// change takes effect `live` or after a `restart`, `like` an example, `env` for a variable whose name does not follow
/// the rule, and `flag`.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $shape:ident $name:literal => $type:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $value:ty = $preset:tt $(in $least:literal ..= $greatest:literal)?
                , $reload:ident, like $example:literal $(, env $env:literal)? $(, flag $flag:literal)?;
            )+
        }
        $( with {
            $(#[doc = $rows_doc:literal])+
            $rows:ident: $row:ident
        } )*
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $type {
            $( $(#[doc = $doc])+ pub $field: $value, )+
            $( $(#[doc = $rows_doc])+ pub $rows: Vec<$row>, )*
        }

        impl $crate::config::section::TableSection for $type {
            const NAME: &'static str = $name;
            const RECORD: bool = $crate::config::section::shape!($shape);
            const ABOUT: &'static [&'static str] = &[$($about),+];
            const SETTINGS: &'static [$crate::config::section::Setting] = &[
                $( $crate::config::section::Setting::row(
                    ($name, stringify!($field), Self::RECORD),
                    (<$value as $crate::config::setting_type::SettingType>::KIND, <$value as $crate::config::setting_type::SettingType>::SECRET),
                    $crate::config::section::preset!($preset),
                    $crate::config::section::optional!($(($least, $greatest))?),
                    $crate::config::section::optional!($($env)?),
                    $crate::config::section::optional!($($flag)?),
                    $crate::config::section::reload!($reload),
                    ($example, &[$($doc),+]),
                ), )+
            ];

            fn build(reader: &mut impl $crate::config::section::ReadSettings) -> Option<Self> {
                let mut settings = Self::SETTINGS.iter();
                $( let $field = settings.next().and_then(|setting| reader.setting::<$value>(setting)); )+
                $( let $rows = reader.records::<$row>(); )*
                Some(Self { $( $field: $field?, )+ $( $rows: $rows?, )* })
            }

            fn changed(&self, other: &Self) -> Vec<&'static $crate::config::section::Setting> {
                let differs = [$( self.$field != other.$field ),+];
                Self::SETTINGS.iter().zip(differs).filter_map(|(setting, differs)| differs.then_some(setting)).collect()
            }
        }
    };
}

macro_rules! shape {
    (section) => {
        false
    };
    (record) => {
        true
    };
}

macro_rules! preset {
    (required) => {
        $crate::config::section::Preset::Required
    };
    (unset) => {
        $crate::config::section::Preset::Unset
    };
    ($text:literal) => {
        $crate::config::section::Preset::Value($text)
    };
}

macro_rules! reload {
    (live) => {
        $crate::config::section::Reload::Live
    };
    (restart) => {
        $crate::config::section::Reload::Restart
    };
}

macro_rules! optional {
    () => {
        None
    };
    ($some:expr) => {
        Some($some)
    };
}

pub(super) use {optional, preset, reload, section, shape};

impl Setting {
    /// Builds a row from its cells; only for `section!`.
    #[expect(clippy::too_many_arguments, reason = "called by one macro, where each cell has its own syntax")]
    pub(super) const fn row(
        (section, key, record): (&'static str, &'static str, bool),
        (kind, secret): (&'static str, bool),
        preset: Preset,
        bounds: Option<(u64, u64)>,
        env_special: Option<&'static str>,
        flag: Option<&'static str>,
        reload: Reload,
        (example, doc): (&'static str, &'static [&'static str]),
    ) -> Setting {
        Setting { section, key, kind, preset, bounds, flag, reload, example, secret, env_special, record, doc }
    }
}
