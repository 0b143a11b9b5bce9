// Searches the audit log.

import { announce, el, panel, setText, table } from "/dashboard/dom.js";
import { clock, NONE, took, words } from "/dashboard/format.js";
import { ask, session } from "/dashboard/session.js";

const PERIODS = [["3600", "the last hour"], ["86400", "the last day"], ["604800", "the last week"], ["", "all of the log"]];

export function audit() {
  const field = (name, label, options = {}) => {
    const input = el("input", { id: `audit-${name}`, name, autocomplete: "off", maxLength: 200, ...options });
    return el("div", { class: "field" }, el("label", { htmlFor: `audit-${name}` }, label), input);
  };
  const choice = (name, label, entries) =>
    el("div", { class: "field" }, el("label", { htmlFor: `audit-${name}` }, label),
      el("select", { id: `audit-${name}`, name }, entries.map(([value, text]) => el("option", { value }, text))));
  const state = el("p", { class: "note", role: "status" });
  const find = el("button", { type: "submit", class: "primary" }, "Search");

  const shown = (line, name) => (line[name] === undefined || line[name] === null ? NONE : String(line[name]));
  const rows = table({
    caption: "Lines of the audit log", key: (line) => line.seq, empty: "",
    columns: [
      { title: "Time", header: true, text: (line) => clock(line.time) },
      { title: "Line", number: true, text: (line) => shown(line, "seq") },
      { title: "Kind", text: (line) => words(shown(line, "kind")) },
      { title: "Decision", chip: (line) => (line.decision === "denied" ? ["bad", "denied"] : line.decision === "allowed" ? ["ok", "allowed"] : ["idle", "none"]) },
      { title: "By", text: (line) => line.caller ?? shown(line, "peer") },
      { title: "Route", text: (line) => shown(line, "route") },
      { title: "Method or action", text: (line) => line.method ?? shown(line, "action") },
      { title: "Name or subject", text: (line) => line.name ?? shown(line, "subject") },
      { title: "Rule", text: (line) => shown(line, "rule") },
      { title: "Outcome", text: (line) => words(shown(line, "outcome")) },
      { title: "Status", number: true, text: (line) => shown(line, "status") },
      { title: "Took", number: true, text: (line) => took(line.took_us) },
    ],
  });

  async function search(event) {
    event.preventDefault();
    const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
    find.disabled = true;
    setText(state, "Searching …");
    try {
      const { lines, limit } = await ask(`/dashboard/audit?${query}`);
      rows.update(lines);
      const text = lines.length === 0 ? "No line matches." : lines.length === limit ? `The ${limit} newest lines that match.` : lines.length === 1 ? "One line matches." : `${lines.length} lines match.`;
      setText(state, text);
      announce(text);
    } catch (error) {
      rows.update([]);
      setText(state, error.message);
    }
    find.disabled = false;
  }

  const form = el("form", { class: "fields", onsubmit: search, role: "search" },
    choice("since_s", "Period", PERIODS),
    field("name", "Tool or name"), field("identity", "Caller or address"), field("method", "Method"), field("route", "Route"),
    choice("decision", "Decision", [["", "any"], ["allowed", "allowed"], ["denied", "denied"]]),
    field("rule", "Rule"), field("outcome", "Outcome"), el("div", { class: "field" }, find));
  const login = el("p", { class: "note" });

  function sessionChanged() {
    const why = !session.isOpen ? "The audit log can be searched after a log-in: adit dashboard prints the link." : session.audit ? "" : "This process writes no audit log: audit.mode turns it on.";
    setText(login, why);
    login.hidden = why === "";
    form.hidden = why !== "";
    if (why) {
      rows.update([]);
      setText(state, "");
    }
  }

  sessionChanged();
  return { name: "audit", title: "Audit", element: el("div", {}, panel("Search", login, form, state, rows.element)), sessionChanged };
}
