//! Counters of events other than successful calls. One table defines the field, the metric's name and its help text.

/// One counter as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The stable name, such as `links_ended`. The metric is called the same, with `adit_` in front.
    pub name: &'static str,
    /// What is counted: one sentence without a full stop.
    pub help: &'static str,
    /// How often it happened since the start.
    pub count: u64,
}

/// Defines a struct of counters that all cores share.
///
/// Each line is a field with its help. The name of the field is the name of the metric.
macro_rules! counters {
    (
        $(#[$meta:meta])*
        $vis:vis struct $Name:ident { $( $field:ident, $help:literal; )* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        $vis struct $Name {
            $( #[doc = concat!($help, ".")] $vis $field: std::sync::atomic::AtomicU64, )*
        }

        impl $Name {
            /// Counts one event, from any core.
            pub(super) fn add(counter: &std::sync::atomic::AtomicU64) {
                counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }

            /// All counters, in the order of their table.
            #[must_use]
            $vis fn counts(&self) -> Vec<$crate::base::Count> {
                vec![$( $crate::base::Count {
                    name: stringify!($field),
                    help: $help,
                    count: self.$field.load(std::sync::atomic::Ordering::Relaxed),
                }, )*]
            }
        }
    };
}

pub(crate) use counters;

#[cfg(test)]
mod tests {
    use super::*;

    counters! {
        /// Two counters, in the order in which they must be printed.
        pub(super) struct Sample {
            links_ended, "Links that ended";
            links_made, "Links that came up";
        }
    }

    #[test]
    fn a_line_of_the_table_is_the_field_and_the_metric() {
        let sample = Sample::default();
        Sample::add(&sample.links_made);
        let count = |name, help, count| Count { name, help, count };
        assert_eq!(
            sample.counts(),
            [count("links_ended", "Links that ended", 0), count("links_made", "Links that came up", 1)]
        );
    }
}
