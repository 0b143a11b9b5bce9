//! Who gets in, who does not, and what never gets out: an edge with two tunnels, run as people run it.

#[path = "trust/admission.rs"]
mod admission;
#[path = "trust/doctor.rs"]
mod doctor;
#[path = "trust/isolation.rs"]
mod isolation;
#[path = "trust/mmdb.rs"]
mod mmdb;
#[path = "up/process.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod process;
#[path = "trust/proxies.rs"]
mod proxies;
#[path = "trust/secrets.rs"]
mod secrets;
#[path = "trust/site.rs"]
mod site;
