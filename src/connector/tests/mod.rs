//! The real connector between a scripted edge and a scripted upstream, on the simulated network.

mod bed;
mod calls;
mod dialling;
mod failures;
mod guard;
mod http1_demanded;
mod http2;
mod identity;
mod keep_alive;
mod links;
mod lists;
mod out_of_time;
mod places;
mod sanitised;
mod sealed;
mod sealed_http2;
