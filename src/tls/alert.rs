/// The reason for which a TLS connection is closed before there is a session (RFC 8446 section 6.2). The alert is sent
/// unencrypted, so that a client can tell a refusal from a network failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Alert {
    /// access_denied: the rules do not admit the client to what it asks for.
    AccessDenied = 49,
    /// internal_error: the server cannot answer at the moment.
    InternalError = 80,
}

impl Alert {
    /// The complete TLS record of the fatal alert.
    #[must_use]
    pub const fn record(self) -> [u8; 7] {
        [21, 3, 3, 0, 2, 2, self as u8]
    }
}
