//! Floor 1: which tunnel and upstream serve a host, and which link takes a stream.
//!
//! The edge keeps a [`RouteTable`] of [`Route`]s (which tunnel), the connector one of its upstreams. Tables are
//! immutable and replaced as a whole. Building one reports all faults at once. A lookup does not allocate.

mod ingress;
mod link_choice;
mod name;
mod public_url;
mod table;
mod upstream;

pub use crate::base::{HOST_LEN_MAX, HostError, HostPattern, Hostname};
pub use ingress::{INGRESS_RULES_MAX, IngressError, IngressMatch, IngressTable};
pub use link_choice::{CORES_MAX, CoreSet, LinkChoice, LinkLoad, Offline, STALLED_AFTER, choose_link};
pub use name::{ROUTE_NAME_LEN_MAX, RouteName, RouteNameError};
pub use public_url::{PublicUrl, Scheme};
pub use table::{ROUTES_MAX, Route, RouteEntry, RouteFault, RouteFaultKind, RouteOverrides, RouteTable, ToolOverrides};
pub use upstream::{UNIX_PATH_LEN_MAX, UpstreamAddr, UpstreamUrl, UpstreamUrlError};
