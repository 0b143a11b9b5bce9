/// Why a connection that speaks TLS is closed before there is a session (RFC 8446 section 6.2): said in the clear, so that a
/// client can tell it from a network that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Alert {
    /// access_denied: the rules do not admit the client to what it asks for.
    AccessDenied = 49,
    /// internal_error: who is to answer cannot.
    InternalError = 80,
}

impl Alert {
    /// The whole record, fatal.
    #[must_use]
    pub const fn record(self) -> [u8; 7] {
        [21, 3, 3, 0, 2, 2, self as u8]
    }
}
