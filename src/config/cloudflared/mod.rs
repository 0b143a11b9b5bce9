//! The command line, environment and file of cloudflared, read into one checked [`CloudflaredConfig`].
//!
//! A flag comes from the command line, else from its variables, else from the file. Flags that have no meaning here are
//! accepted, so that a command line of cloudflared works unchanged; unknown ones are errors, as there.

mod command;
mod durations;
mod flags;
mod ingress;
mod options;
mod yaml;

pub use command::{CLOUDFLARED_HELP, CloudflaredCommand, CloudflaredUsage, parse_cloudflared};
pub use flags::cloudflared_variables;
pub use ingress::{CloudflaredIngress, CloudflaredRule, CloudflaredService, IngressFault, OriginOptions, read_ingress};
pub use options::{CloudflaredConfig, CloudflaredLogFormat, METRICS_PORTS};
