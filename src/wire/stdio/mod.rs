//! The standard input and output of an MCP server: one message on each line, and how many agents share them.

mod envelope;
mod lines;
mod long_line;
mod mirrored;
mod multiplexer;
mod rewrite;
#[cfg(test)]
mod tests;

pub use envelope::{Envelope, EnvelopeError};
pub use lines::{Line, Lines};
pub use mirrored::MirroredArguments;
pub use multiplexer::{
    AgentFault, AnswerMeaning, Asker, Effect, Heard, Multiplexer, MultiplexerLimits, MuxCounts, StdioSession,
};
pub use rewrite::outcome;
