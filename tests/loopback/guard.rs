//! Who gets in, who does not, and what never gets out: an edge with two tunnels, run as people run it.

#[path = "guard/admission.rs"]
mod admission;
#[path = "guard/doctor.rs"]
mod doctor;
#[path = "guard/events.rs"]
mod events;
#[path = "guard/greetings.rs"]
mod greetings;
#[path = "guard/isolation.rs"]
mod isolation;
#[path = "guard/mmdb.rs"]
mod mmdb;
#[path = "up/process.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod process;
#[path = "guard/proxies.rs"]
mod proxies;
#[path = "guard/secrets.rs"]
mod secrets;
#[path = "guard/site.rs"]
mod site;
