// What an operator looks at first: whether all is well, how many calls there are and how long they take.

import { callCharts } from "/dashboard/chart.js";
import { chip, el, panel, setText } from "/dashboard/dom.js";
import { count, counted, ms, percent, rate, span } from "/dashboard/format.js";
import { store } from "/dashboard/store.js";
import { callTable } from "/dashboard/views/calls.js";

const SOON_S = 7 * 86400;
const RECENT_FAILED = 8;

/** What needs attention: [kind, text, view]. */
export function problems({ status }) {
  const found = [];
  const add = (kind, text, view) => found.push([kind, text, view]);
  if (status.state === "draining") add("warn", "The process is draining: it takes no new calls.", "overview");
  if (status.cores_silent > 0) add("bad", `${status.cores_silent} cores do not answer.`, "overview");
  for (const tunnel of status.tunnels) {
    if (tunnel.links === 0) add("bad", `Tunnel ${tunnel.id} has no link.`, "links");
    for (const host of tunnel.hosts.filter((host) => host.unserved)) add("bad", `No connector serves ${host.host}.`, "links");
  }
  for (const edge of status.edges) {
    if (edge.trouble) add("bad", `${edge.edge}: ${edge.trouble}`, "links");
    if (edge.hosts_missing.length > 0) add("warn", `The tunnel has no host ${edge.hosts_missing.join(", ")} at ${edge.edge}.`, "links");
  }
  for (const upstream of status.upstreams.filter((upstream) => upstream.failing)) {
    add("bad", `The server of ${upstream.route} cannot be reached: ${upstream.why ?? upstream.upstream}`, "tools");
  }
  for (const breaker of status.breakers.filter((breaker) => !["closed"].includes(breaker.state))) {
    add(breaker.state === "forced_closed" ? "warn" : "bad", `The breaker of ${breaker.route} ${breaker.tool || breaker.method} is ${breaker.state.replace("_", " ")}.`, "tools");
  }
  for (const certificate of status.certificates) {
    if (certificate.expires_in_s <= 0) add("bad", `The certificate for ${certificate.of} has expired.`, "certificates");
    else if (certificate.renewal_due || certificate.expires_in_s < SOON_S) add("warn", `The certificate for ${certificate.of} ends in ${span(certificate.expires_in_s)}.`, "certificates");
  }
  for (const fault of status.reload.faults ?? []) add("bad", `The configuration was not reloaded: ${fault}`, "overview");
  if (status.reload.restart_needed.length > 0) add("warn", `A restart is needed for ${status.reload.restart_needed.join(", ")}.`, "overview");
  return found;
}

export function overview() {
  const tiles = new Map();
  const grid = el("dl", { class: "tiles" });
  function tile(name, value, note) {
    if (!tiles.has(name)) {
      const parts = { value: el("dd", { class: "value" }), note: el("dd", { class: "small" }) };
      tiles.set(name, parts);
      grid.append(el("div", { class: "tile" }, el("dt", {}, name), parts.value, parts.note));
    }
    setText(tiles.get(name).value, value);
    setText(tiles.get(name).note, note);
  }

  const list = el("ul", { class: "problems" });
  let listed = null;
  const charts = callCharts();
  const failed = callTable("The last calls that failed", "No call has failed since the page was opened.");

  function update(sample) {
    const { status, latency, interval } = sample;
    const found = problems(sample);
    const wanted = JSON.stringify(found);
    if (wanted !== listed) {
      listed = wanted;
      list.replaceChildren(...(found.length === 0 ? [el("li", {}, chip("ok", "Nothing needs attention"))] : found.map(([kind, text, view]) =>
        el("li", {}, chip(kind, kind === "bad" ? "problem" : "notice"), " ", view === "overview" ? text : el("a", { href: `/#${view}` }, text)))));
    }
    const total = latency.total;
    const errors = total.calls - (total.outcomes.ok ?? 0);
    const seconds = interval?.seconds;
    const now = interval?.total;
    const inFlight = status.cores.filter((core) => core.role === status.roles[0]).reduce((sum, core) => sum + core.calls_open, 0);
    const links = status.links.filter((link) => link.role === status.roles[0]);
    tile("Calls per second", rate(seconds ? now.calls / seconds : null), `${count(total.calls)} since the start`);
    tile("Failed", percent(errors, total.calls), `${count(errors)} calls`);
    tile("Tunnel p50, ms", ms(total.phases.tunnel?.p50_us), `p95 ${ms(total.phases.tunnel?.p95_us)}`);
    tile("Server p50, ms", ms(total.phases.upstream?.p50_us), `p95 ${ms(total.phases.upstream?.p95_us)}`);
    tile("In flight", count(inFlight), `on ${counted(status.cores.length, "core")}`);
    tile("Links", count(links.length), `of ${counted(status.tunnels.filter((tunnel) => tunnel.role === status.roles[0]).length, "tunnel")}`);
    charts.update(store.series);
    failed.update(store.calls.filter((call) => call.stopped_at !== "done" || call.status >= 400).slice(0, RECENT_FAILED));
  }

  return {
    name: "overview",
    title: "Overview",
    element: el("div", {}, panel("Attention", list), grid, panel("The last quarter of an hour", charts.element), panel("Failed calls", failed.element)),
    update,
  };
}
