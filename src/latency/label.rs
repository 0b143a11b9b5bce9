use std::fmt;

/// The label under which a call is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// The name of the route.
    pub route: Box<str>,
    /// The JSON-RPC method, or the HTTP method if there is no message (`GET`, `DELETE`).
    pub method: Box<str>,
    /// The tool that `tools/call` named; otherwise empty.
    pub tool: Box<str>,
}

impl Label {
    pub(super) fn new(route: &str, method: &str, tool: &str) -> Label {
        Label { route: route.into(), method: method.into(), tool: tool.into() }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.route, self.method, self.tool)
    }
}
