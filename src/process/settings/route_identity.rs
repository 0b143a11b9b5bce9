use crate::config::{HttpUrl, OriginRule, RouteConfig, ServerPreset};
use crate::connector::{Addresses, RouteIdentity, UpstreamOrigin};
use crate::route::{PublicUrl, UpstreamAddr, UpstreamUrl};

/// How the upstream of a route is addressed: by the route's settings, or by those of its preset.
pub(super) fn route_identity(route: &RouteConfig) -> RouteIdentity {
    let preset = route.preset.map(|preset| Preset::of(preset, &route.upstream)).unwrap_or_default();
    let set_host = route.upstream_host.as_ref().map(|host| host.as_str().into());
    RouteIdentity {
        upstream_host: set_host.or(preset.host),
        upstream_origin: route.upstream_origin.map_or(preset.origin, |rule| match rule {
            OriginRule::Keep => UpstreamOrigin::Keep,
            OriginRule::Drop => UpstreamOrigin::Drop,
            OriginRule::Rewrite => UpstreamOrigin::Rewrite,
        }),
        public: route.public_url.as_ref().map(HttpUrl::as_str).and_then(PublicUrl::of),
        rewrites_oauth_metadata: route.rewrite_oauth_metadata,
        keeps_host: false,
    }
}

/// The addresses of a route, as the connector uses them.
pub(in crate::process) fn route_addresses(route: &RouteConfig) -> Addresses {
    Addresses::new(&route_identity(route), &route.upstream)
}

/// What a kind of server requires.
#[derive(Default)]
struct Preset {
    host: Option<Box<str>>,
    origin: UpstreamOrigin,
}

impl Preset {
    /// All three kinds protect a server on a loopback address against DNS rebinding in the same way: by default they
    /// accept only `localhost` and loopback addresses in `Host` and `Origin`.
    fn of(preset: ServerPreset, upstream: &UpstreamUrl) -> Preset {
        let port = match upstream.addr() {
            // A TLS terminator in front of the server selects it by name, so the name must stay.
            UpstreamAddr::Tcp { .. } if upstream.is_tls() => {
                return Preset { host: None, origin: UpstreamOrigin::Rewrite };
            }
            UpstreamAddr::Tcp { port, .. } => *port,
            UpstreamAddr::Unix { .. } | UpstreamAddr::Stdio => 80,
        };
        let host = match preset {
            // The Python SDK compares with `localhost:*`, which does not match a host without a port.
            ServerPreset::PythonSdk | ServerPreset::Fastmcp => format!("localhost:{port}"),
            // The TypeScript SDK may compare with a list of whole values. These omit the default port, as clients do.
            ServerPreset::TypescriptSdk if port == 80 => "localhost".to_owned(),
            ServerPreset::TypescriptSdk => format!("localhost:{port}"),
        };
        Preset { host: Some(host.into()), origin: UpstreamOrigin::Rewrite }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Config, FileText, Purpose, Sources};

    fn identity(settings: &str) -> RouteIdentity {
        let text = format!(
            "[connect]\nedge = [\"edge.test:7844\"]\ntunnel = \"tnl_a\"\nsecret = \"an-example-secret-0123\"\n\
             [[route]]\nhost = \"a.test\"\n{settings}\n"
        );
        let sources = Sources {
            purpose: Purpose::Check,
            profile: None,
            file: Some(FileText { path: "/etc/adit/adit.toml".into(), text }),
            env: BTreeMap::new(),
            flags: Vec::new(),
            credentials: Vec::new(),
        };
        let config = Config::load(&sources).unwrap_or_else(|faults| panic!("{faults}"));
        route_identity(&config.connect.unwrap().routes[0])
    }

    #[test]
    fn nothing_changes_unless_it_is_asked_for() {
        assert_eq!(identity("upstream = \"http://127.0.0.1:9000\""), RouteIdentity::default());
    }

    #[test]
    fn a_preset_sets_what_its_server_needs() {
        for (preset, upstream, host) in [
            ("python-sdk", "unix:/run/mcp.sock", Some("localhost:80")),
            ("python-sdk", "http://127.0.0.1:80", Some("localhost:80")),
            ("python-sdk", "http://10.0.0.5:8000", Some("localhost:8000")),
            ("python-sdk", "https://mcp.internal", None),
            ("fastmcp", "http://127.0.0.1", Some("localhost:80")),
            ("typescript-sdk", "unix:/run/mcp.sock", Some("localhost")),
            ("typescript-sdk", "http://127.0.0.1:3000", Some("localhost:3000")),
        ] {
            let identity = identity(&format!("upstream = \"{upstream}\"\npreset = \"{preset}\""));
            assert_eq!(identity.upstream_host.as_deref(), host, "{preset} {upstream}");
            assert_eq!(identity.upstream_origin, UpstreamOrigin::Rewrite);
        }
    }

    #[test]
    fn a_setting_overrides_the_preset() {
        let identity = identity(
            "upstream = \"unix:/run/mcp.sock\"\npreset = \"python-sdk\"\nupstream_host = \"MCP.test:81\"\n\
             upstream_origin = \"keep\"\npublic_url = \"https://a.test:8443/\"\nrewrite_oauth_metadata = true",
        );
        let expected = RouteIdentity {
            upstream_host: Some("mcp.test:81".into()),
            upstream_origin: UpstreamOrigin::Keep,
            public: PublicUrl::of("https://a.test:8443"),
            rewrites_oauth_metadata: true,
            keeps_host: false,
        };
        assert_eq!(identity, expected);
    }
}
