/// Defines an enum whose variants have a number on the wire.
///
/// A number that this version does not know is kept as `Unrecognized`, so that it can be logged and forwarded.
macro_rules! codes {
    (
        $(#[$meta:meta])*
        pub enum $Name:ident { $( $Variant:ident = $code:literal, $text:literal; )* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $Name {
            $( #[doc = concat!("`", stringify!($code), "`: ", $text, ".")] $Variant, )*
            /// A number that this version does not know.
            Unrecognized(u16),
        }

        impl $Name {
            /// Every known value, in the order of the table in `docs/PROTOCOL.md`.
            #[cfg(test)]
            pub const ALL: &'static [$Name] = &[$( $Name::$Variant, )*];

            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self {
                    $( $Name::$Variant => $code, )*
                    $Name::Unrecognized(code) => code,
                }
            }

            /// The value of a number on the wire.
            #[must_use]
            pub const fn from_code(code: u16) -> $Name {
                match code {
                    $( $code => $Name::$Variant, )*
                    other => $Name::Unrecognized(other),
                }
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $( $Name::$Variant => f.write_str($text), )*
                    $Name::Unrecognized(code) => write!(f, "a reason that this version does not know ({code:#06x})"),
                }
            }
        }

        impl std::error::Error for $Name {}
    };
}

pub(in crate::wire) use codes;
