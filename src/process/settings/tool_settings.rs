//! The settings of single tools.

use std::sync::Arc;

use super::unless_zero;
use crate::base::{BreakerOverrides, DeadlineOverrides};
use crate::config::{Hedge, ToolConfig};
use crate::route::{HostPattern, ToolOverrides};

/// The settings of the tools of a host.
pub(super) fn tools_of(tools: &[ToolConfig], host: &HostPattern) -> Arc<[ToolOverrides]> {
    let own = |tool: &ToolConfig| ToolOverrides {
        tool: tool.tool.0.as_str().into(),
        deadlines: DeadlineOverrides {
            mode: tool.deadline,
            floor: tool.deadline_floor_ms.map(Into::into),
            ceiling: tool.first_byte_timeout_ms.map(|limit| unless_zero(limit.into())),
            progress_max: tool.progress_max_ms.map(Into::into),
        },
        breaker: BreakerOverrides { mode: tool.breaker },
        price: tool.price_per_call.0,
        hedge: tool.hedge.map(|hedge| hedge == Hedge::ReadOnly),
    };
    tools.iter().filter(|tool| tool.host == *host).map(own).collect()
}
