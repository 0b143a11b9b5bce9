//! Floor 1: which host is served by whom. An immutable table, replaced whole, and the choice of a link.
//!
//! The edge keeps a [`RouteTable`] of [`Route`]s (which tunnel), the connector one of its
//! upstreams. Both are built from checked text, with every fault reported at once, and looked up without allocating.

mod host;
mod link_choice;
mod name;
mod table;
mod upstream;

pub use host::{HOST_LEN_MAX, HostError, HostPattern, Hostname};
pub use link_choice::{CORES_MAX, CoreSet, LinkChoice, LinkLoad, Offline, choose_link};
pub use name::{ROUTE_NAME_LEN_MAX, RouteName, RouteNameError};
pub use table::{ROUTES_MAX, Route, RouteEntry, RouteFault, RouteFaultKind, RouteTable};
pub use upstream::{UNIX_PATH_LEN_MAX, UpstreamAddr, UpstreamUrl, UpstreamUrlError};
