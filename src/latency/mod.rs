//! Floor 1: how long calls take, and in which part of the path. It computes with durations that are passed in, and
//! reads no clock.
//!
//! [`EdgeStamps`] and [`ConnectorStamps`] turn the times at which a call passed certain points into durations.
//! [`CallPhases`] divides the total among the phases. A [`Recorder`] on each core keeps the histograms, and a
//! [`Snapshot`] adds up the figures of the cores. A [`Deadline`] limits how long a call may take, by what was
//! [`Learned`] from earlier calls. [`LabelBreakers`] decide whether a call is made at all, by how earlier calls ended.
//! A [`CallQueue`] limits how many calls of a route are in flight. A [`CallLog`] keeps the last calls, one by one, and
//! a [`TaskTable`] the totals of each agent task. A [`TraceQueue`] has the calls whose spans are exported.

mod breaker;
mod breaker_table;
mod call_id;
mod call_limit;
mod call_log;
mod call_queue;
mod call_record;
mod call_trace;
mod concurrency_limit;
mod deadline;
mod figures;
mod hedge;
mod histogram;
mod label;
mod learned;
mod outcome;
mod phases;
mod readiness;
mod recorder;
mod retry;
mod server_timing;
mod shared_breaker;
mod slow;
mod snapshot;
mod stamps;
mod status_class;
mod tasks;
mod trace_context;
mod window;

pub use breaker::{BreakerChange, BreakerOpen, BreakerState, CallCounts, ForcedState};
pub use breaker_table::{
    BreakerChanges, BreakerReading, BreakerScope, BreakerTable, CallResult, CoreBreakers, LabelBreakers, Permit,
};
pub use call_id::{CallId, CallIdError, TraceId};
pub use call_limit::{CallLimit, CallerTimeSource, answer_within};
pub use call_log::{CallFilter, CallLine, CallLog, FoundCall};
pub use call_queue::{
    AskingCall, CallQueue, Overload, OverloadCause, Place, QueueCounts, QueueDecision, QueueReading, Served, Ticket,
};
pub use call_record::{
    CallRecord, CallStage, HOST_LEN_KEPT, HostText, OwnAnswer, PolicyMark, RecordedTime, RecordedTimes, SentAgain,
};
pub use call_trace::{CallPoints, CallTrace, SAMPLES_OF, SampledCall, TextStart, TraceQueue, TraceSettings};
pub use deadline::{Deadline, DeadlineReason, WaitEnd};
pub use figures::CoreFigures;
pub use hedge::{HedgeBudget, Try, TryState, decide, hedge_after, hold_for};
pub use histogram::{Distribution, Histogram, RANGE_MAX};
pub use label::Label;
pub use learned::{CoreLearned, Learned, LearnedTable};
pub use outcome::{OUTCOMES, Outcome};
pub use phases::{CallPhases, ConnectorTimes, EdgeTimes, PHASES, Phase};
pub use readiness::{NotReady, Readiness, ReadinessSettings};
pub use recorder::{
    CallWait, Deadlines, Hedges, Judged, LABEL_LEN_MAX, LabelId, LabelSet, LatencySettings, OTHER, Recorder,
};
pub use retry::{NoRetry, Reached, Retries, RetryBudget};
pub use server_timing::{SERVER_TIMING, SERVER_TIMING_LEN_MAX, connector_timing, own_timing, server_timing};
pub use slow::{SlowCallSettings, SlowCalls, SlowVerdict};
pub use snapshot::{LabelFigures, Snapshot};
pub use stamps::{ConnectorStamps, EdgeStamps};
pub use status_class::{STATUS_CLASSES, StatusClass};
pub use tasks::{
    BYTES_PER_TOKEN, PRICE_UNIT, REPEATED_WITHIN, TASK_TOOLS_MAX, TaskCall, TaskFigures, TaskId, TaskLine,
    TaskSettings, TaskSnapshot, TaskTable,
};
pub use trace_context::{CallOrigin, OriginIds, SpanId, TraceContext};
pub use window::UsualLatency;
