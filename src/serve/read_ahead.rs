//! Reads the start of a body before its call is opened, if a rule depends on the message's method or tool.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::{Budget, Share};
use crate::engine::{Lease, SMALL_LEN, StreamError, push_packed};
use crate::exchange::{BodySource, Piece, Refusal, ToolDenied};
use crate::serve::governed::{Judged, ReadRequest};
use crate::serve::label::CallLabel;
use crate::wire::http1::{BodyError, RequestHead};
use crate::wire::jsonrpc::PEEK_LEN_MAX;
use crate::wire::mcp::PeekOutcome;

/// The part of a body that was read and is still to be sent, in order. Small pieces share buffers.
#[derive(Default)]
pub(super) struct ReadAhead {
    pieces: VecDeque<Lease>,
    len: usize,
    /// The share of the memory for bodies that are read ahead; none unless it had to wait.
    share: Option<Share>,
}

/// The limits of reading a body ahead.
#[derive(Clone, Copy)]
pub struct ReadAheadLimits<'a> {
    /// The memory for all incomplete bodies of a core.
    pub memory: &'a Budget,
    /// How long it may take until the label is known.
    pub timeout: Duration,
}

/// Why a request whose label is needed cannot be forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelError {
    /// A limit was reached.
    Refused(Refusal),
    /// The body is malformed or ambiguous.
    Body(BodyError),
    /// The policy of its route denies it.
    Denied(Box<ToolDenied>),
    /// The caller has left, or its connection failed.
    CallerLeft,
}

impl From<BodyError> for LabelError {
    fn from(error: BodyError) -> LabelError {
        match error {
            BodyError::Truncated => LabelError::CallerLeft,
            error => LabelError::Body(error),
        }
    }
}

impl From<StreamError> for LabelError {
    fn from(_: StreamError) -> LabelError {
        LabelError::CallerLeft
    }
}

impl ReadAhead {
    /// The next piece to send.
    pub(super) fn pop(&mut self) -> Option<Lease> {
        let piece = self.pieces.pop_front();
        match &piece {
            Some(piece) => self.len -= piece.len(),
            None => self.share = None,
        }
        piece
    }

    /// Drops what was not sent, and keeps the memory of the queue.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.len = 0;
        self.share = None;
    }

    /// The number of bytes held.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A contiguous copy of the held bytes.
    pub(super) fn copy(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(self.len);
        self.pieces.iter().for_each(|piece| copy.extend_from_slice(piece));
        copy
    }

    fn push(&mut self, piece: Lease) {
        self.len += piece.len();
        push_packed(&mut self.pieces, 0, piece);
    }

    /// Whether the memory has room for the held bytes.
    fn has_room(&mut self, memory: &Budget) -> bool {
        let bytes = self.len.max(self.pieces.len() * SMALL_LEN);
        self.share.get_or_insert_with(|| memory.share()).set(bytes)
    }
}

impl CallLabel {
    /// Reads the received part of the body until the label is known. True if it is known; false if more has to be
    /// received.
    ///
    /// # Errors
    ///
    /// If the label cannot be determined.
    pub(super) fn read_received(&mut self, head: &RequestHead, body: &mut impl BodySource) -> Result<bool, LabelError> {
        self.is_required = true;
        if self.governed.is_some() {
            return self.judge_received(head, body);
        }
        loop {
            match self.outcome() {
                PeekOutcome::Enough => return Ok(true),
                PeekOutcome::Ambiguous => return Err(BodyError::AmbiguousMessage.into()),
                PeekOutcome::TooLong => return Err(LabelError::Refused(Refusal::LongBody)),
                PeekOutcome::TooLittle => {}
            }
            match body.next()? {
                Piece::Data(piece) => {
                    self.read(&piece);
                    self.ahead.push(piece);
                }
                Piece::Wait => return Ok(false),
                Piece::End => return Ok(true),
            }
        }
    }

