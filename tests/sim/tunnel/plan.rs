//! What each call asks and what it is to be answered: agents and the upstream both know it from the call's number.

use std::time::Duration;

use adit::base::Rng;

/// From this number on calls ask for the list of the tools.
pub(crate) const LISTS: u64 = 50_000;

/// The tool that only reads.
const ONLY_READS: &str = "echo";

/// What sort of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// POST, answered with JSON.
    Json,
    /// POST, answered with events.
    Sse,
    /// POST of a larger body in chunks, answered with JSON.
    Upload,
    /// GET, answered with events that are far apart.
    Watch,
    /// DELETE, answered with no body.
    Delete,
    /// POST that asks for the list of the tools. It suffers nothing.
    List,
}

/// How the answer's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By Content-Length.
    Length,
    /// By chunks.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// How the upstream fails a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It does not.
    Answers,
    /// It breaks its connection off when it has read the request.
    DiesBeforeTheAnswer,
    /// It breaks its connection off after some pieces of the answer.
    DiesAfter(usize),
}

/// When the agent goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// It stays for the whole answer.
    Never,
    /// So long after it began.
    After(Duration),
}

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    pub(crate) request: Vec<u8>,
    pub(crate) request_chunked: bool,
    /// Bytes that the agent sends at a time, and how long it waits in between.
    pub(crate) request_piece: usize,
    pub(crate) request_gap: Duration,
    pub(crate) expects_continue: bool,
    pub(crate) leaving: Leaving,
    /// What the upstream sends at a time, how long before the first and between the others.
    pub(crate) answer: Vec<Vec<u8>>,
    pub(crate) framing: Framing,
    pub(crate) service: Duration,
    pub(crate) gap: Duration,
    pub(crate) fate: Fate,
    /// The upstream closes its connection after the answer.
    pub(crate) closes: bool,
}

/// Which adversities plans may contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Agents stay and the upstream answers.
    Fair,
    /// Agents leave and the upstream breaks off, now and then.
    Foul,
}

impl Plan {
    /// The plan of call `id` in the run of `seed`.
    pub(crate) fn of(seed: u64, id: u64, weather: Weather) -> Plan {
        let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(id));
        let kind = match rng.below(10) {
            _ if id >= LISTS => Kind::List,
            0..=4 => Kind::Json,
            5 | 6 => Kind::Sse,
            7 => Kind::Upload,
            8 => Kind::Watch,
            _ => Kind::Delete,
        };
        let request_chunked = kind == Kind::Upload || (kind == Kind::Json && rng.chance(0.2));
        let answer = answer(&mut rng, id, kind);
        let foul = weather == Weather::Foul && kind != Kind::List;
        Plan {
            id,
            kind,
            request: request(&mut rng, id, kind),
            request_chunked,
            request_piece: rng.between(20, 9000) as usize,
            request_gap: Duration::from_micros(if rng.chance(0.5) { 0 } else { rng.below(3000) }),
            expects_continue: matches!(kind, Kind::Json | Kind::Upload) && rng.chance(0.1),
            leaving: leaving(&mut rng, foul),
            framing: framing(&mut rng, kind),
            service: Duration::from_micros(if rng.chance(0.5) { 0 } else { rng.below(50_000) }),
            gap: Duration::from_millis(match kind {
                Kind::Watch => rng.between(1, 90_000),
                Kind::Sse => rng.below(500),
                _ => rng.below(5),
            }),
            fate: if foul { fate(&mut rng, answer.len()) } else { Fate::Answers },
            closes: rng.chance(0.2),
            answer,
        }
    }

    /// The method on the request line.
    pub(crate) fn method(&self) -> &'static str {
        match self.kind {
            Kind::Json | Kind::Sse | Kind::Upload | Kind::List => "POST",
            Kind::Watch => "GET",
            Kind::Delete => "DELETE",
        }
    }

    /// Whether it calls the tool of which the upstream says that it only reads.
    pub(crate) fn only_reads(&self) -> bool {
        tool_of(self.id) == ONLY_READS && matches!(self.kind, Kind::Json | Kind::Sse | Kind::Upload)
    }

    /// What the answer's `Content-Type` is.
    pub(crate) fn content_type(&self) -> &'static str {
        match self.kind {
            Kind::Sse | Kind::Watch => "text/event-stream",
            _ => "application/json",
        }
    }

    /// The whole body of the answer.
    pub(crate) fn whole_answer(&self) -> Vec<u8> {
        self.answer.concat()
    }

    /// Whether the answer is an event stream that belongs to no call, and an event ends after `len` bytes of it.
    pub(crate) fn may_end_at(&self, len: usize) -> bool {
        let mut ends = self.answer.iter().scan(0, |end, event| {
            *end += event.len();
            Some(*end)
        });
        self.kind == Kind::Watch && (len == 0 || ends.any(|end| end == len))
    }
}

