use crate::wire::field::Fields;

use super::fault::Fault;

pub(super) const PHASES_LEN: usize = 1 + 4 * 8;

/// The stages at which a connector reports the times of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Just before the head of the response. `upstream_last_ns` is not known yet and is zero.
    Head,
    /// At the end of the call: all values are final.
    End,
}

/// The connector's times of a call, in nanoseconds on the connector's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phases {
    /// The stage of this report.
    pub stage: Stage,
    /// The time of the connector's own work.
    pub connector_ns: u64,
    /// The time to connect to the upstream; zero if a pooled connection was free.
    pub upstream_connect_ns: u64,
    /// The time from the first byte sent to the upstream to the first byte received from it.
    pub upstream_first_ns: u64,
    /// The time from the first byte sent to the upstream to the last byte received from it.
    pub upstream_last_ns: u64,
}

impl Phases {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.stage {
            Stage::Head => 0,
            Stage::End => 1,
        });
        for ns in [self.connector_ns, self.upstream_connect_ns, self.upstream_first_ns, self.upstream_last_ns] {
            out.extend_from_slice(&ns.to_be_bytes());
        }
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Phases, Fault> {
        let mut fields = Fields::new(payload);
        let stage = match fields.u8()? {
            0 => Stage::Head,
            1 => Stage::End,
            _ => return Err(Fault::FieldRange),
        };
        let phases = Phases {
            stage,
            connector_ns: fields.u64()?,
            upstream_connect_ns: fields.u64()?,
            upstream_first_ns: fields.u64()?,
            upstream_last_ns: fields.u64()?,
        };
        fields.end()?;
        Ok(phases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_round_trip_and_an_unknown_stage_is_named() {
        for stage in [Stage::Head, Stage::End] {
            let phases = Phases {
                stage,
                connector_ns: 1,
                upstream_connect_ns: 2,
                upstream_first_ns: 3,
                upstream_last_ns: u64::MAX,
            };
            let mut out = Vec::new();
            phases.encode(&mut out);
            assert_eq!(out.len(), PHASES_LEN);
            assert_eq!(Phases::decode(&out), Ok(phases));
            out[0] = 2;
            assert_eq!(Phases::decode(&out), Err(Fault::FieldRange));
        }
    }
}
