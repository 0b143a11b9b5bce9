// Runs the checks of `adit doctor`, and shows the state of the process.

import { announce, el, facts, panel, setText, table } from "/dashboard/dom.js";
import { bytes, count, NONE, span } from "/dashboard/format.js";
import { ask, session } from "/dashboard/session.js";

const KINDS = { ok: ["ok", "ok"], warn: ["warn", "notice"], fail: ["bad", "problem"] };

export function doctor() {
  const state = el("p", { class: "note", role: "status" });
  const run = el("button", { type: "button", class: "primary", onclick: async () => {
    run.disabled = true;
    setText(state, "Checking …");
    try {
      const { findings } = await ask("/dashboard/doctor", { method: "POST" });
      rows.update(findings.map((finding, at) => ({ ...finding, at })));
      const bad = findings.filter((finding) => finding.verdict !== "ok").length;
      const text = `${findings.length} checks, ${bad} with a remark.`;
      setText(state, text);
      announce(text);
    } catch (error) {
      setText(state, error.message);
    }
    run.disabled = false;
  } }, "Run the checks");
  const rows = table({
    caption: "Findings", key: (row) => row.at, empty: "",
    columns: [
      { title: "Check", header: true, text: (row) => row.check },
      { title: "Result", chip: (row) => KINDS[row.verdict] ?? ["idle", row.verdict] },
      { title: "Found", wrap: true, text: (row) => row.found },
      { title: "What to do", wrap: true, text: (row) => row.remedy ?? NONE },
    ],
  });
  const login = el("p", { class: "note" });
  const process = facts();
  const cores = table({
    caption: "Cores", key: (row) => `${row.role} ${row.core}`, empty: "No core has answered.",
    columns: [
      { title: "Core", header: true, text: (row) => `${row.role} ${row.core}` },
      { title: "Calls", number: true, text: (row) => count(row.calls_open) },
      { title: "Agents", number: true, text: (row) => count(row.agents_open) },
      { title: "Sockets", number: true, text: (row) => count(row.sockets_open) },
      { title: "Tasks", number: true, text: (row) => count(row.tasks_open) },
      { title: "Buffers", number: true, text: (row) => `${bytes(row.buffers.leased_bytes)} of ${bytes(row.buffers.limit_bytes)}` },
      { title: "Waiting", number: true, text: (row) => count(row.buffers.waiting) },
      { title: "Last good call", number: true, text: (row) => (row.last_good_call_s === null ? NONE : `${span(row.last_good_call_s)} ago`) },
    ],
  });

  function sessionChanged() {
    const why = !session.isOpen ? "The checks can be run after a log-in: adit dashboard prints the link." : session.doctor ? "" : "This process cannot run the checks.";
    setText(login, why);
    login.hidden = why === "";
    run.hidden = why !== "";
    if (why) {
      rows.update([]);
      setText(state, "");
    }
  }

  sessionChanged();
  return {
    name: "doctor",
    title: "Doctor",
    element: el("div", {}, panel("Checks", login, run, state, rows.element), panel("Process", process.element), panel("Cores", cores.element)),
    update({ status, streams }) {
      process.update([
        ["Version", `${status.version} (${status.commit})`],
        ["State", status.state],
        ["Driver", `${status.driver.name}: ${status.driver.why}`],
        ["Agents call", status.agent_url ?? NONE],
        ["Connectors dial", status.connectors_listen ?? NONE],
        ["Reloads", `${status.reload.applied} applied, ${status.reload.refused} refused`],
        ["Dashboards", `${streams.open} of ${streams.max} open, ${streams.refused} refused, ${streams.dropped} dropped as too slow`],
      ]);
      cores.update(status.cores);
    },
    sessionChanged,
  };
}
