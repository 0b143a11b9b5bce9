//! Variables that Kubernetes sets in every container of a namespace for each of its services. For a service `adit-edge`
//! it sets `ADIT_EDGE_SERVICE_HOST`, `ADIT_EDGE_PORT` and others, which are not settings of adit.

use std::net::IpAddr;

/// The protocols of a service's ports, as they are named in variables.
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// Whether Kubernetes set this variable for a service. Both name and value must match, so that a misspelt setting is
/// still reported.
pub(super) fn is_service_variable(name: &str, value: &str) -> bool {
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    if name.ends_with("_SERVICE_HOST") {
        return is_address(value);
    }
    // `X_SERVICE_PORT`, and `X_SERVICE_PORT_NAME` for a port that has a name.
    if let Some((_, port_name)) = name.split_once("_SERVICE_PORT")
        && (port_name.is_empty() || port_name.starts_with('_'))
    {
        return is_port(value);
    }
    if name.ends_with("_PORT") && is_endpoint(value) {
        return true;
    }
    // `X_PORT_443_TCP`, and the same with `_PROTO`, `_PORT` or `_ADDR`.
    let Some((_, of_port)) = name.split_once("_PORT_") else { return false };
    let mut parts = of_port.split('_');
    let (port, protocol, what) = (parts.next(), parts.next(), parts.next());
    let named = port.is_some_and(is_port) && protocol.is_some_and(|protocol| PROTOCOLS.contains(&protocol));
    named
        && parts.next().is_none()
        && match what {
            None => is_endpoint(value),
            Some("PROTO") => PROTOCOLS.iter().any(|protocol| protocol.eq_ignore_ascii_case(value)),
            Some("PORT") => is_port(value),
            Some("ADDR") => is_address(value),
            Some(_) => false,
        }
}

/// One warning for all of them, if there are any.
pub(super) fn warning(names: &[String]) -> Option<String> {
    let first = names.first()?;
    let more = match names.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "{first}{more} ignored: Kubernetes sets such variables for a service whose name begins with adit; \
         enableServiceLinks: false in the pod's specification leaves them out"
    ))
}

/// Whether a value is written as `tcp://10.0.0.1:443`.
fn is_endpoint(value: &str) -> bool {
    let Some((protocol, at)) = value.split_once("://") else { return false };
    let at = at.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    at.is_some() && PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(protocol))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;

    #[test]
    fn the_variables_of_a_service_are_recognised_by_name_and_value() {
        for (name, value) in [
            ("ADIT_EDGE_PORT", "tcp://10.96.0.7:7844"),
            ("ADIT_EDGE_SERVICE_HOST", "10.96.0.7"),
            ("ADIT_EDGE_SERVICE_HOST", "fd00::7"),
            ("ADIT_EDGE_SERVICE_PORT", "7844"),
            ("ADIT_EDGE_SERVICE_PORT_CONNECTORS", "7844"),
            ("ADIT_EDGE_PORT_7844_TCP", "tcp://10.96.0.7:7844"),
            ("ADIT_EDGE_PORT_7844_TCP_PROTO", "tcp"),
            ("ADIT_EDGE_PORT_7844_TCP_PORT", "7844"),
            ("ADIT_EDGE_PORT_7844_TCP_ADDR", "10.96.0.7"),
            ("ADIT_PORT_53_UDP", "udp://[fd00::7]:53"),
        ] {
            assert!(is_service_variable(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("ADIT_EDGE_PORT", "7844"),
            ("ADIT_EDGE_PORT", "http://10.96.0.7:7844"),
            ("ADIT_EDGE_SERVICE_HOST", "edge.example.com"),
            ("ADIT_EDGE_SERVICE_PORTS", "7844"),
            ("ADIT_EDGE_PORT_HTTP_TCP", "tcp://10.96.0.7:7844"),
            ("ADIT_EDGE_PORT_7844_TCP_PROTO", "on"),
            ("ADIT_EDGE_PORT_7844_TCP_ADDR_X", "10.96.0.7"),
            ("ADIT_EDGE_PORT_7844", "tcp://10.96.0.7:7844"),
        ] {
            assert!(!is_service_variable(name, value), "{name}={value}");
        }
    }

    #[test]
    fn no_setting_has_the_name_of_a_service_variable() {
        for env in settings().filter_map(|setting| setting.env()) {
            let parts = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT_"];
            assert!(!env.ends_with("_PORT") && parts.iter().all(|part| !env.contains(part)), "{env}");
        }
    }
}
