//! What becomes of methods that no rule names.

/// The default for a method that no rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodDefault {
    /// Allowed: the method is part of the protocol, or its lists are filtered.
    Allowed,
    /// Decided by the target. A request without a target is treated as [indirect](MethodDefault::Indirect).
    ByTarget,
    /// The method reaches tools or resources without naming them, such as the result of another call, or resources in a list. It
    /// is denied if any rule applies to the caller or allows something, unless a rule allows the method.
    Indirect,
    /// Denied if the policy has any allow rule.
    Unknown,
}

impl MethodDefault {
    /// The default for this method.
    #[must_use]
    pub fn of(method: &str) -> MethodDefault {
        match method {
            "tools/call"
            | "prompts/get"
            | "resources/read"
            | "resources/subscribe"
            | "resources/unsubscribe"
            | "completion/complete" => MethodDefault::ByTarget,
            "initialize"
            | "server/discover"
            | "ping"
            | "logging/setLevel"
            | "tools/list"
            | "prompts/list"
            | "resources/list"
            | "resources/templates/list" => MethodDefault::Allowed,
            "subscriptions/listen" => MethodDefault::Indirect,
            method if method.starts_with("tasks/") => MethodDefault::Indirect,
            method if method.starts_with("notifications/") => MethodDefault::Allowed,
            _ => MethodDefault::Unknown,
        }
    }
}
