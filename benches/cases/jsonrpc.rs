//! The look at a call's message while it passes.

use std::hint::black_box;

use adit::wire::jsonrpc::Peek;

use super::Work;

/// A `tools/call` of so many bytes.
pub(crate) fn tools_call(len: usize) -> String {
    const BEFORE: &str =
        r#"{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"echo","arguments":{"text":""#;
    const AFTER: &str = r#""}}}"#;
    format!("{BEFORE}{}{AFTER}", "x".repeat(len - BEFORE.len() - AFTER.len()))
}

pub(crate) fn peek() -> Work {
    let message = tools_call(1024);
    let mut peek = Peek::default();
    Box::new(move || {
        peek.clear();
        peek.feed(black_box(message.as_bytes()));
        assert_eq!((peek.method(), peek.name(), peek.id()), (Some("tools/call"), Some("echo"), Some("17")));
    })
}
