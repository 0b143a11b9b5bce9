// Certificates, and when they end.

import { el, panel, table } from "/dashboard/dom.js";
import { NONE, span, words } from "/dashboard/format.js";

const SOON_S = 7 * 86400;

function endOf(seconds, isDue) {
  if (seconds === null) return ["idle", "none"];
  if (seconds <= 0) return ["bad", "expired"];
  return isDue || seconds < SOON_S ? ["warn", "ends soon"] : ["ok", "valid"];
}

const date = (sample, seconds) => (seconds === null ? NONE : new Date(sample.at_ms + seconds * 1000).toISOString().slice(0, 16).replace("T", " "));

export function certificates() {
  const own = table({
    caption: "Certificates of the edge", key: (row) => `${row.role} ${row.of}`, empty: "This process has no certificates of its own.",
    columns: [
      { title: "For", header: true, text: (row) => row.of },
      { title: "State", chip: (row) => endOf(row.expires_in_s, row.renewal_due) },
      { title: "Ends in", number: true, text: (row) => (row.expires_in_s <= 0 ? `${span(row.expires_in_s)} ago` : span(row.expires_in_s)) },
      { title: "Ends (UTC)", number: true, text: (row) => row.ends },
      { title: "Names", wrap: true, text: (row) => row.names.join(", ") || NONE },
      { title: "Issuer", wrap: true, text: (row) => row.issuer },
    ],
  });
  const atEdges = table({
    caption: "Certificates of this connector", key: (row) => row.edge, empty: "This process dials no edge.",
    columns: [
      { title: "Issued by", header: true, text: (row) => row.edge },
      // A connector's certificate is short-lived, and renewed in time.
      { title: "State", chip: (row) => (row.standing === "certified" ? (row.expires_in_s > 0 ? ["ok", "valid"] : ["bad", "expired"]) : ["idle", words(row.standing)]) },
      { title: "Ends in", number: true, text: (row) => span(row.expires_in_s) },
      { title: "Ends (UTC)", number: true, text: (row) => row.ends },
      { title: "Renewed in", number: true, text: (row) => span(row.renews_in_s) },
    ],
  });
  const ownPanel = panel("Of the edge", own.element);
  const atEdgesPanel = panel("Of the connector", atEdges.element);
  return {
    name: "certificates",
    title: "Certificates",
    element: el("div", {}, ownPanel, atEdgesPanel),
    update(sample) {
      const { status } = sample;
      const dated = (row) => ({ ...row, ends: date(sample, row.expires_in_s) });
      own.update([...status.certificates].sort((one, other) => one.expires_in_s - other.expires_in_s).map(dated));
      atEdges.update(status.edges.map(dated));
      ownPanel.hidden = !status.roles.includes("edge");
      atEdgesPanel.hidden = !status.roles.includes("connector");
    },
  };
}