fn request(rng: &mut Rng, id: u64, kind: Kind) -> Vec<u8> {
    let pad = match kind {
        Kind::Json | Kind::Sse => small(rng),
        Kind::Upload => rng.below(80_000),
        Kind::Watch | Kind::Delete => return Vec::new(),
        Kind::List => return format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#).into_bytes(),
    };
    let pad = letters(rng, pad);
    let tool = tool_of(id);
    let call =
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","pad":"{pad}"}}}}"#);
    call.into_bytes()
}

/// The tool of call `id`.
fn tool_of(id: u64) -> &'static str {
    if id.is_multiple_of(3) { "save" } else { ONLY_READS }
}

fn answer(rng: &mut Rng, id: u64, kind: Kind) -> Vec<Vec<u8>> {
    match kind {
        Kind::Json | Kind::Upload => {
            let pad = small(rng);
            let pad = letters(rng, pad);
            let whole = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"pad":"{pad}"}}}}"#).into_bytes();
            let piece = rng.between(1, whole.len() as u64).max(64) as usize;
            whole.chunks(piece).map(<[u8]>::to_vec).collect()
        }
        Kind::Sse | Kind::Watch => (0..rng.between(1, 8))
            .map(|n| {
                let pad = small(rng) / 4;
                let pad = letters(rng, pad);
                format!("id: {n}\ndata: {{\"call\":{id},\"pad\":\"{pad}\"}}\n\n").into_bytes()
            })
            .collect(),
        Kind::Delete => Vec::new(),
        Kind::List => {
            let tools =
                format!(r#"[{{"name":"{ONLY_READS}","annotations":{{"readOnlyHint":true}}}},{{"name":"save"}}]"#);
            vec![format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tools":{tools}}}}}"#).into_bytes()]
        }
    }
}

fn framing(rng: &mut Rng, kind: Kind) -> Framing {
    match kind {
        Kind::Sse | Kind::Watch => Framing::Chunked,
        Kind::Delete | Kind::List => Framing::Length,
        _ => [Framing::Length, Framing::Length, Framing::Chunked, Framing::Close][rng.below(4) as usize],
    }
}

fn leaving(rng: &mut Rng, foul: bool) -> Leaving {
    let leaves = rng.chance(0.15);
    let after = Duration::from_micros(if rng.chance(0.5) { rng.below(1000) } else { rng.below(500_000) });
    if foul && leaves { Leaving::After(after) } else { Leaving::Never }
}

fn fate(rng: &mut Rng, pieces: usize) -> Fate {
    match rng.below(20) {
        0 => Fate::DiesBeforeTheAnswer,
        1 => Fate::DiesAfter(rng.below(pieces as u64 + 1) as usize),
        _ => Fate::Answers,
    }
}

/// Mostly small, at times large.
fn small(rng: &mut Rng) -> u64 {
    if rng.chance(0.9) { rng.below(2000) } else { rng.below(40_000) }
}

fn letters(rng: &mut Rng, len: u64) -> String {
    (0..len).map(|_| char::from(b'a' + rng.below(26) as u8)).collect()
}
