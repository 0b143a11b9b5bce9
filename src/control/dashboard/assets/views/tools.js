// Routes, tools and breakers, with the times of one tool over time.

import { callCharts } from "/dashboard/chart.js";
import { announce, el, panel, setText, table } from "/dashboard/dom.js";
import { count, ms, NONE, percent, rate, words } from "/dashboard/format.js";
import { ask, session } from "/dashboard/session.js";
import { addPoint, labelKey, store, subscribe } from "/dashboard/store.js";

const failedOf = (row) => row.calls - (row.outcomes.ok ?? 0);
const nameOf = (row) => row.tool || row.method;

export function tools() {
  let chosen = null;
  let series = null;
  let filter = "";
  const charts = callCharts();
  const chosenTitle = el("p", { class: "note" });

  /** The charts of one tool, or of all calls. */
  async function choose(row) {
    chosen = row ? labelKey(row) : null;
    setText(chosenTitle, row ? `${row.route}, ${nameOf(row)}` : "All calls. Choose a tool below to see its own.");
    all.hidden = !row;
    if (!row) {
      charts.update(store.series);
      return;
    }
    announce(`Charts of ${nameOf(row)}`);
    try {
      series = await ask(`/dashboard/series?${new URLSearchParams({ route: row.route, method: row.method, tool: row.tool })}`);
      charts.update(series);
    } catch (error) {
      setText(chosenTitle, error.message);
    }
  }

  // Points are added while another view is shown, too.
  subscribe(({ interval }) => addPoint(series, interval, interval?.labels.find((label) => labelKey(label) === chosen)));

  const all = el("button", { type: "button", onclick: () => choose(null) }, "Show all calls");
  const search = el("input", { id: "tool-filter", type: "search", autocomplete: "off", maxLength: 80, oninput: () => {
    filter = search.value.toLowerCase();
    if (store.sample) update(store.sample);
  } });

  const rows = table({
    caption: "Tools and methods", key: labelKey, empty: "No call has ended yet.",
    columns: [
      { title: "Tool or method", header: true,
        node: (get) => el("button", { type: "button", class: "link", onclick: () => choose(get()) }),
        refresh: (button, row) => setText(button, nameOf(row)) },
      { title: "Route", text: (row) => row.route },
      { title: "Calls/s", number: true, text: (row) => rate(store.rates.get(labelKey(row))) },
      { title: "Calls", number: true, text: (row) => count(row.calls) },
      { title: "Failed", number: true, text: (row) => percent(failedOf(row), row.calls) },
      { title: "Tunnel ms p50", number: true, text: (row) => ms(row.phases.tunnel?.p50_us) },
      { title: "p95", of: "Tunnel", number: true, text: (row) => ms(row.phases.tunnel?.p95_us) },
      { title: "p99", of: "Tunnel", number: true, text: (row) => ms(row.phases.tunnel?.p99_us) },
      { title: "Server ms p50", number: true, text: (row) => ms(row.phases.upstream?.p50_us) },
      { title: "p95", of: "Server", number: true, text: (row) => ms(row.phases.upstream?.p95_us) },
      { title: "p99", of: "Server", number: true, text: (row) => ms(row.phases.upstream?.p99_us) },
      { title: "Breaker", chip: (row) => (row.breaker === null ? ["idle", "none"] : row.breaker === "closed" ? ["ok", "closed"] : [row.breaker === "forced_closed" ? "warn" : "bad", words(row.breaker)]) },
    ],
  });

  const routes = table({
    caption: "Routes", key: (row) => `${row.role} ${row.host}`, empty: "There is no route.",
    columns: [
      { title: "Host", header: true, text: (row) => row.host },
      { title: "Role", text: (row) => row.role },
      { title: "Goes to", wrap: true, text: (row) => row.upstream ?? row.tunnel ?? NONE },
      { title: "State", chip: (row) => (row.server ? (row.server.failing ? ["bad", "failing"] : ["ok", "reached"]) : ["idle", "not known"]) },
      { title: "Connections", number: true, text: (row) => count(row.server?.connections_open) },
      { title: "Detail", wrap: true, text: (row) => row.server?.why ?? (row.limit ? `${row.limit.in_flight} of ${row.limit.limit} in flight, ${row.limit.waiting} waiting, ${count(row.limit.refused)} refused` : NONE) },
    ],
  });

  function force(get, state, title) {
    const button = el("button", { type: "button", onclick: async () => {
      const { route, method, tool } = get();
      try {
        await ask("/v1/breakers", { method: "POST", body: { route, ...(tool ? { tool } : method ? { method } : {}), state } });
        announce(`Breaker set to ${title}`);
      } catch (error) {
        announce(error.message);
        setText(problem, error.message);
      }
    } }, title);
    return button;
  }
  const problem = el("p", { class: "problem-text", role: "alert" });
  const breakers = table({
    caption: "Breakers", key: (row) => `${row.role} ${row.breaker} ${labelKey(row)}`, empty: "No breaker has seen a call yet.",
    columns: [
      { title: "Breaker of", header: true, text: (row) => (row.breaker === "upstream" ? `${row.route}, all calls` : `${row.route}, ${nameOf(row)}`) },
      { title: "State", chip: (row) => (row.state === "closed" ? ["ok", "closed"] : [row.state === "forced_closed" ? "warn" : "bad", words(row.state)]) },
      { title: "Mode", text: (row) => row.mode },
      { title: "Failed", number: true, text: (row) => `${row.failed} of ${row.calls}` },
      { title: "Late", number: true, text: (row) => count(row.late) },
      { title: "Refused", number: true, text: (row) => count(row.refused) },
      { title: "Opened", number: true, text: (row) => count(row.opened) },
      { title: "Force", node: (get) => el("span", { class: "actions" }, force(get, "open", "open"), force(get, "closed", "closed"), force(get, "auto", "auto")),
        refresh: (actions) => { actions.hidden = !session.isOpen; } },
    ],
  });

  function update({ status, latency, omitted }) {
    charts.update(chosen ? series : store.series);
    const fits = (row) => `${row.route} ${row.method} ${row.tool}`.toLowerCase().includes(filter);
    rows.update(latency.labels.filter(fits), omitted.tools);
    routes.update(status.routes.map((route) => ({
      ...route,
      server: status.upstreams.find((upstream) => route.role === "connector" && upstream.route === route.name),
      limit: status.limits.find((limit) => limit.role === route.role && limit.route === route.name),
    })), omitted.routes);
    breakers.update(status.breakers, omitted.breakers);
  }

  choose(null);
  return {
    name: "tools",
    title: "Routes and tools",
    element: el("div", {},
      panel("Over time", el("div", { class: "row" }, chosenTitle, all), charts.element),
      panel("Tools", el("p", { class: "row" }, el("label", { htmlFor: "tool-filter" }, "Filter"), search), rows.element),
      panel("Routes", routes.element),
      panel("Breakers", problem, breakers.element)),
    update,
    sessionChanged: () => store.sample && update(store.sample),
  };
}