    /// Like [`ReadAhead::read_received`] on a route with a policy, which decides as soon as the label is known.
    fn judge_received(&mut self, head: &RequestHead, body: &mut impl BodySource) -> Result<bool, LabelError> {
        let mut has_ended = false;
        loop {
            let Some(governed) = &mut self.governed else { return Ok(true) };
            let identity = self.caller.as_ref().and_then(|caller| caller.identity.as_deref());
            let read = ReadRequest { head, peek: &self.peek, ahead: &self.ahead, has_ended, identity };
            match governed.judge(&read)? {
                Judged::Allowed => return Ok(true),
                Judged::Denied(denied) => return Err(LabelError::Denied(denied)),
                Judged::Unknown if self.ahead.len > PEEK_LEN_MAX => {
                    return Err(LabelError::Refused(Refusal::LongBody));
                }
                Judged::Unknown => {}
            }
            match body.next()? {
                Piece::Data(piece) => {
                    governed.read(&mut self.peek, &piece)?;
                    self.ahead.push(piece);
                }
                Piece::Wait => return Ok(false),
                Piece::End => has_ended = true,
            }
        }
    }

    /// Receives the body until the label is known.
    ///
    /// # Errors
    ///
    /// If the label cannot be determined, or no memory is left to wait for it.
    pub(super) async fn read_on(
        &mut self,
        head: &RequestHead,
        body: &mut impl BodySource,
        memory: &Budget,
    ) -> Result<(), LabelError> {
        while !self.read_received(head, body)? {
            if !self.ahead.has_room(memory) {
                return Err(LabelError::Refused(Refusal::CrowdedBodies));
            }
            body.more().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::base::Rng;
    use crate::engine::{Class, Pool};

    /// A body in pieces of random lengths, some of them after a wait.
    struct Pieces<'a> {
        pool: &'a Pool,
        left: &'a [u8],
        len_max: u64,
        rng: Rng,
        is_received: bool,
    }

    impl BodySource for Pieces<'_> {
        fn next(&mut self) -> Result<Piece, BodyError> {
            if self.left.is_empty() {
                return Ok(Piece::End);
            }
            if !self.is_received {
                return Ok(Piece::Wait);
            }
            self.is_received = self.rng.chance(0.5);
            let len = self.rng.between(1, self.len_max).min(self.left.len() as u64) as usize;
            let mut lease = self.pool.take(Class::for_len(len)).unwrap();
            lease.append(&self.left[..len]);
            self.left = &self.left[len..];
            Ok(Piece::Data(lease))
        }

        async fn more(&mut self) -> Result<(), StreamError> {
            self.is_received = true;
            Ok(())
        }

        fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
            std::iter::empty()
        }
    }

    fn head() -> RequestHead {
        let mut head = RequestHead::new();
        head.feed(b"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n").unwrap();
        head
    }

    fn label() -> CallLabel {
        let mut label = CallLabel::default();
        label.begin(&head());
        label
    }

    fn done<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done,
            Poll::Pending => panic!("the source never waits for long"),
        }
    }

    /// The label of a call before it is opened, or the error.
    type Label = Result<(Option<&'static str>, Option<String>), LabelError>;

    fn known(label: &mut CallLabel) -> (Option<&'static str>, Option<String>) {
        let call = label.call();
        (call.method(), call.tool().map(str::to_owned))
    }

    /// The label of a body in pieces of at most `len_max` bytes, and the part of the body that was forwarded.
    fn passed_on(pool: &Pool, body: &[u8], len_max: u64, seed: u64) -> (Label, Vec<u8>) {
        let memory = Budget::new(1 << 20, 0);
        let (mut label, mut sent) = (label(), Vec::new());
        let mut source = Pieces { pool, left: body, len_max, rng: Rng::new(seed), is_received: false };
        let read = done(label.read_on(&head(), &mut source, &memory));
        if let Err(error) = read {
            return (Err(error), sent);
        }
        let before = known(&mut label);
        assert!(label.ahead.len <= PEEK_LEN_MAX + len_max as usize, "{} bytes are held", label.ahead.len);
        while let Some(piece) = label.ahead.pop() {
            sent.extend_from_slice(&piece);
        }
        loop {
            match source.next().unwrap() {
                Piece::Data(piece) => {
                    if let Err(error) = label.read_passing(&piece) {
                        return (Err(error.into()), sent);
                    }
                    sent.extend_from_slice(&piece);
                }
                Piece::Wait => source.is_received = true,
                Piece::End => break,
            }
        }
        assert_eq!(known(&mut label), before, "the rest of the body changes nothing");
        (Ok(before), sent)
    }

    /// A message with its members in any order, some of them twice, in another case, long or missing; or something else.
    fn body(rng: &mut Rng) -> Vec<u8> {
        const MEMBERS: [&str; 12] = [
            r#""jsonrpc":"2.0""#,
            r#""id":7"#,
            r#""method":"tools/call""#,
            r#""method":"tools\/list""#,
            r#""method":"resources/read""#,
            r#""Method":"ping""#,
            r#""method":5"#,
            r#""params":{"arguments":{"name":"no"},"name":"search"}"#,
            r#""params":{"name":"a","name":"b","uri":"u"}"#,
            r#""result":{"method":"x"}"#,
            r#""error":{}"#,
            r#""params":["name"]"#,
        ];
        let mut members: Vec<String> = Vec::new();
        for _ in 0..rng.between(1, 5) {
            members.push(MEMBERS[rng.below(MEMBERS.len() as u64) as usize].to_owned());
        }
        if rng.chance(0.5) {
            let len_max = if rng.chance(0.5) { 200_000 } else { 500 };
            let long = "x".repeat(rng.below(len_max) as usize);
            members.insert(rng.below(members.len() as u64 + 1) as usize, format!(r#""more":"{long}""#));
        }
        let message = format!("{{{}}}", members.join(","));
        let text = match rng.below(10) {
            0 => format!("[{message}]"),
            1 => message[..message.len() / 2].to_owned(),
            2 => format!("grant_type=refresh_token&{message}"),
            _ => message,
        };
        text.into_bytes()
    }

    #[test]
    fn a_body_has_the_same_label_and_the_same_bytes_however_it_is_cut() {
        let pool = Pool::new(64 << 20);
        let mut rng = Rng::new(11);
        let (mut good, mut ambiguous, mut long) = (0, 0, 0);
        for nth in 0..2_000 {
            let body = body(&mut rng);
            let (whole, sent) = passed_on(&pool, &body, 60_000, nth);
            for len_max in [1_500, 7] {
                if body.len() > 20_000 && len_max == 7 {
                    continue;
                }
                let (cut, sent) = passed_on(&pool, &body, len_max, nth);
                assert_eq!(cut, whole, "{}", body[..body.len().min(300)].escape_ascii());
                assert_eq!(cut.is_ok(), sent == body, "a refused body is not forwarded completely");
            }
            match whole {
                Ok(_) => {
                    assert_eq!(sent, body);
                    good += 1;
                }
                Err(LabelError::Body(BodyError::AmbiguousMessage)) => ambiguous += 1,
                Err(LabelError::Refused(Refusal::LongBody)) => long += 1,
                Err(other) => panic!("{other:?}"),
            }
            assert_eq!(pool.usage().leased_bytes, 0);
        }
        assert!(good > 500 && ambiguous > 300 && long > 50, "{good} good, {ambiguous} ambiguous, {long} long");
    }

    /// A source that never has more.
    struct Stalled;

    impl BodySource for Stalled {
        fn next(&mut self) -> Result<Piece, BodyError> {
            Ok(Piece::Wait)
        }

        async fn more(&mut self) -> Result<(), StreamError> {
            Err(StreamError::Reset)
        }

        fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
            std::iter::empty()
        }
    }

    #[test]
    fn bodies_that_wait_share_their_memory_and_give_it_back() {
        let (pool, memory) = (Pool::new(64 << 20), Budget::new(3 * SMALL_LEN, 0));
        let mut labels = [(); 3].map(|()| label());
        for label in &mut labels {
            let mut lease = pool.take(Class::Small).unwrap();
            lease.append(b"{");
            label.read(&lease);
            label.ahead.push(lease);
            assert_eq!(done(label.read_on(&head(), &mut Stalled, &memory)), Err(LabelError::CallerLeft));
        }
        let mut late = label();
        late.ahead.push(pool.take(Class::Small).map(|mut lease| (lease.append(b"{"), lease).1).unwrap());
        let crowded = Err(LabelError::Refused(Refusal::CrowdedBodies));
        assert_eq!(done(late.read_on(&head(), &mut Stalled, &memory)), crowded);
        while labels[0].ahead.pop().is_some() {}
        assert_eq!(done(late.read_on(&head(), &mut Stalled, &memory)), Err(LabelError::CallerLeft));
        labels.iter_mut().chain([&mut late]).for_each(|label| label.ahead.clear());
        assert_eq!((pool.usage().leased_bytes, memory.used()), (0, 0));
    }
}
