//! The acting part of the era bridge: a server of HTTP in front of the upstream of a route, for agents of another era of MCP. It runs
//! on one core, whichever core a call comes from, and reaches the upstream as every call does. What it decides is in
//! [`bridge`](crate::bridge).

mod agent_session;
mod agent_side;
mod inner_client;
mod inner_session;
mod legacy_agent;
mod legacy_call;
mod legacy_output;
mod legacy_stream;
mod mail;
mod modern_agent;
mod parked;
mod passing;
mod probe;
mod reply;
mod route_bridge;
mod server;
mod session_pool;
mod state;

pub(super) use route_bridge::{BridgeMakings, RouteBridge};
