//! A link on several ordered streams of a transport: one for control, and one for each call. The frames are the same; only their
//! order between streams is not kept.

use crate::base::{Chunk, Time};

use super::cause::Cause;
use super::fault::Fault;
use super::frame::{FrameKind, HEADER_LEN, Header};
use super::machine::Mux;
use super::receive::Inbound;

/// The position in the frames of one transport stream.
#[derive(Debug)]
pub struct Lane {
    inbound: Inbound,
    stream: Option<u32>,
}

/// Where a frame goes, if each call has a transport stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LanePlace {
    /// On the transport stream for control. Credit goes there too, so that a finished transport stream need carry none.
    Control,
    /// On the transport stream of this call.
    Call {
        /// The id of the link's stream.
        stream: u32,
        /// How the call's transport stream continues after the frame.
        after: LaneAfter,
    },
}

/// How a transport stream continues after a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneAfter {
    /// More frames may follow.
    Continues,
    /// No frame follows this one.
    Finishes,
    /// No frame follows, and none of the other side is wanted, for this cause.
    Resets(Cause),
}

impl Lane {
    /// The transport stream for control.
    #[must_use]
    pub fn control() -> Lane {
        Lane { inbound: Inbound::new(), stream: None }
    }

    /// The transport stream of one call.
    #[must_use]
    pub fn of_call(stream: u32) -> Lane {
        Lane { inbound: Inbound::new(), stream: Some(stream) }
    }
}

impl LanePlace {
    /// The place of a frame whose header and control payload are `head`, as [`FrameSink`](super::FrameSink) is given them.
    #[must_use]
    pub fn of(head: &[u8]) -> LanePlace {
        let Some(Ok(header)) = head.first_chunk().map(Header::decode) else { return LanePlace::Control };
        let after = match header.kind {
            FrameKind::Reset => {
                let code =
                    head.get(HEADER_LEN..).and_then(<[u8]>::first_chunk).map_or(0, |code| u16::from_be_bytes(*code));
                LaneAfter::Resets(Cause::from_code(code))
            }
            FrameKind::Fin => LaneAfter::Finishes,
            _ if header.fin => LaneAfter::Finishes,
            _ => LaneAfter::Continues,
        };
        match (header.kind, header.stream) {
            (FrameKind::Credit, _) | (_, 0) => LanePlace::Control,
            (_, stream) => LanePlace::Call { stream, after },
        }
    }
}

impl LanePlace {
    /// The same place for a part of the frame that is not its last.
    #[must_use]
    pub fn without_end(self) -> LanePlace {
        match self {
            LanePlace::Control => LanePlace::Control,
            LanePlace::Call { stream, .. } => LanePlace::Call { stream, after: LaneAfter::Continues },
        }
    }
}

impl<B: Chunk> Mux<B> {
    /// From now on the link's streams have transport streams of their own, so that their frames may overtake each other.
    pub fn use_lanes(&mut self) {
        self.has_lanes = true;
    }

    /// [`Mux::receive`] for bytes of one transport stream.
    pub fn receive_on(&mut self, now: Time, lane: &mut Lane, chunk: B) {
        std::mem::swap(&mut self.inbound, &mut lane.inbound);
        self.lane = Some(lane.stream);
        self.receive(now, chunk);
        self.lane = None;
        std::mem::swap(&mut self.inbound, &mut lane.inbound);
    }

    /// Processes that the peer wants nothing more of a stream and sends nothing more on it. Ignored if it is gone.
    pub fn receive_reset(&mut self, now: Time, stream: u32, cause: Cause) {
        if self.is_live(stream)
            && let Err(fault) = self.on_reset(now, stream, &cause.code().to_be_bytes())
        {
            self.close(fault);
        }
    }

    /// Whether a stream with this id exists, and its OPEN was received or sent.
    #[must_use]
    pub fn is_live(&self, stream: u32) -> bool {
        self.streams.find(stream).is_some()
    }

    /// Whether a frame may come on the transport stream that is being read.
    pub(super) fn check_lane(&self, header: Header) -> Result<(), Fault> {
        match self.lane {
            None => Ok(()),
            Some(None) if header.stream == 0 || header.kind == FrameKind::Credit => Ok(()),
            Some(Some(stream)) if header.stream == stream && header.kind != FrameKind::Credit => Ok(()),
            Some(_) => Err(Fault::StreamUnknown),
        }
    }
}
