//! `GET /metrics`: all metrics as OpenMetrics text.
//!
//! The names are an interface for operators. A test compares the whole list.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::{Registry, Unit};

use crate::control::approval_counts::ApprovalReading;
use crate::control::dashboard_counts::DashboardReading;
use crate::control::inventories::ToolCounts;
use crate::control::metric_families::{Families, Labels, TextFamilies};
use crate::control::reading::{CoreReading, LinkReading, RoleReading, StdioReading, UpstreamReading};
use crate::control::report::Report;
use crate::latency::{
    BreakerReading, Deadlines, Distribution, Hedges, Label, LabelFigures, Outcome, Phase, QueueReading, StatusClass,
};

/// The media type of OpenMetrics text.
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is counted of upstreams that are commands, by kind.
const STDIO_FAMILIES: [(&str, &str); 5] = [
    ("starts", "Processes of an upstream that were started, or could not be; restarted ones are counted twice"),
    ("exits", "Processes of an upstream that have ended, by how"),
    ("strays", "Lines and messages of the processes of an upstream that could not be used, by why"),
    ("dropped", "Lines of the log, messages and answers of the processes of an upstream that were dropped"),
    ("refused", "Requests to an upstream that is a command that were refused, by the limit"),
];

/// Formats a report as OpenMetrics text.
#[must_use]
pub fn metrics(report: Report) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(report)));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("writing to a String cannot fail");
    out
}

/// A report as a collector.
struct Scrape(Report);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.write(&mut TextFamilies(encoder))
    }
}

/// Writes all metrics of a report.
pub(super) fn write_metrics(report: Report, families: &mut impl Families) -> fmt::Result {
    Scrape(report).write(families)
}

impl Scrape {
    fn write(&self, families: &mut impl Families) -> fmt::Result {
        self.process(families)?;
        self.calls(families)?;
        self.cores(families)?;
        self.links(families)?;
        self.upstreams(families)?;
        self.breakers(families)?;
        self.limits(families)?;
        self.certificates(families)?;
        self.tools(families)?;
        self.approvals(families)?;
        self.dashboard(families)?;
        self.otlp(families)?;
        self.counts(families)
    }

