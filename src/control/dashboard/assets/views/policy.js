// What policies decided, the calls that wait for approval, and the tools that nobody has approved.

import { announce, el, panel, setText, table } from "/dashboard/dom.js";
import { clock, count, NONE, span, words } from "/dashboard/format.js";
import { ask, session } from "/dashboard/session.js";
import { callKey, store } from "/dashboard/store.js";
import { isFailed } from "/dashboard/views/calls.js";

const SHOWN_MAX = 50;
const FETCH_MS = 4000;

const ruleOf = (call) => call.decisions.find((decision) => decision.what === "policy")?.rule;

export function policy() {
  let timer = null;
  const problem = el("p", { class: "problem-text", role: "alert" });
  const by = el("input", { id: "decided-by", maxLength: 100, autocomplete: "name", oninput: () => setText(problem, "") });

  function decide(get, what, title) {
    return el("button", { type: "button", onclick: async () => {
      setText(problem, "");
      if (!by.value.trim()) {
        setText(problem, "Give your name first: it is written to the audit log.");
        by.focus();
        return;
      }
      try {
        await ask(`/v1/approvals/${encodeURIComponent(get().ticket)}/${what}`, { method: "POST", body: { by: `${by.value.trim()} (dashboard)` } });
        announce(what === "approve" ? "Approved" : "Denied");
        await fetchAll();
      } catch (error) {
        setText(problem, error.message);
      }
    } }, title);
  }

  const waiting = table({
    caption: "Calls that wait for approval", key: (row) => row.ticket, empty: "No call waits for approval.",
    columns: [
      { title: "Call", header: true, text: (row) => row.name },
      { title: "State", chip: (row) => ({ waiting: ["warn", "waiting"], approved: ["ok", `approved by ${row.by}`], denied: ["bad", `denied by ${row.by}`] })[row.state] },
      { title: "Caller", text: (row) => row.caller },
      { title: "Host", text: (row) => row.host },
      { title: "Rule", text: (row) => row.rule },
      { title: "Arguments", wrap: true, text: (row) => row.arguments ?? (row.argument_bytes === null ? NONE : `${row.argument_bytes} bytes, not kept`) },
      { title: "Ends in", number: true, text: (row) => span(row.ends_in_s) },
      { title: "Decide", node: (get) => el("span", { class: "actions" }, decide(get, "approve", "Approve once"), decide(get, "deny", "Deny")),
        refresh: (actions, row) => { actions.hidden = row.state !== "waiting"; } },
    ],
  });
  const login = el("p", { class: "note" }, "Calls that wait for approval are shown after a log-in: adit dashboard prints the link.");
  const approvals = el("div", {}, el("p", { class: "row" }, el("label", { htmlFor: "decided-by" }, "Your name"), by), problem, waiting.element);

  const rules = table({
    caption: "Rules", key: (row) => `${row.route} ${row.rule}`, empty: "No policy has decided about the last calls.",
    columns: [
      { title: "Rule and outcome", header: true, wrap: true, text: (row) => row.rule },
      { title: "Route", text: (row) => row.route },
      { title: "Calls", number: true, text: (row) => count(row.calls) },
      { title: "Stopped", number: true, text: (row) => count(row.stopped) },
      { title: "Last", number: true, text: (row) => clock(row.last) },
    ],
  });
  const decided = table({
    caption: "Decisions", key: callKey, empty: "No policy has decided about the last calls.",
    columns: [
      { title: "Time", header: true, text: (call) => clock(call.ended_at) },
      { title: "Decision", chip: (call) => (call.stopped_at === "policy" ? ["bad", "denied"] : isFailed(call) ? ["warn", words(call.stopped_at)] : ["ok", "allowed"]) },
      { title: "Tool or method", text: (call) => call.tool ?? call.method ?? NONE },
      { title: "Route", text: (call) => call.route ?? call.host ?? NONE },
      { title: "From", text: (call) => call.from ?? NONE },
      { title: "Role", text: (call) => call.role },
      { title: "Rule and outcome", wrap: true, text: (call) => ruleOf(call) ?? call.answered?.code ?? NONE },
    ],
  });
  const STANDING = { new: ["warn", "new"], changed: ["bad", "changed"], approved: ["ok", "approved"], unreadable: ["bad", "unreadable"] };
  const pinned = table({
    caption: "Pinned tools", key: (row) => `${row.route} ${row.upstream} ${row.kind} ${row.name}`, empty: "No route has pin.",
    columns: [
      { title: "Name", header: true, text: (row) => row.name },
      { title: "Kind", text: (row) => row.kind },
      { title: "Route", text: (row) => row.route },
      { title: "Standing", chip: (row) => STANDING[row.standing] ?? ["idle", words(row.standing)] },
      { title: "Mode", text: (row) => row.pin },
      { title: "First seen", number: true, text: (row) => clock(row.first_seen_at) },
    ],
  });

  async function fetchAll() {
    try {
      const { servers } = await ask("/v1/tools");
      const order = ["changed", "unreadable", "new", "approved"];
      const rows = servers.flatMap((server) => server.tools.map((tool) => ({ ...tool, route: server.route, upstream: server.upstream, pin: server.pin })));
      rows.sort((one, other) => order.indexOf(one.standing) - order.indexOf(other.standing));
      pinned.update(rows.slice(0, SHOWN_MAX), rows.length - SHOWN_MAX);
      if (session.isOpen) waiting.update((await ask("/v1/approvals")).approvals.slice(0, SHOWN_MAX));
    } catch (error) {
      setText(problem, error.message);
    }
  }

  function update() {
    const calls = store.calls.filter((call) => ruleOf(call) !== undefined || call.stopped_at === "policy");
    decided.update(calls.slice(0, SHOWN_MAX), calls.length - SHOWN_MAX);
    const byRule = new Map();
    for (const call of calls) {
      const [rule, route] = [ruleOf(call) ?? call.answered?.code ?? NONE, call.route ?? NONE];
      const row = byRule.get(`${route} ${rule}`) ?? { rule, route, calls: 0, stopped: 0, last: call.ended_at };
      row.calls += 1;
      row.stopped += call.stopped_at === "policy" ? 1 : 0;
      byRule.set(`${route} ${rule}`, row);
    }
    rules.update([...byRule.values()].sort((one, other) => other.calls - one.calls).slice(0, SHOWN_MAX));
  }

  function sessionChanged() {
    login.hidden = session.isOpen;
    approvals.hidden = !session.isOpen;
    if (timer !== null) fetchAll();
  }

  sessionChanged();
  return {
    name: "policy",
    title: "Policy",
    element: el("div", {}, panel("Waiting for approval", login, approvals), panel("Rules", rules.element), panel("Decisions", decided.element), panel("Pinned tools", pinned.element)),
    update,
    shown() {
      fetchAll();
      timer = setInterval(fetchAll, FETCH_MS);
    },
    hidden() {
      clearInterval(timer);
      timer = null;
    },
    sessionChanged,
  };
}
