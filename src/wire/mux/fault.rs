use crate::wire::codes::codes;
use crate::wire::field::FieldError;

codes! {
    /// Why a link ended: the code in CLOSE, and in [`Event::Closed`](super::Event::Closed).
    ///
    /// `0x00xx` is not a protocol error, `0x01xx` a malformed frame, `0x02xx` a frame at the wrong time, `0x03xx` a
    /// violation of the rules for streams, `0x04xx` of those for flow control, `0x05xx` a flood.
    pub enum Fault {
        Ended = 0x0000, "the link was closed on purpose";
        HelloTimeout = 0x0001, "the greeting did not arrive in time";
        PeerSilent = 0x0002, "the peer has been silent for too long";
        TransportLost = 0x0003, "the connection under the link was lost";
        Refused = 0x0004, "the edge refused the link";
        DrainTimeout = 0x0005, "the calls did not finish within the drain timeout";
        Internal = 0x0006, "an internal error of the side that closed the link";
        Revoked = 0x0007, "the credential of the link is no longer valid";
        Stuck = 0x0008, "sent data was not acknowledged although data arrived from the peer; the path may lose large packets: lower the MTU or MSS";

        UnknownType = 0x0100, "a frame of an unknown type";
        UnknownFlag = 0x0101, "a frame with a flag that its type does not have";
        FrameLength = 0x0102, "a frame longer or shorter than its type may be";
        StreamOnLinkFrame = 0x0103, "a frame of the link itself that names a stream";
        StreamMissing = 0x0104, "a frame of a stream that names none";
        Truncated = 0x0105, "a field that runs past the end of its frame";
        TrailingBytes = 0x0106, "bytes after the last field of a frame";
        BadText = 0x0107, "a text that is not UTF-8 or has control characters";
        BadMagic = 0x0108, "a greeting that is not of this protocol";
        BadTunnelId = 0x0109, "an invalid tunnel id";
        FieldRange = 0x010a, "a field outside the range that it may have";
        BadHost = 0x010b, "a list of hosts that has an invalid host or is out of order";

        HelloExpected = 0x0200, "another frame where HELLO must come first";
        WelcomeExpected = 0x0201, "another frame where WELCOME or REFUSED must come";
        GreetingRepeated = 0x0202, "a second greeting";
        TooEarly = 0x0203, "a frame before the greeting was answered";
        WrongSide = 0x0204, "a frame that only the other side may send";
        VersionUnsupported = 0x0205, "no protocol version in common";
        VersionNotOffered = 0x0206, "the chosen version was not offered";
        PongUnexpected = 0x0207, "an answer to a ping that was not sent";
        DrainRepeated = 0x0208, "a second DRAIN";

        StreamIdEven = 0x0300, "an even stream id";
        StreamIdReused = 0x0301, "a stream id that does not ascend";
        StreamUnknown = 0x0302, "a frame for a stream that was never opened";
        StreamsExceeded = 0x0303, "more open streams than agreed";
        OpenAfterDrain = 0x0304, "a stream opened after DRAIN";
        FrameAfterFin = 0x0305, "a frame after the FIN of its stream";
        StaleData = 0x0306, "more data for a closed stream than can have been in transit";
        StaleFrames = 0x0307, "more frames for closed streams than can have been in transit";
        PhasesRepeated = 0x0308, "more PHASES than the DATA of the stream allow for";

        StreamCreditExceeded = 0x0400, "more data than the stream's credit";
        LinkCreditExceeded = 0x0401, "more data than the link's credit";
        CreditZero = 0x0402, "a credit of nothing";
        CreditOverflow = 0x0403, "credit beyond what can be counted";

        ResetFlood = 0x0500, "streams opened and reset too fast";
        PingFlood = 0x0501, "pings too fast";
        EmptyDataFlood = 0x0502, "empty DATA frames too fast";
        HostsFlood = 0x0503, "lists of hosts too fast";
    }
}

impl From<FieldError> for Fault {
    fn from(error: FieldError) -> Fault {
        match error {
            FieldError::Truncated => Fault::Truncated,
            FieldError::TrailingBytes => Fault::TrailingBytes,
            FieldError::BadText => Fault::BadText,
            FieldError::Range => Fault::FieldRange,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn fault_codes_are_unique_and_round_trip() {
        let codes: HashSet<u16> = Fault::ALL.iter().map(|fault| fault.code()).collect();
        assert_eq!(codes.len(), Fault::ALL.len());
        assert!(Fault::ALL.iter().all(|fault| Fault::from_code(fault.code()) == *fault));
        assert_eq!(Fault::from_code(0x7777), Fault::Unrecognized(0x7777));
        assert_eq!(Fault::Unrecognized(0x7777).code(), 0x7777);
    }

    #[test]
    fn every_code_is_in_the_protocol_page() {
        let page = include_str!("../../../docs/PROTOCOL.md");
        for fault in Fault::ALL {
            let row = format!("| `0x{:04x}` | {fault:?} |", fault.code());
            assert!(page.contains(&row), "docs/PROTOCOL.md lacks {row}");
        }
    }
}
