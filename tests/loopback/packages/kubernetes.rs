//! The chart of Helm and the example of a sidecar, as Helm renders them and the schemas of Kubernetes allow them.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{USER, assert_is_setting, assert_is_understood, longest_drain, profiles, strings};
use crate::fetched::{REQUIREMENTS, fetch_python, fetched, python_of};

/// The manifests of each release that the script renders.
fn rendered() -> Map<String, Value> {
    let pins = include_str!("requirements.txt");
    let home = fetched("packages", &[(REQUIREMENTS, pins)], fetch_python);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/loopback/packages/render.py");
    let mut command = Command::new(python_of(&home));
    command.arg(script).arg(profiles().join("helm/adit")).arg(profiles().join("kubernetes/sidecar.yaml"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn variables(container: &Value) -> impl Iterator<Item = (&str, &str)> {
    let text = |value: &'_ Value| value.as_str().is_some();
    let named = list(&container["env"]).iter().filter(move |one| text(&one["name"]) && text(&one["value"]));
    named.map(|one| (one["name"].as_str().unwrap_or_default(), one["value"].as_str().unwrap_or_default()))
}

fn check_container(container: &Value, place: &str) {
    let args = strings(&container["args"]);
    assert_is_understood(&args, place);
    variables(container).for_each(|(name, _)| assert_is_setting(name, place));
    let security = &container["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"], true, "{place}");
    assert_eq!(security["allowPrivilegeEscalation"], false, "{place}");
    assert_eq!(strings(&security["capabilities"]["drop"]), ["ALL"], "{place}");

    // Where it listens is what is said of it.
    let ports: BTreeSet<String> =
        list(&container["ports"]).iter().map(|port| port["containerPort"].to_string()).collect();
    let listens = variables(container).filter(|(name, _)| name.ends_with("_LISTEN"));
    let listens: BTreeSet<String> = listens.map(|(_, at)| at.rsplit(':').next().unwrap_or_default().into()).collect();
    assert_eq!(ports, listens, "{place}");
    let names: Vec<&Value> = list(&container["ports"]).iter().map(|port| &port["name"]).collect();
    for probe in ["livenessProbe", "readinessProbe"].map(|probe| &container[probe]).into_iter().filter(|p| !p.is_null())
    {
        assert!(["/healthz", "/readyz"].map(Value::from).contains(&probe["httpGet"]["path"]), "{place}");
        assert!(names.contains(&&probe["httpGet"]["port"]), "{place}");
    }
    // Every file that it is told of is mounted.
    let mounts: Vec<&str> =
        list(&container["volumeMounts"]).iter().filter_map(|mount| mount["mountPath"].as_str()).collect();
    let values = args.iter().map(String::as_str).chain(variables(container).map(|(_, value)| value));
    for path in values.filter(|text| text.starts_with('/')) {
        assert!(mounts.iter().any(|mount| path.starts_with(&format!("{mount}/"))), "{place}: {path} is not mounted");
    }
    let used: String = args.join(" ") + &variables(container).map(|(_, value)| format!(" {value}")).collect::<String>();
    for mount in mounts.iter().filter(|mount| **mount != "/etc/adit/secrets") {
        assert!(used.contains(&format!("{mount}/")), "{place}: nothing uses {mount}");
    }
}

fn check_pod(pod: &Value, place: &str) {
    let security = &pod["securityContext"];
    assert_eq!(security["runAsUser"], USER, "{place}");
    assert_eq!(security["runAsNonRoot"], true, "{place}");
    let profile = security["seccompProfile"]["type"].as_str();
    assert!(matches!(profile, Some("RuntimeDefault" | "Localhost")), "{place}");
    assert_eq!(pod["automountServiceAccountToken"], false, "{place}");
    assert_eq!(pod["enableServiceLinks"], false, "{place}");
    let both = list(&pod["containers"]).iter().chain(list(&pod["initContainers"]));
    let mut ours = 0;
    for container in both.filter(|one| one["image"].as_str().is_some_and(|image| image.starts_with("adit:"))) {
        check_container(container, place);
        ours += 1;
        let role = container["args"][0].as_str().unwrap();
        let delay = variables(container).find(|(name, _)| *name == "ADIT_EDGE_DRAIN_DELAY_MS");
        let delay = delay.map_or(Duration::ZERO, |(_, value)| super::seconds(value));
        let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
        assert!(grace > longest_drain(role) + delay, "{place}");
    }
    assert!(ours > 0, "{place}");
    // What secrets and settings say is in volumes, and others cannot read the secrets.
    let volumes: BTreeSet<&str> = list(&pod["volumes"]).iter().filter_map(|volume| volume["name"].as_str()).collect();
    for volume in list(&pod["volumes"]).iter().filter(|volume| !volume["secret"].is_null()) {
        assert_eq!(volume["secret"]["defaultMode"], 0o440, "{place}");
    }
    let mounted = list(&pod["containers"]).iter().flat_map(|container| list(&container["volumeMounts"]));
    let mounted = mounted.filter_map(|mount| mount["name"].as_str()).filter(|name| *name != "data");
    mounted.for_each(|name| assert!(volumes.contains(name), "{place}: no volume {name}"));
}

/// Panics unless the selector picks pods of this release, and ports have names that these pods have.
fn check_selection(release: &[Value], manifest: &Value, place: &str) {
    let pods: Vec<&Value> = release.iter().map(|one| &one["spec"]["template"]).filter(|pod| !pod.is_null()).collect();
    let spec = &manifest["spec"];
    let selectors = [&spec["selector"]["matchLabels"], &spec["podSelector"]["matchLabels"], &spec["selector"]];
    let Some(selector) = selectors.into_iter().filter_map(Value::as_object).next() else { return };
    let fits = |pod: &&&Value| selector.iter().all(|(name, value)| pod["metadata"]["labels"][name] == *value);
    let pod = pods.iter().find(fits).unwrap_or_else(|| panic!("{place} selects nothing"));
    let ports = list(&pod["spec"]["containers"][0]["ports"]);
    let has = |wanted: &Value| wanted.is_number() || ports.iter().any(|port| port["name"] == *wanted);
    let targets = list(&spec["ports"]).iter().map(|port| &port["targetPort"]);
    let admitted = list(&spec["ingress"]).iter().flat_map(|rule| list(&rule["ports"])).map(|port| &port["port"]);
    targets.chain(admitted).for_each(|port| assert!(has(port), "{place}: no port {port}"));
}

#[test]
fn the_chart_and_the_sidecar_run_the_program_as_it_is() {
    let releases = rendered();
    let mut kinds: BTreeSet<String> = BTreeSet::new();
    for (name, release) in &releases {
        let release = list(release);
        for manifest in release {
            let kind = manifest["kind"].as_str().unwrap();
            let place = format!("{name}: {kind} {}", manifest["metadata"]["name"]);
            kinds.insert(kind.to_owned());
            let pod = &manifest["spec"]["template"]["spec"];
            if !pod.is_null() {
                check_pod(pod, &place);
            }
            if kind == "ServiceMonitor" {
                let labels = &manifest["spec"]["selector"]["matchLabels"];
                let fits = |one: &&Value| {
                    let own = &one["metadata"]["labels"];
                    one["kind"] == "Service" && labels.as_object().unwrap().iter().all(|(k, v)| own[k] == *v)
                };
                let service = release.iter().find(fits).unwrap_or_else(|| panic!("{place} selects nothing"));
                let endpoint = &manifest["spec"]["endpoints"][0];
                assert_eq!(endpoint["path"], "/metrics");
                assert!(list(&service["spec"]["ports"]).iter().any(|port| port["name"] == endpoint["port"]), "{place}");
            } else {
                check_selection(release, manifest, &place);
            }
        }
    }
    let expected = [
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceMonitor",
        "StatefulSet",
    ];
    assert_eq!(kinds, expected.map(str::to_owned).into());
}
