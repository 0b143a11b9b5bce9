/// The number of status classes.
pub const STATUS_CLASSES: usize = StatusClass::ALL.len();

/// The class of an upstream's status (RFC 9110, section 15). The names do not change: metrics use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StatusClass {
    /// Status codes 200 to 299.
    Success,
    /// Status codes 300 to 399.
    Redirection,
    /// Status codes 400 to 499.
    ClientError,
    /// Status codes 500 and higher, apart from those of a gateway.
    ServerError,
    /// 502, 503 and 504: the response of a proxy whose server does not respond.
    Gateway,
}

impl StatusClass {
    /// All classes, in display order.
    pub const ALL: [StatusClass; 5] = [
        StatusClass::Success,
        StatusClass::Redirection,
        StatusClass::ClientError,
        StatusClass::ServerError,
        StatusClass::Gateway,
    ];

    /// The class of the status of a final answer.
    #[must_use]
    pub const fn of(status: u16) -> StatusClass {
        match status {
            0..=299 => StatusClass::Success,
            300..=399 => StatusClass::Redirection,
            400..=499 => StatusClass::ClientError,
            502..=504 => StatusClass::Gateway,
            _ => StatusClass::ServerError,
        }
    }

    /// The name in metrics and JSON. It does not change between releases.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            StatusClass::Success => "2xx",
            StatusClass::Redirection => "3xx",
            StatusClass::ClientError => "4xx",
            StatusClass::ServerError => "5xx",
            StatusClass::Gateway => "gateway",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_a_gateway_and_of_a_server_are_distinguished() {
        for (status, name) in [
            (200, "2xx"),
            (202, "2xx"),
            (307, "3xx"),
            (404, "4xx"),
            (500, "5xx"),
            (501, "5xx"),
            (505, "5xx"),
            (599, "5xx"),
        ] {
            assert_eq!(StatusClass::of(status).name(), name);
        }
        assert!([502, 503, 504].iter().all(|status| StatusClass::of(*status) == StatusClass::Gateway));
        for (at, class) in StatusClass::ALL.iter().enumerate() {
            assert_eq!(*class as usize, at);
        }
    }
}
