// The last calls: where each stopped, and how long its phases took.

import { el, facts, panel, setText, table } from "/dashboard/dom.js";
import { clock, NONE, took, words } from "/dashboard/format.js";
import { callKey, store } from "/dashboard/store.js";

const SHOWN_MAX = 100;

/** The parts of a call's time that do not overlap, in order. */
const PARTS = ["edge", "tunnel", "connector", "upstream_connect", "upstream"];

const whatOf = (call) => call.tool ?? call.method ?? NONE;
export const isFailed = (call) => call.stopped_at !== "done" || call.status >= 400;
export const isSlow = (call) => call.decisions.some((decision) => decision.what === "slow");

function parts(call) {
  const found = PARTS.filter((name) => call.phases[name] > 0).map((name) => [name, call.phases[name]]);
  const all = found.reduce((sum, [, us]) => sum + us, 0);
  return found.map(([name, us]) => [name, us / all, took(us)]);
}

function end(call) {
  if (isFailed(call)) return ["bad", call.stopped_at === "done" ? `HTTP ${call.status}` : words(call.stopped_at)];
  return isSlow(call) ? ["warn", "slow"] : ["ok", "done"];
}

/** A table of calls. With `open`, a call can be opened. */
export function callTable(caption, empty, open) {
  return table({
    caption, key: callKey, empty,
    columns: [
      { title: "Time", header: true, text: open ? undefined : (call) => clock(call.ended_at),
        node: open && ((get) => el("button", { type: "button", class: "link", onclick: () => open(get()) })),
        refresh: open && ((button, call) => setText(button, clock(call.ended_at))) },
      { title: "Stopped at", chip: end },
      { title: "Tool or method", text: whatOf },
      { title: "Route", text: (call) => call.route ?? call.host ?? NONE },
      { title: "From", text: (call) => call.from ?? NONE },
      { title: "Role", text: (call) => call.role },
      { title: "Status", number: true, text: (call) => String(call.status ?? NONE) },
      { title: "Took", number: true, text: (call) => took(call.phases.total ?? call.phases.total_last ?? call.phases.upstream) },
      { title: "Phases", bar: parts },
    ],
  });
}

export function calls() {
  const failedOnly = el("input", { id: "failed-only", type: "checkbox", onchange: refresh });
  const filter = el("input", { id: "call-filter", type: "search", autocomplete: "off", maxLength: 80, oninput: refresh });
  const rows = callTable("The last calls", "No call fits.", open);
  const stops = el("p", { class: "note" });

  const detail = facts();
  const decisions = table({
    caption: "Decisions about the call", key: (row) => row.at, empty: "No decision was logged.",
    columns: [
      { title: "Decision", header: true, text: (row) => row.what },
      { title: "Rule and outcome", wrap: true, text: (row) => row.rule },
    ],
  });
  const phases = table({
    caption: "Phases of the call", key: (row) => row.name, empty: "No time was measured.",
    columns: [
      { title: "Phase", header: true, text: (row) => words(row.name) },
      { title: "Took", number: true, text: (row) => took(row.us) },
    ],
  });
  const close = el("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const dialog = el("dialog", { "aria-labelledby": "call-title" },
    el("div", { class: "row" }, el("h2", { id: "call-title" }, "Call"), el("span", { class: "grow" }), close),
    detail.element, el("h3", {}, "Phases"), phases.element, el("h3", {}, "Decisions"), decisions.element);

  function open(call) {
    const answered = call.answered ? [["Answered by adit", call.answered.code], ["Message", call.answered.message]] : [];
    detail.update([
      ["Ended", call.ended_at], ["Id", call.id ?? NONE], ["Trace", call.trace_id ?? NONE], ["Logged by", call.role],
      ["From", call.from ?? NONE], ["Host", call.host ?? NONE], ["Route", call.route ?? NONE], ["Tunnel", call.tunnel ?? NONE],
      ["Connector", call.connector ?? NONE], ["Method", call.method ?? NONE], ["Tool", call.tool ?? NONE],
      ["Stopped at", words(call.stopped_at)], ["Outcome", words(call.outcome)], ["Status", String(call.status ?? NONE)], ...answered,
    ]);
    phases.update(Object.entries(call.phases).map(([name, us]) => ({ name, us })));
    decisions.update(call.decisions.map((decision, at) => ({ ...decision, at })));
    dialog.showModal();
  }

  function refresh() {
    const text = filter.value.toLowerCase();
    const fits = (call) => (!failedOnly.checked || isFailed(call))
      && `${whatOf(call)} ${call.method} ${call.route} ${call.host} ${call.from} ${call.role} ${call.stopped_at} ${call.outcome} ${call.id} ${call.trace_id}`.toLowerCase().includes(text);
    const found = store.calls.filter(fits);
    rows.update(found.slice(0, SHOWN_MAX), found.length - SHOWN_MAX);
    const stages = new Map();
    for (const call of found) stages.set(call.stopped_at, (stages.get(call.stopped_at) ?? 0) + 1);
    const texts = [...stages].sort((one, other) => other[1] - one[1]).map(([stage, number]) => `${words(stage)} ${number}`);
    setText(stops, texts.length > 0 ? `Of the last ${found.length}, stopped at: ${texts.join(", ")}.` : "");
  }

  return {
    name: "calls",
    title: "Calls",
    element: el("div", {},
      panel("The last calls",
        el("div", { class: "row" }, el("label", { htmlFor: "call-filter" }, "Filter"), filter,
          el("span", { class: "pair" }, failedOnly, el("label", { htmlFor: "failed-only" }, "Only failed"))),
        stops,
        el("ul", { class: "legend" }, PARTS.map((name) => el("li", {}, el("span", { class: `swatch ${name}`, "aria-hidden": "true" }), words(name)))),
        rows.element),
      dialog),
    update: refresh,
  };
}