    fn process(&self, families: &mut impl Families) -> fmt::Result {
        let facts = &self.0.facts;
        let info =
            |pairs: &[(&'static str, &str)]| pairs.iter().map(|(k, v)| (*k, (*v).to_owned())).collect::<Labels>();
        families.info(
            "adit_build",
            "The running program",
            &info(&[("version", facts.version), ("commit", facts.commit)]),
        )?;
        let engine = info(&[("driver", &facts.driver), ("why", &facts.driver_why)]);
        families.info("adit_engine", "The I/O driver in use, and why it was chosen", &engine)?;
        let seconds = self.0.uptime.as_secs_f64();
        families.gauges("adit_uptime", "Time since the start", Some(&Unit::Seconds), &[(Vec::new(), seconds)])?;
        let reloads = &self.0.reloads;
        let by_result = [("applied", reloads.applied), ("refused", reloads.refused)];
        let rows = by_result.map(|(result, count)| (vec![("result", result.to_owned())], count));
        families.counters("adit_config_reloads", "Attempts to reload the configuration", &rows)
    }

    fn calls(&self, families: &mut impl Families) -> fmt::Result {
        let Some(latency) = self.0.latency.as_ref().map(|latency| &latency.snapshot) else { return Ok(()) };
        let rows = latency.labels().flat_map(|(label, figures)| {
            Outcome::ALL.iter().filter(|outcome| figures.outcome(**outcome) > 0).map(move |outcome| {
                let mut labels = call_labels(label);
                labels.push(("outcome", outcome.name().to_owned()));
                (labels, figures.outcome(*outcome))
            })
        });
        families.counters("adit_calls", "Calls that ended, by outcome", &rows.collect::<Vec<_>>())?;
        let rows = latency.labels().flat_map(|(label, figures)| {
            StatusClass::ALL.iter().filter(|class| figures.answered(**class) > 0).map(move |class| {
                let mut labels = call_labels(label);
                labels.push(("class", class.name().to_owned()));
                (labels, figures.answered(*class))
            })
        });
        let help = "Answers of upstreams by class of status; gateway is 502, 503 and 504";
        families.counters("adit_upstream_answers", help, &rows.collect::<Vec<_>>())?;
        families.histograms(
            "adit_call_phase_duration",
            "The time of calls by phase; total is measured itself and is not the sum of the phases",
            latency.labels().flat_map(|(label, figures)| phases(label, figures)),
        )?;
        let deadlines = latency.labels().filter_map(|(label, figures)| Some((label, figures.deadline()?)));
        let rows = deadlines
            .filter(|(_, deadline)| deadline.limit < Duration::MAX)
            .map(|(label, deadline)| (call_labels(label), deadline.limit.as_secs_f64()));
        let help = "The deadline of a call that begins now, whether it is enforced or only observed";
        families.gauges("adit_deadline", help, Some(&Unit::Seconds), &rows.collect::<Vec<_>>())?;
        let count = |of: fn(&Deadlines) -> u64| {
            let counts = latency.labels().map(|(label, figures)| (call_labels(label), of(figures.deadlines())));
            counts.filter(|(_, count)| *count > 0).collect::<Vec<_>>()
        };
        let help = "Calls that missed their deadline and were not cut off because it is not enforced";
        families.counters("adit_deadlines_missed", help, &count(|deadlines| deadlines.missed))?;
        let help = "Calls that were cut off because their deadline had passed";
        families.counters("adit_deadlines_cut", help, &count(|deadlines| deadlines.cut))?;
        let count = |of: fn(&Hedges) -> u64| {
            let counts = latency.labels().map(|(label, figures)| (call_labels(label), of(&figures.hedges())));
            counts.filter(|(_, count)| *count > 0).collect::<Vec<_>>()
        };
        let help = "Calls that were sent a second time because the first try was slow";
        families.counters("adit_calls_hedged", help, &count(|hedges| hedges.made))?;
        let help = "Calls that were sent a second time, and answered by the second try";
        families.counters("adit_calls_hedged_won", help, &count(|hedges| hedges.won))?;
        let rows = [(Labels::new(), latency.over_cap())];
        families.counters(
            "adit_calls_without_label",
            "Calls counted under (other) because no label was left",
            &rows,
        )?;
        let rows = [(Labels::new(), latency.total().clock_disagreements())];
        families.counters("adit_clock_disagreements", "Calls whose parts were measured longer than the whole", &rows)
    }

    fn cores(&self, families: &mut impl Families) -> fmt::Result {
        type Read = fn(&CoreReading) -> f64;
        let gauges: [(&str, &str, Option<Unit>, Read); 13] = [
            ("adit_calls_open", "Calls in flight", None, |core| core.calls_open as f64),
            ("adit_agent_connections_open", "Connections of agents", None, |core| core.agents_open as f64),
            ("adit_sockets_open", "Sockets and listeners", None, |core| core.sockets_open as f64),
            ("adit_tasks_open", "Tasks", None, |core| core.tasks_open as f64),
            ("adit_buffers_leased", "Buffers in use", Some(Unit::Bytes), |core| core.pool.leased_bytes as f64),
            ("adit_buffers_allocated", "Buffers in use or free", Some(Unit::Bytes), |core| {
                core.pool.allocated_bytes as f64
            }),
            ("adit_buffers_for_receiving", "Buffers in use that were taken to receive", Some(Unit::Bytes), |core| {
                core.pool.receive_bytes as f64
            }),
            ("adit_buffers_for_sending", "Buffers in use that were taken to send", Some(Unit::Bytes), |core| {
                core.pool.send_bytes as f64
            }),
            ("adit_buffers_for_links", "Buffers in use that were taken for links", Some(Unit::Bytes), |core| {
                core.pool.link_bytes as f64
            }),
            (
                "adit_link_windows",
                "The most that the peers of links may make this process buffer",
                Some(Unit::Bytes),
                |core| core.pool.window_bytes as f64,
            ),
            ("adit_buffers_allowance", "The most that one queue may hold now", Some(Unit::Bytes), |core| {
                core.pool.allowance_bytes as f64
            }),
            ("adit_buffers_waiting", "Tasks that wait for a buffer", None, |core| core.pool.waiting as f64),
            ("adit_buffers_limit", "The most that buffers may take", Some(Unit::Bytes), |core| {
                core.pool.bytes_max as f64
            }),
        ];
        for (name, help, unit, read) in gauges {
            families.gauges(name, help, unit.as_ref(), &self.per_core(read))?;
        }
        let rows = self.per_core(|core| core.pool.exhausted);
        families.counters("adit_buffers_exhausted", "Requests for a buffer when none was left", &rows)?;
        let rows: Vec<_> =
            self.0.roles.iter().map(|role| (role_label(role), (role.cores_asked - role.cores.len()) as f64)).collect();
        families.gauges("adit_cores_silent", "Cores that did not answer in time", None, &rows)
    }

    fn links(&self, families: &mut impl Families) -> fmt::Result {
        let rows = self.per_role(|role| role.links.len() as f64);
        families.gauges("adit_links_open", "Links that are up", None, &rows)?;
        let rows = self.per_link(|link| Some(link.streams as f64));
        families.gauges("adit_link_streams_open", "Streams open on a link", None, &rows)?;
        let rows = self.per_link(|link| Some(link.round_trip?.as_secs_f64()));
        families.gauges(
            "adit_link_round_trip",
            "A link's own round trip, as last measured",
            Some(&Unit::Seconds),
            &rows,
        )?;
        let rows = self.per_link(|link| Some(link.quic?.congestion_window as f64));
        families.gauges(
            "adit_link_quic_congestion_window",
            "How much a link over QUIC may have under way at a time",
            Some(&Unit::Bytes),
            &rows,
        )?;
        let rows = self.per_link(|link| Some(link.quic?.packets_sent as f64));
        families.gauges("adit_link_quic_packets_sent", "Packets that a link over QUIC has sent", None, &rows)?;
        let rows = self.per_link(|link| Some(link.quic?.packets_lost as f64));
        families.gauges("adit_link_quic_packets_lost", "Packets of a link over QUIC that were lost", None, &rows)?;
        let rows = self.per_link(|link| Some(link.age.as_secs_f64()));
        families.gauges("adit_link_age", "How long a link has been up", Some(&Unit::Seconds), &rows)?;
        let rows = self.per_tunnel_idle();
        families.gauges(
            "adit_tunnel_idle",
            "Time since the last call of a tunnel that has links; since the links are up, if there was no call",
            Some(&Unit::Seconds),
            &rows,
        )?;
        let rows = self.per_tunnel_unserved();
        families.gauges(
            "adit_tunnel_hosts_unserved",
            "Hosts for which no connector of their tunnel has a route; of tunnels that have links",
            None,
            &rows,
        )
    }

    fn upstreams(&self, families: &mut impl Families) -> fmt::Result {
        let rows = self.per_upstream(|upstream| upstream.connections_open as f64);
        families.gauges("adit_upstream_connections_open", "Connections to an upstream", None, &rows)?;
        let rows = self.per_upstream(|upstream| upstream.http2_connections_open as f64);
        let help = "HTTP/2 connections to an upstream";
        families.gauges("adit_upstream_http2_connections_open", help, None, &rows)?;
        let rows = self.per_upstream(|upstream| upstream.http2_streams_open as f64);
        families.gauges("adit_upstream_http2_streams_open", "Calls on HTTP/2 streams to an upstream", None, &rows)?;
        let rows = self.per_upstream(|upstream| f64::from(u8::from(upstream.failing)));
        families.gauges(
            "adit_upstream_failing",
            "Whether an upstream took no connection when last asked, or a gateway answered for it",
            None,
            &rows,
        )?;
        let stdio = |read: fn(&StdioReading) -> u64| {
            let rows = self.per_upstream(|upstream| upstream.stdio.as_ref().map(read));
            rows.into_iter().filter_map(|(labels, of)| Some((labels, of? as f64))).collect::<Vec<_>>()
        };
        let rows = stdio(|stdio| stdio.children);
        families.gauges("adit_stdio_children", "Processes of an upstream that is a command", None, &rows)?;
        let rows = stdio(|stdio| stdio.sessions);
        families.gauges("adit_stdio_sessions", "Open sessions of an upstream that is a command", None, &rows)?;
        for (family, help) in STDIO_FAMILIES {
            let rows = self.per_upstream(|upstream| upstream.stdio.as_ref()?.counts.get(family).cloned());
            let kinds = rows.into_iter().flat_map(|(labels, counts)| {
                let kind = move |(kind, count)| ([labels.clone(), vec![("kind", kind)]].concat(), count);
                counts.into_iter().flatten().map(kind)
            });
            families.counters(&format!("adit_stdio_{family}"), help, &kinds.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Breakers that have opened, or that an operator has forced. The breaker of an upstream has no method.
    fn breakers(&self, families: &mut impl Families) -> fmt::Result {
        let known = self.0.roles.iter().flat_map(|role| role.breakers.iter().map(move |reading| (role, reading)));
        let rows = |of: fn(&BreakerReading) -> u64| {
            let known = known.clone().filter(|(_, reading)| reading.has_changed());
            known.map(move |(role, reading)| {
                let labels = [role_label(role), call_labels(&reading.label)].concat();
                (labels, of(reading))
            })
        };
        let open = rows(|reading| u64::from(!reading.lets_through())).map(|(labels, open)| (labels, open as f64));
        let help = "Whether a circuit breaker is open or half open (1) or closed (0), enforced or only observed";
        families.gauges("adit_breaker_open", help, None, &open.collect::<Vec<_>>())?;
        let opened = rows(|reading| reading.opened).collect::<Vec<_>>();
        families.counters("adit_breaker_openings", "How often a breaker opened", &opened)?;
        let refused = rows(|reading| reading.refused).collect::<Vec<_>>();
        families.counters("adit_breaker_refused", "Calls that a breaker refused", &refused)?;
        let refused = rows(|reading| reading.would_refuse).collect::<Vec<_>>();
        let help = "Calls that a breaker would have refused if it were enforced";
        families.counters("adit_breaker_would_refuse", help, &refused)
    }

    /// The concurrency limits of routes that have had calls.
    fn tools(&self, families: &mut impl Families) -> fmt::Result {
        let rows = self.0.tools.iter().flat_map(|ToolCounts { route, kind, new, changed, approved, unreadable }| {
            let by_standing = [("new", new), ("changed", changed), ("approved", approved), ("unreadable", unreadable)];
            by_standing.map(|(standing, count)| {
                let kind = ("kind", kind.name().to_owned());
                let labels = vec![("route", route.clone()), kind, ("standing", standing.to_owned())];
                (labels, *count as f64)
            })
        });
        let help = "Tools, prompts and resources of a route with `pin`, by whether somebody has approved them";
        families.gauges("adit_tools", help, None, &rows.collect::<Vec<_>>())
    }

    /// The dashboard: its streams, and attempts to log in.
    fn dashboard(&self, families: &mut impl Families) -> fmt::Result {
        let DashboardReading { streams, log_ins } = self.0.dashboard;
        let row = |(outcome, count): (&str, u64)| (vec![("outcome", outcome.to_owned())], count);
        families.counters("adit_dashboard_streams", "Streams of samples to dashboards", &streams.map(row))?;
        families.counters("adit_dashboard_log_ins", "Attempts to log in to the dashboard", &log_ins.map(row))
    }

    /// Approvals: notifications, links, and the file.
    fn approvals(&self, families: &mut impl Families) -> fmt::Result {
        let Some(ApprovalReading { deliveries, links, unwritten }) = self.0.approvals else { return Ok(()) };
        let row = |(outcome, count): (&str, u64)| (vec![("outcome", outcome.to_owned())], count);
        let help = "Notifications of calls that wait for approval";
        families.counters("adit_approval_deliveries", help, &deliveries.map(row))?;
        families.counters("adit_approval_links", "Requests of pages behind signed links", &links.map(row))?;
        let help = "Failed writes of the file of the approvals";
        families.counters("adit_approvals_unwritten", help, &[(Vec::new(), unwritten)])
    }

    /// The export of traces and metrics.
    fn otlp(&self, families: &mut impl Families) -> fmt::Result {
        let Some(reading) = &self.0.otlp else { return Ok(()) };
        let rows = reading.spans.map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count));
        families.counters("adit_otlp_spans", "Spans that were exported, by what came of it", &rows)?;
        let rows = [(Vec::new(), reading.calls_dropped)];
        families.counters(
            "adit_otlp_calls_dropped",
            "Sampled calls that were dropped because the queue was full",
            &rows,
        )?;
        let rows = [(Vec::new(), reading.calls_waiting as f64)];
        families.gauges("adit_otlp_calls_waiting", "Sampled calls that wait for the export", None, &rows)?;
        let rows = reading.requests.map(|(signal, outcome, count)| {
            (vec![("signal", signal.to_owned()), ("outcome", outcome.to_owned())], count)
        });
        families.counters("adit_otlp_requests", "Requests to the OTLP endpoint, by what came of them", &rows)
    }

    fn limits(&self, families: &mut impl Families) -> fmt::Result {
        let known = self.0.roles.iter().flat_map(|role| role.limits.iter().map(move |limit| (role, limit)));
        let labelled = known.map(|(role, (route, reading))| {
            let mut labels = role_label(role);
            labels.push(("route", route.clone()));
            (labels, reading)
        });
        let labelled: Vec<(Labels, &QueueReading)> = labelled.collect();
        let gauge = |of: fn(&QueueReading) -> u32| {
            labelled.iter().map(|(labels, reading)| (labels.clone(), f64::from(of(reading)))).collect::<Vec<_>>()
        };
        let count = |of: fn(&QueueReading) -> u64| {
            labelled.iter().map(|(labels, reading)| (labels.clone(), of(reading))).collect::<Vec<_>>()
        };
        let rows = gauge(|reading| reading.limit);
        families.gauges("adit_concurrency_limit", "Calls of a route that may be in flight", None, &rows)?;
        let rows = gauge(|reading| reading.in_flight);
        families.gauges("adit_concurrency_in_flight", "Calls of a route that are in flight", None, &rows)?;
        let rows = gauge(|reading| reading.waiting);
        families.gauges("adit_concurrency_waiting", "Calls of a route that wait for a place", None, &rows)?;
        let rows = count(|reading| reading.counts.waited);
        families.counters("adit_concurrency_waited", "Calls that waited for a place", &rows)?;
        let rows = count(|reading| reading.counts.refused);
        families.counters("adit_concurrency_refused", "Calls that a concurrency limit refused", &rows)?;
        let rows = count(|reading| reading.counts.refused_for_share);
        let help = "Calls that a concurrency limit refused because their agent had its share";
        families.counters("adit_concurrency_refused_for_share", help, &rows)?;
        let rows = count(|reading| reading.counts.would_refuse);
        let help = "Calls beyond a concurrency limit that was not enforced";
        families.counters("adit_concurrency_would_refuse", help, &rows)
    }

    /// Certificates: those of an edge by their use, those of a connector by edge.
    fn certificates(&self, families: &mut impl Families) -> fmt::Result {
        let mut rows = Vec::new();
        for role in &self.0.roles {
            let own = role.certificates.iter().map(|one| (one.of.clone(), one.expires_in_s as f64));
            let given = role.edges.iter().filter_map(|one| Some((one.edge.clone(), one.expires_in_s? as f64)));
            rows.extend(own.chain(given).map(|(of, left)| {
                let mut labels = role_label(role);
                labels.push(("of", of));
                (labels, left)
            }));
        }
        families.gauges("adit_certificate_left", "How long a certificate remains valid", Some(&Unit::Seconds), &rows)
    }

    fn counts(&self, families: &mut impl Families) -> fmt::Result {
        let mut names: Vec<(&str, &str)> =
            self.0.roles.iter().flat_map(|role| role.counts.iter().map(|count| (count.name, count.help))).collect();
        names.sort_unstable();
        names.dedup_by_key(|(name, _)| *name);
        for (name, help) in names {
            let rows: Vec<_> = (self.0.roles.iter())
                .filter_map(|role| {
                    let count = role.counts.iter().find(|count| count.name == name)?;
                    Some((role_label(role), count.count))
                })
                .collect();
            families.counters(&format!("adit_{name}"), help, &rows)?;
        }
        Ok(())
    }

    fn per_role<T>(&self, read: impl Fn(&RoleReading) -> T) -> Vec<(Labels, T)> {
        self.0.roles.iter().map(|role| (role_label(role), read(role))).collect()
    }

    fn per_core<T>(&self, read: impl Fn(&CoreReading) -> T) -> Vec<(Labels, T)> {
        let cores = self.0.roles.iter().flat_map(|role| role.cores.iter().map(move |core| (role, core)));
        cores
            .map(|(role, core)| {
                let mut labels = role_label(role);
                labels.push(("core", core.core.to_string()));
                (labels, read(core))
            })
            .collect()
    }

    fn per_upstream<T>(&self, read: impl Fn(&UpstreamReading) -> T) -> Vec<(Labels, T)> {
        let upstreams =
            self.0.roles.iter().flat_map(|role| role.upstreams.iter().map(move |upstream| (role, upstream)));
        upstreams
            .map(|(role, upstream)| {
                let mut labels = role_label(role);
                labels.push(("route", upstream.route.clone()));
                (labels, read(upstream))
            })
            .collect()
    }

    /// The tunnels that have links, each with the shortest idle time of its links. There are at most as many as links.
    fn per_tunnel_idle(&self) -> Vec<(Labels, f64)> {
        let mut idle: BTreeMap<&str, Duration> = BTreeMap::new();
        let links = self.0.roles.iter().flat_map(|role| &role.links);
        for (tunnel, link_idle) in links.filter_map(|link| Some((link.tunnel.as_str(), link.idle?))) {
            idle.entry(tunnel).and_modify(|least| *least = link_idle.min(*least)).or_insert(link_idle);
        }
        idle.into_iter().map(|(tunnel, idle)| (vec![("tunnel", tunnel.to_owned())], idle.as_secs_f64())).collect()
    }

    /// The tunnels that have links, each with the number of its hosts that no connector serves.
    fn per_tunnel_unserved(&self) -> Vec<(Labels, f64)> {
        let tunnels = self.0.roles.iter().flat_map(|role| &role.tunnels);
        tunnels.map(|tunnel| (vec![("tunnel", tunnel.id.clone())], tunnel.unserved().count() as f64)).collect()
    }

    fn per_link<T>(&self, read: impl Fn(&LinkReading) -> Option<T>) -> Vec<(Labels, T)> {
        let links = self.0.roles.iter().flat_map(|role| role.links.iter().map(move |link| (role, link)));
        links
            .filter_map(|(role, link)| {
                let mut labels = role_label(role);
                labels.push(("tunnel", link.tunnel.clone()));
                labels.push(("link", link.id.to_string()));
                labels.push(("core", link.core.to_string()));
                Some((labels, read(link)?))
            })
            .collect()
    }
}

/// The phases that at least one call of a label had.
fn phases<'a>(label: &'a Label, figures: &'a LabelFigures) -> impl Iterator<Item = (Labels, &'a Distribution)> {
    Phase::ALL.into_iter().filter(|phase| figures.phase(*phase).count() > 0).map(move |phase| {
        let mut labels = call_labels(label);
        labels.push(("phase", phase.name().to_owned()));
        (labels, figures.phase(phase))
    })
}

fn call_labels(label: &Label) -> Labels {
    let (route, method, tool) = (label.route.to_string(), label.method.to_string(), label.tool.to_string());
    vec![("route", route), ("method", method), ("tool", tool)]
}

fn role_label(role: &RoleReading) -> Labels {
    vec![("role", role.kind.as_str().to_owned())]
}
