//! Puts a report together from the configuration, the audit log and the inventory of tools.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::base::Traffic;
use crate::cli::audit::{AuditFailure, each_line};
use crate::cli::report::model::{Count, Notice, Offered, ServerReport, ToolReport, ToolUse};
use crate::config::{AuditMode, CallerAuth, Config, HostConfig};
use crate::control::{InventoriesError, WallTime, alike_names, read_inventories};
use crate::policy::{OfferKind, PinMode, ToolRecord, ToolStanding};
use crate::process::{audit_dir, inventory_file};
use crate::route::{HostPattern, RouteName};

/// The most tools and callers of one server that are counted by name.
const NAMES_MAX: usize = 5_000;
/// The most callers of one server that are named.
const CALLERS_SHOWN: usize = 5;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReportFailure {
    #[error(transparent)]
    Audit(#[from] AuditFailure),
    #[error(transparent)]
    Inventories(#[from] InventoriesError),
}

/// A route of the configuration.
struct Place {
    host: String,
    upstream: String,
    pin: PinMode,
    has_policy: bool,
    auth: CallerAuth,
}

/// What was counted of one route.
#[derive(Default)]
struct Counted {
    calls: u64,
    denied: u64,
    last: Option<String>,
    callers: BTreeMap<String, u64>,
    tools: BTreeMap<String, (u64, u64)>,
}

/// The report of a configuration, of the calls since then.
///
/// # Errors
///
/// When the audit log or the inventory is there and cannot be read.
pub(super) fn gather(config: &Config, since: WallTime) -> Result<ToolReport, ReportFailure> {
    let mut gaps = Vec::new();
    let mut counted: BTreeMap<String, Counted> = BTreeMap::new();
    match audit_dir(config).filter(|dir| config.audit.mode != AuditMode::Off && dir.exists()) {
        Some(dir) => each_line(&dir, |line| {
            count(&line, since, &mut counted);
            Ok(())
        })?,
        None => gaps.push("who has called what is not known: there is no audit log (audit.mode)".to_owned()),
    }
    let kept = inventory_file(config).map(|file| read_inventories(&file)).transpose()?.unwrap_or_default();
    let kept: BTreeMap<String, Vec<ToolRecord>> = kept.into_iter().map(|(route, _, tools)| (route, tools)).collect();
    let places = places(config);
    let pinned = places.iter().filter(|place| place.pin != PinMode::Off);
    let known = |host: &str| kept.get(host).map(Vec::as_slice).unwrap_or_default();
    let alike = alike_names(pinned.map(|place| (&*place.host, known(&place.host))));
    let alike = alike.into_iter().map(|found| {
        let of = if found.kind == OfferKind::Tool { String::new() } else { format!("{} ", found.kind.name()) };
        let [one, other] = found.tools.map(|(route, tool)| format!("{of}{tool} of {route}"));
        format!("{one} {} {other}", if found.is_same { "has the same name as" } else { "looks like" })
    });
    let mut servers: Vec<ServerReport> = places
        .iter()
        .map(|place| {
            let name = place.host.parse::<HostPattern>().map(|host| RouteName::of_host(&host).as_str().to_owned());
            let counted = name.ok().and_then(|name| counted.remove(&name)).unwrap_or_default();
            server(place, counted, known(&place.host), config.audit.mode)
        })
        .collect();
    let others: Vec<&str> = counted.keys().map(String::as_str).collect();
    if !others.is_empty() {
        let made = match config.edge.as_ref().is_some_and(|edge| edge.data_dir.is_some()) {
            true => ", such as those of tunnels made with `adit tunnel create`",
            false => "",
        };
        gaps.push(format!("calls of routes that the configuration does not name{made}: {}", others.join(", ")));
    }
    servers.sort_by(|one, other| other.calls.cmp(&one.calls).then_with(|| one.route.cmp(&other.route)));
    Ok(ToolReport {
        made_at: WallTime::now().to_string(),
        since: since.to_string(),
        audit: config.audit.mode.as_str(),
        servers,
        alike: alike.collect(),
        gaps,
    })
}

/// The routes of a connector, and the hosts of an edge.
fn places(config: &Config) -> Vec<Place> {
    let mut places = Vec::new();
    for route in config.connect.iter().flat_map(|connect| &connect.routes) {
        places.push(Place {
            host: route.host.to_string(),
            upstream: route.upstream.to_string(),
            pin: route.pin,
            has_policy: route.policy_file.is_some() || route.cedar_file.is_some(),
            auth: route.auth,
        });
    }
    let Some(edge) = &config.edge else { return places };
    for host in &edge.hosts {
        let of_tunnel = edge.tunnels.iter().find(|tunnel| tunnel.hosts.contains(&host.host));
        let is_of_tunnel = of_tunnel.is_some_and(|tunnel| tunnel.policy_file.is_some() || tunnel.cedar_file.is_some());
        places.push(Place {
            host: host.host.to_string(),
            upstream: String::new(),
            pin: host.pin,
            has_policy: is_of_tunnel || host.policy_file.is_some() || host.cedar_file.is_some(),
            auth: host.auth,
        });
    }
    let known: BTreeSet<String> = places.iter().map(|place| place.host.clone()).collect();
    for (tunnel, host) in edge.tunnels.iter().flat_map(|tunnel| tunnel.hosts.iter().map(move |host| (tunnel, host))) {
        if !known.contains(&host.to_string()) {
            // A table of many hosts has neither `pin` nor `auth`, and its policy is not for what the edge cannot read.
            let covers =
                |table: &&HostConfig| matches!(table.host, HostPattern::Wildcard(_)) && table.host.overlaps(host);
            let above = edge.hosts.iter().find(covers);
            let files = [tunnel.policy_file.as_ref(), tunnel.cedar_file.as_ref()];
            let files_above = above.map(|above| [above.policy_file.as_ref(), above.cedar_file.as_ref()]);
            let has_policy = tunnel.traffic != Traffic::Passthrough
                && files.into_iter().chain(files_above.into_iter().flatten()).any(|file| file.is_some());
            let (host, upstream) = (host.to_string(), format!("tunnel {}", tunnel.id));
            let (pin, auth) = (PinMode::Off, CallerAuth::Passthrough);
            places.push(Place { host, upstream, pin, has_policy, auth });
        }
    }
    places
}

fn count(line: &Value, since: WallTime, counted: &mut BTreeMap<String, Counted>) {
    let text = |name: &str| line[name].as_str();
    let (Some("call"), Some(route), Some(time)) = (text("kind"), text("route"), text("time")) else { return };
    if time.parse::<WallTime>().is_ok_and(|time| time < since) {
        return;
    }
    if counted.len() >= NAMES_MAX && !counted.contains_key(route) {
        return;
    }
    let of_route = counted.entry(route.to_owned()).or_default();
    let is_denied = text("decision") == Some("denied");
    of_route.calls += 1;
    of_route.denied += u64::from(is_denied);
    of_route.last = Some(time.to_owned());
    let caller = text("caller").or_else(|| text("peer")).unwrap_or("unknown");
    if of_route.callers.len() < NAMES_MAX || of_route.callers.contains_key(caller) {
        *of_route.callers.entry(caller.to_owned()).or_default() += 1;
    }
    let Some(tool) = text("name").filter(|_| text("method") == Some("tools/call")) else { return };
    if of_route.tools.len() < NAMES_MAX || of_route.tools.contains_key(tool) {
        let (calls, denied) = of_route.tools.entry(tool.to_owned()).or_default();
        *calls += 1;
        *denied += u64::from(is_denied);
    }
}

fn server(place: &Place, counted: Counted, known: &[ToolRecord], audit: AuditMode) -> ServerReport {
    let is_inventoried = place.pin != PinMode::Off;
    let mut tools: BTreeMap<String, ToolUse> = BTreeMap::new();
    for record in known.iter().filter(|record| is_inventoried && record.kind == OfferKind::Tool) {
        let standing = match record.standing() {
            ToolStanding::New => "new",
            ToolStanding::Changed => "changed",
            ToolStanding::Approved => "approved",
            ToolStanding::Unreadable => "unreadable",
        };
        tools.insert(record.name.clone(), ToolUse { name: record.name.clone(), standing, ..ToolUse::default() });
    }
    for (name, (calls, denied)) in counted.tools {
        let tool = tools.entry(name.clone()).or_insert(ToolUse { name, standing: "unknown", ..ToolUse::default() });
        (tool.calls, tool.denied) = (calls, denied);
    }
    // What is in quarantine cannot be called, and where nothing is pinned whatever was let through can be.
    let can_be_called = |tool: &&ToolUse| match place.pin {
        PinMode::Quarantine => false,
        // Agents can call whatever name they like: one that was only denied is no tool.
        PinMode::Warn => tool.standing != "approved" && (tool.standing != "unknown" || tool.calls > tool.denied),
        PinMode::Off => tool.calls > tool.denied,
    };
    let unapproved = tools.values().filter(can_be_called).map(|tool| tool.name.clone()).collect();
    let mut callers: Vec<Count> = counted.callers.into_iter().map(|(name, calls)| Count { name, calls }).collect();
    callers.sort_by(|one, other| other.calls.cmp(&one.calls).then_with(|| one.name.cmp(&other.name)));
    let callers_count = callers.len();
    callers.truncate(CALLERS_SHOWN);
    ServerReport {
        route: place.host.clone(),
        upstream: place.upstream.clone(),
        calls: counted.calls,
        denied: counted.denied,
        last_call: counted.last,
        callers,
        callers_count,
        tools: tools.into_values().collect(),
        others: if is_inventoried { others(known) } else { Vec::new() },
        unapproved,
        is_inventoried,
        notices: notices(place, audit),
    }
}

/// What a server offers besides tools.
fn others(known: &[ToolRecord]) -> Vec<Offered> {
    let of_kind = |kind: OfferKind| {
        let of = known.iter().filter(|record| record.kind == kind);
        let unapproved = of.clone().filter(|record| record.standing() != ToolStanding::Approved).count();
        Offered { kind: kind.name(), count: of.count(), unapproved }
    };
    let kinds = OfferKind::ALL.into_iter().filter(|kind| *kind != OfferKind::Tool);
    kinds.map(of_kind).filter(|offered| offered.count > 0).collect()
}

/// Who would notice what happens on a route.
fn notices(place: &Place, audit: AuditMode) -> Vec<Notice> {
    let notice = |is_good, what: &str| Notice { is_good, what: what.to_owned() };
    vec![
        match place.pin {
            PinMode::Quarantine => notice(true, "a new or changed tool is hidden until somebody approves it"),
            PinMode::Warn => notice(true, "a new or changed tool is reported, and can be called"),
            PinMode::Off => notice(false, "nobody notices a new or changed tool: set pin"),
        },
        match audit {
            AuditMode::Required => notice(true, "no call is answered that is not in the audit log"),
            AuditMode::BestEffort => notice(true, "calls are in the audit log, unless its disk fails"),
            AuditMode::Off => notice(false, "nobody can tell afterwards what was called: set audit.mode"),
        },
        match place.has_policy {
            true => notice(true, "a policy says who may call what"),
            false => notice(false, "whoever reaches it may call every tool: set policy_file"),
        },
        match place.auth {
            CallerAuth::Passthrough => notice(false, "who calls is known by address only: set auth"),
            CallerAuth::Verify | CallerAuth::Terminate => notice(true, "callers prove who they are"),
        },
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{FileText, Purpose, Sources};

    fn call(tool: &str, decision: &str, caller: &str) -> Value {
        json!({"kind": "call", "route": "a.test", "time": "2026-11-29T12:00:00Z", "method": "tools/call", "name": tool,
               "decision": decision, "caller": caller, "peer": "192.0.2.1"})
    }

    fn record(name: &str, approved: Option<&str>) -> ToolRecord {
        let digest = |c: &str| c.repeat(64);
        let approved = approved.map(|of| json!({"digest": digest(of), "at_ms": 1}));
        let record =
            json!({"name": name, "digest": digest("0"), "first_seen_ms": 1, "last_seen_ms": 1, "approved": approved});
        serde_json::from_value(record).unwrap()
    }

    fn report(pin: PinMode) -> ServerReport {
        let mut counted = BTreeMap::new();
        let since = "2026-11-29T00:00:00Z".parse().unwrap();
        for line in [call("get", "allowed", "alice"), call("get", "allowed", "alice"), call("drop", "denied", "bob")] {
            count(&line, since, &mut counted);
        }
        count(&json!({"kind": "checkpoint"}), since, &mut counted);
        count(&call("old", "allowed", "eve"), "2026-11-30T00:00:00Z".parse().unwrap(), &mut counted);
        let auth = CallerAuth::Passthrough;
        let place = Place { host: "a.test".to_owned(), upstream: "http://a".to_owned(), pin, has_policy: true, auth };
        let prompt = |name: &str, approved| ToolRecord { kind: OfferKind::Prompt, ..record(name, approved) };
        let known = [
            record("get", Some("0")),
            record("put", Some("1")),
            record("new", None),
            prompt("get", Some("0")),
            prompt("ask", None),
        ];
        server(&place, counted.remove("a.test").unwrap(), &known, AuditMode::Required)
    }

    fn config(text: &str) -> Config {
        let file = FileText { path: "adit.toml".into(), text: text.to_owned() };
        let sources = Sources {
            purpose: Purpose::Check,
            profile: None,
            file: Some(file),
            env: BTreeMap::new(),
            flags: Vec::new(),
            credentials: Vec::new(),
        };
        Config::load(&sources).unwrap_or_else(|faults| panic!("{faults}"))
    }

    #[test]
    fn the_hosts_of_tunnels_have_the_settings_of_the_table_that_covers_them() {
        let text = "[edge]\ndata_dir = '/var/lib/adit'\n\
                    [[tunnel]]\nid = 'tnl_a'\nsecret = '0123456789abcdef'\n\
                    hosts = ['a.many.test', 'one.many.test', 'b.other.test', 'c.one.many.test']\n\
                    [[tunnel]]\nid = 'tnl_b'\nsecret = '0123456789abcdef'\ntraffic = 'passthrough'\n\
                    hosts = ['unread.many.test']\n\
                    [[host]]\nhost = '*.many.test'\npolicy_file = 'policy.toml'\n\
                    [[host]]\nhost = 'one.many.test'\npin = 'warn'\n";
        let config = config(text);
        let gathered: Vec<_> = places(&config)
            .into_iter()
            .map(|place| format!("{} {} {:?} {}", place.host, place.upstream, place.pin, place.has_policy))
            .collect();
        assert_eq!(
            gathered,
            [
                "*.many.test  Off true",
                "one.many.test  Warn false",
                "a.many.test tunnel tnl_a Off true",
                "b.other.test tunnel tnl_a Off false",
                "c.one.many.test tunnel tnl_a Off false",
                "unread.many.test tunnel tnl_b Off false",
            ]
        );
    }

    #[test]
    fn calls_of_tunnels_of_the_store_are_not_taken_for_calls_of_removed_routes() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("audit");
        std::fs::create_dir(&log).unwrap();
        std::fs::write(log.join("audit-00000000000000000001.jsonl"), format!("{}\n", call("get", "allowed", "alice")))
            .unwrap();
        let text = format!(
            "[edge]\ndata_dir = '{}'\n[audit]\nmode = 'required'\ndir = '{}'\n",
            dir.path().display(),
            log.display()
        );
        let report = gather(&config(&text), "2026-11-29T00:00:00Z".parse().unwrap()).unwrap();
        let [gap] = &report.gaps[..] else { panic!("{:?}", report.gaps) };
        assert!(gap.ends_with("with `adit tunnel create`: a.test") && report.servers.is_empty(), "{report:?}");
    }

    #[test]
    fn a_report_lists_tools_that_are_not_approved() {
        let warned = report(PinMode::Warn);
        assert_eq!((warned.calls, warned.denied, warned.callers_count), (3, 1, 2));
        assert_eq!(warned.others, [Offered { kind: "prompt", count: 2, unapproved: 1 }]);
        assert_eq!(warned.callers[0], Count { name: "alice".to_owned(), calls: 2 });
        assert_eq!(warned.unapproved, ["new", "put"], "nobody has called what no list has and what was denied");
        let standings: Vec<_> = warned.tools.iter().map(|tool| (&*tool.name, tool.standing, tool.calls)).collect();
        assert_eq!(
            standings,
            [("drop", "unknown", 1), ("get", "approved", 2), ("new", "new", 0), ("put", "changed", 0)]
        );
        assert_eq!(report(PinMode::Quarantine).unapproved, [""; 0]);
        let open = report(PinMode::Off);
        assert_eq!((open.unapproved, open.is_inventoried, open.tools.len()), (vec!["get".to_owned()], false, 2));
        assert_eq!(open.notices.iter().filter(|notice| !notice.is_good).count(), 2, "{:?}", open.notices);
    }
}
