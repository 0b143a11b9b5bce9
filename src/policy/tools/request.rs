//! Reads the method and target of a request as its server does. A request with more than one reading is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::policy::tools::decision::{Asked, Target};
use crate::wire::http1::{BodyError, RequestHead};
use crate::wire::jsonrpc::{MessageMember, Peek, Reading};
use crate::wire::mcp;

/// The maximum length of a name that a header field may encode, in bytes.
const WRAPPED_LEN_MAX: usize = 2_048;

/// What has been parsed of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads<'a> {
    /// More of the body is needed to decide.
    Unknown,
    /// A message with a method.
    Asks(Asked<'a>),
    /// No method: a response of the caller to a server request, a body that is not JSON-RPC, or an empty body.
    NoMethod,
}

/// The kind of a request body, by its head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyKind {
    /// A message, or other JSON.
    #[default]
    Json,
    /// A form, such as a request for a token (RFC 6749 section 4).
    Form,
}

impl BodyKind {
    /// Classifies the body of a request by its head.
    ///
    /// # Errors
    ///
    /// If the server may decode the body to other characters than these bytes.
    pub fn of(head: &RequestHead) -> Result<BodyKind, BodyError> {
        let mut kind = None;
        for (name, value) in head.headers() {
            if name.eq_ignore_ascii_case(b"content-encoding") && !value.eq_ignore_ascii_case(b"identity") {
                return Err(BodyError::ContentCoding);
            }
            if name.eq_ignore_ascii_case(b"content-type") {
                // If the field occurs twice, servers use either.
                if kind.is_some() {
                    return Err(BodyError::AmbiguousHead);
                }
                kind = Some(BodyKind::of_type(value)?);
            }
        }
        Ok(kind.unwrap_or_default())
    }

    fn of_type(value: &[u8]) -> Result<BodyKind, BodyError> {
        let mut parts = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let kind = parts.next().unwrap_or_default();
        for part in parts {
            let (name, text) = part.split_at(part.iter().position(|byte| *byte == b'=').unwrap_or(part.len()));
            if name.trim_ascii().eq_ignore_ascii_case(b"charset") {
                let text = text.get(1..).unwrap_or_default().trim_ascii();
                let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
                if ![&b"utf-8"[..], b"utf8", b"us-ascii"].iter().any(|known| text.eq_ignore_ascii_case(known)) {
                    return Err(BodyError::Charset);
                }
            }
        }
        let is_form = kind.eq_ignore_ascii_case(b"application/x-www-form-urlencoded");
        Ok(if is_form { BodyKind::Form } else { BodyKind::Json })
    }

    /// Whether a body of this kind may start like this. A form that starts like JSON may be parsed as JSON.
    #[must_use]
    pub fn begins_with(self, first: u8) -> bool {
        self == BodyKind::Json || first.is_ascii_alphanumeric() || b"%_-.~*+".contains(&first)
    }
}

/// Reads the method and target of a request from the parsed part of its body. `has_ended` tells whether the body is complete.
///
/// # Errors
///
/// If servers may read the request differently, if it is not a single message, or if its head contradicts its body.
pub fn read_request<'a>(head: &RequestHead, peek: &'a Peek, has_ended: bool) -> Result<Reads<'a>, BodyError> {
    check_message(peek)?;
    if peek.reading(MessageMember::Method) == Reading::Absent {
        if peek.has_outcome() || peek.is_whole() || (has_ended && peek.inspected() == 0) {
            return Ok(Reads::NoMethod);
        }
        return if has_ended { Err(BodyError::MalformedMessage) } else { Ok(Reads::Unknown) };
    }
    let method = peek.method().ok_or(BodyError::UncertainName)?;
    let may_come = !has_ended && !peek.is_whole();
    let target = match method {
        "tools/call" => text(peek, MessageMember::Name, may_come)?.map(Target::Tool),
        "prompts/get" => text(peek, MessageMember::Name, may_come)?.map(Target::Prompt),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
            text(peek, MessageMember::Uri, may_come)?.map(Target::Resource)
        }
        // A second name may follow the first.
        "completion/complete" if may_come => None,
        "completion/complete" => match (peek.reading(MessageMember::Name), peek.reading(MessageMember::Uri)) {
            (Reading::Absent, Reading::Absent) => Some(Target::Nothing),
            (_, Reading::Absent) => text(peek, MessageMember::Name, false)?.map(Target::Prompt),
            (Reading::Absent, _) => text(peek, MessageMember::Uri, false)?.map(Target::Template),
            _ => return Err(BodyError::AmbiguousMessage),
        },
        _ => Some(Target::Nothing),
    };
    let Some(target) = target else { return Ok(Reads::Unknown) };
    let task = method.starts_with("tasks/").then(|| peek.task_id()).flatten();
    check_fields(head, method, target.name().filter(|_| method != "completion/complete").or(task))?;
    Ok(Reads::Asks(Asked { method, target }))
}

/// Checks the parsed part of a message, whatever its method.
///
/// # Errors
///
/// As for [`read_request`].
pub fn check_message(peek: &Peek) -> Result<(), BodyError> {
    const MEMBERS: [MessageMember; 4] =
        [MessageMember::Method, MessageMember::Name, MessageMember::Uri, MessageMember::TaskId];
    let is_doubled = MEMBERS.iter().any(|member| peek.reading(*member) == Reading::Doubled);
    let is_both = peek.has_outcome() && peek.reading(MessageMember::Method) != Reading::Absent;
    if peek.is_batch() || is_doubled || is_both {
        return Err(BodyError::AmbiguousMessage);
    }
    if peek.is_broken() {
        return Err(BodyError::MalformedMessage);
    }
    if peek.is_torn() || peek.has_unknown_id() {
        return Err(BodyError::UncertainName);
    }
    Ok(())
}

/// The value of a member; `None` if it may still come, and empty if it is absent.
fn text(peek: &Peek, member: MessageMember, may_come: bool) -> Result<Option<&str>, BodyError> {
    let member_text = match (member, peek.reading(member)) {
        (_, Reading::Absent) if may_come => return Ok(None),
        (_, Reading::Absent) => return Ok(Some("")),
        (MessageMember::Uri, _) => peek.uri(),
        _ => peek.name(),
    };
    match member_text {
        Some(member_text) if !member_text.chars().any(char::is_control) => Ok(Some(member_text)),
        _ => Err(BodyError::UncertainName),
    }
}

/// Checks that the head agrees with the body. This also applies to revisions in which these fields have no meaning.
fn check_fields(head: &RequestHead, method: &str, name: Option<&str>) -> Result<(), BodyError> {
    for (field, value) in head.headers() {
        let agrees = if field.eq_ignore_ascii_case(mcp::METHOD.as_bytes()) {
            value == method.as_bytes()
        } else if field.eq_ignore_ascii_case(mcp::NAME.as_bytes()) {
            name.is_none_or(|name| says(value, name))
        } else {
            true
        };
        if !agrees {
            return Err(BodyError::HeadContradicts);
        }
    }
    Ok(())
}

/// Whether a field value, which may be encoded, is this name (revision 2026-07-28, "Header value encoding").
fn says(value: &[u8], name: &str) -> bool {
    match value.strip_prefix(b"=?base64?").and_then(|rest| rest.strip_suffix(b"?=")) {
        Some(wrapped) => {
            let mut decoded = [0; WRAPPED_LEN_MAX];
            STANDARD.decode_slice(wrapped, &mut decoded).is_ok_and(|len| decoded[..len] == *name.as_bytes())
        }
        None => value == name.as_bytes(),
    }
}
