//! The alert rules and the dashboard in `profiles/` use only metrics, labels and values that the program exports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use crate::control::metrics::metrics;
use crate::control::{sample, tasks};
use crate::latency::{Outcome, Phase, StatusClass};
use crate::serve::AuditCounters;

/// Labels that Prometheus adds to each series of a target.
const TARGET_LABELS: [&str; 2] = ["job", "instance"];
/// The metric that Prometheus itself makes for each target.
const UP: &str = "up";
/// Words of PromQL that stand before a list of labels.
const LABEL_LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const OPERATORS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "atan2"];

type Names = BTreeSet<String>;

/// What the program exports.
struct Exported {
    /// The labels of each metric.
    labels: BTreeMap<String, Names>,
    /// The values of labels that have a fixed set of them.
    values: BTreeMap<&'static str, Names>,
}

impl Exported {
    fn new() -> Exported {
        let mut report = sample::report();
        let role = &mut report.roles[0];
        role.counts = crate::edge::Counters::default().counts();
        role.counts.extend(crate::connector::Counters::default().counts());
        role.counts.extend(AuditCounters::default().counts());
        role.counts.extend(tasks::counts(&sample::tasks()));
        role.counts.sort_unstable_by_key(|count| count.name);
        role.counts.dedup_by_key(|count| count.name);
        let text = metrics(report);
        let mut labels: BTreeMap<String, Names> = [(UP.to_owned(), Names::new())].into();
        let mut bounds = Names::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let at = line.find(['{', ' ']).expect("a sample has a value");
            let found = labels.entry(line[..at].to_owned()).or_default();
            let mut rest = &line[at..];
            while let Some((name, after)) = rest.split_once("=\"") {
                let name = name.rsplit(['{', ',']).next().expect("a split has a part");
                let (value, after) = after.split_once('"').expect("a value ends");
                if name == "le" {
                    bounds.insert(value.to_owned());
                }
                found.insert(name.to_owned());
                rest = after;
            }
        }
        // Exported like the other counters of a tool, once a call was cut off or sent again.
        let of_tool = labels["adit_deadlines_missed_total"].clone();
        for name in ["adit_deadlines_cut_total", "adit_calls_hedged_total", "adit_calls_hedged_won_total"] {
            labels.insert(name.to_owned(), of_tool.clone());
        }
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Names>();
        let values = BTreeMap::from([
            ("outcome", Outcome::ALL.iter().map(|outcome| outcome.name().to_owned()).collect()),
            ("phase", Phase::ALL.iter().map(|phase| phase.name().to_owned()).collect()),
            ("class", StatusClass::ALL.iter().map(|class| class.name().to_owned()).collect()),
            ("role", set(&["edge", "connector"])),
            ("result", set(&["applied", "refused"])),
            ("standing", set(&["new", "changed", "approved", "unreadable"])),
            ("le", bounds),
        ]);
        Exported { labels, values }
    }

    /// The labels that the result of an expression may have.
    fn labels_of(&self, expression: &str) -> Result<Names, String> {
        let tokens = tokens(expression)?;
        let (mut of_metrics, mut listed, mut has_list) = (Names::new(), Names::new(), false);
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            let is_call = tokens.get(at).is_some_and(|next| next == "(");
            let is_aggregation = tokens.get(at).is_some_and(|next| LABEL_LISTS.contains(&next.as_str()));
            if LABEL_LISTS.contains(&token.as_str()) && is_call {
                has_list = true;
                while tokens.get(at).is_some_and(|next| next != ")") {
                    at += 1;
                    listed.extend(tokens.get(at).filter(|label| is_name(label)).cloned());
                }
                continue;
            }
            if !is_name(token) || OPERATORS.contains(&token.as_str()) || is_call || is_aggregation {
                continue;
            }
            let labels = self.labels.get(token).ok_or_else(|| format!("no metric {token}"))?;
            if tokens.get(at).is_some_and(|next| next == "{") {
                let end = tokens[at..].iter().position(|next| next == "}").ok_or("a selector does not end")? + at;
                self.check_selector(token, labels, &tokens[at + 1..end])?;
                at = end;
            }
            of_metrics.extend(labels.iter().cloned());
        }
        of_metrics.extend(TARGET_LABELS.map(str::to_owned));
        match listed.difference(&of_metrics).next() {
            Some(label) => Err(format!("no metric of the expression has the label {label}")),
            None if has_list => Ok(listed),
            None => Ok(of_metrics),
        }
    }

    fn check_selector(&self, metric: &str, labels: &Names, selector: &[String]) -> Result<(), String> {
        for matcher in selector.split(|token| token == ",") {
            let [label, operator, value] = matcher else { return Err(format!("{metric}: {matcher:?} is no matcher")) };
            let value = value.trim_matches('"');
            if !labels.contains(label) && !TARGET_LABELS.contains(&label.as_str()) {
                return Err(format!("{metric} has no label {label}"));
            }
            let Some(known) = self.values.get(label.as_str()) else { continue };
            let mut alternatives = value.split('|').take(if operator.contains('~') { usize::MAX } else { 1 });
            if let Some(unknown) = alternatives.find(|one| !known.contains(*one)) {
                return Err(format!("{metric}: {label} is never {unknown}"));
            }
        }
        Ok(())
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Splits an expression into names, strings, numbers with their units, and signs. Brackets with a range are left out.
fn tokens(expression: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.' | '$');
        let len = match first {
            '"' => rest[1..].find('"').map(|at| at + 2).ok_or("a string does not end")?,
            '[' => rest.find(']').map(|at| at + 1).ok_or("a range does not end")?,
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            '=' | '!' | '<' | '>' => rest.find(|c| !matches!(c, '=' | '!' | '<' | '>' | '~')).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        if first != '[' {
            found.push(rest[..len].to_owned());
        }
        rest = rest[len..].trim_start();
    }
    Ok(found)
}

/// The labels that a text with `{{ $labels.x }}` (a rule) or `{{x}}` (a legend) shows.
fn shown_labels(text: &str) -> Vec<&str> {
    let inside = text.split("{{").skip(1).filter_map(|part| Some(part.split_once("}}")?.0.trim()));
    let label = |inside: &'_ str| !inside.contains("$value");
    inside.filter(|inside| label(inside)).map(|inside| inside.trim_start_matches("$labels.")).collect()
}

fn check_shown(text: &str, labels: &Names, place: &str, faults: &mut Vec<String>) {
    let unknown = shown_labels(text).into_iter().filter(|label| !labels.contains(*label));
    faults.extend(unknown.map(|label| format!("{place}: its text shows the label {label}, which its result lacks")));
}

/// What is wrong with the rules; `seen` gets the metrics that they use.
fn faults_of_rules(exported: &mut Exported, rules: &str, seen: &mut usize) -> Vec<String> {
    let documents = YamlLoader::load_from_str(rules).expect("the rules are YAML");
    let mut faults = Vec::new();
    for group in documents[0]["groups"].as_vec().expect("there are groups") {
        for rule in group["rules"].as_vec().expect("a group has rules") {
            let text = |yaml: &Yaml| yaml.as_str().unwrap_or_default().to_owned();
            let (alert, record) = (text(&rule["alert"]), text(&rule["record"]));
            let place = format!("{alert}{record}");
            *seen += 1;
            match exported.labels_of(&text(&rule["expr"])) {
                Err(fault) => faults.push(format!("{place}: {fault}")),
                Ok(labels) if alert.is_empty() => {
                    exported.labels.insert(record, labels);
                }
                Ok(labels) => {
                    for annotation in ["summary", "description"] {
                        let text = text(&rule["annotations"][annotation]);
                        if text.is_empty() {
                            faults.push(format!("{place}: it has no {annotation}"));
                        }
                        check_shown(&text, &labels, &place, &mut faults);
                    }
                    let severity = text(&rule["labels"]["severity"]);
                    if !matches!(severity.as_str(), "critical" | "warning") {
                        faults.push(format!("{place}: its severity is {severity}"));
                    }
                }
            }
        }
    }
    faults
}

fn faults_of_dashboard(exported: &Exported, dashboard: &Value, seen: &mut usize) -> Vec<String> {
    let mut faults = Vec::new();
    for panel in dashboard["panels"].as_array().expect("there are panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let (place, legend) = (panel["title"].to_string(), target["legendFormat"].as_str().unwrap_or_default());
            *seen += 1;
            match exported.labels_of(target["expr"].as_str().expect("a target has an expression")) {
                Err(fault) => faults.push(format!("{place}: {fault}")),
                Ok(labels) => check_shown(legend, &labels, &place, &mut faults),
            }
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("there are variables") {
        let Some(query) = variable["definition"].as_str() else { continue };
        let inner = query.strip_prefix("label_values(").and_then(|query| query.strip_suffix(')'));
        let (selector, label) = inner.and_then(|inner| inner.rsplit_once(", ")).expect("a query for values of a label");
        match exported.labels_of(selector) {
            Err(fault) => faults.push(format!("{query}: {fault}")),
            Ok(labels) if !labels.contains(label) => faults.push(format!("{query}: no label {label}")),
            Ok(_) => {}
        }
    }
    faults
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn alert_rules_and_dashboard_use_only_what_is_exported() {
    let mut exported = Exported::new();
    let (mut rules, mut targets) = (0, 0);
    let mut faults = faults_of_rules(&mut exported, &read("prometheus/alerts.yaml"), &mut rules);
    let dashboard = serde_json::from_str(&read("grafana/adit.json")).expect("the dashboard is JSON");
    faults.extend(faults_of_dashboard(&exported, &dashboard, &mut targets));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(rules > 20 && targets > 40, "only {rules} rules and {targets} expressions were found");
}

#[test]
fn the_chart_scales_on_a_metric_that_is_exported() {
    let chart = read("helm/adit/templates/edge.yaml") + &read("helm/adit/values.yaml");
    let words = chart.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let metrics: Vec<&str> = words.filter(|word| word.starts_with("adit_")).collect();
    let exported = Exported::new();
    assert!(!metrics.is_empty() && metrics.iter().all(|metric| exported.labels.contains_key(*metric)), "{metrics:?}");
}

#[test]
fn what_is_not_exported_is_seen() {
    let exported = Exported::new();
    for (expression, fault) in [
        ("adit_link_open == 0", "no metric adit_link_open"),
        ("sum by (job) (rate(adit_links_ended_totals[5m]))", "no metric adit_links_ended_totals"),
        ("adit_links_open{tunnel=\"a\"}", "adit_links_open has no label tunnel"),
        ("adit_links_open{role=\"edges\"}", "adit_links_open: role is never edges"),
        ("adit_calls_total{outcome=~\"ok|gone\"}", "adit_calls_total: outcome is never gone"),
        (
            "adit_call_phase_duration_seconds_bucket{le=\"0.2\"}",
            "adit_call_phase_duration_seconds_bucket: le is never 0.2",
        ),
        ("sum by (host) (adit_links_open)", "no metric of the expression has the label host"),
        ("adit_links_open{role=\"edge\"", "a selector does not end"),
    ] {
        assert_eq!(exported.labels_of(expression).unwrap_err(), fault);
    }
    let labels = |expression: &str| exported.labels_of(expression).unwrap().into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(labels("max_over_time(adit_links_open[1h] offset 5m) > 2 * 3"), "instance job role");
    assert_eq!(labels("sum by (job, le) (rate(adit_call_phase_duration_seconds_bucket[$__rate_interval]))"), "job le");

    let rule = "groups:\n- rules:\n  - alert: A\n    expr: sum by (role) (adit_links_open)\n    labels: {severity: loud}\n    \
                annotations: {summary: '{{ $value }} of {{ $labels.job }}'}";
    let faults = faults_of_rules(&mut Exported::new(), rule, &mut 0);
    assert_eq!(
        faults,
        [
            "A: its text shows the label job, which its result lacks",
            "A: it has no description",
            "A: its severity is loud"
        ]
    );
}
