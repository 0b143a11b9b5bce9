// Tunnels, their links, and the edges that a connector dials.

import { el, panel, table } from "/dashboard/dom.js";
import { count, NONE, span, took } from "/dashboard/format.js";

export function links() {
  const tunnels = table({
    caption: "Tunnels", key: (row) => `${row.role} ${row.id}`, empty: "There is no tunnel.",
    columns: [
      { title: "Tunnel", header: true, text: (row) => row.id },
      { title: "Role", text: (row) => row.role },
      { title: "State", chip: (row) => (row.links === 0 ? ["bad", "offline"] : row.hosts.some((host) => host.unserved) ? ["warn", "hosts unserved"] : ["ok", "online"]) },
      { title: "Links", number: true, text: (row) => count(row.links) },
      { title: "Hosts", wrap: true, text: (row) => row.hosts.map((host) => (host.unserved ? `${host.host} (unserved)` : host.host)).join(", ") || NONE },
    ],
  });
  const up = table({
    caption: "Links", key: (row) => `${row.role} ${row.id}`, empty: "No link is up.",
    columns: [
      { title: "Link", header: true, text: (row) => String(row.id) },
      { title: "Role", text: (row) => row.role },
      { title: "Tunnel", text: (row) => row.tunnel },
      { title: "Peer", text: (row) => row.peer },
      { title: "Connector", text: (row) => row.connector ?? NONE },
      { title: "State", chip: (row) => (row.draining ? ["warn", "draining"] : ["ok", "up"]) },
      { title: "Streams", number: true, text: (row) => count(row.streams) },
      { title: "Transport", text: (row) => row.transport },
      { title: "Round trip", number: true, text: (row) => took(row.round_trip_us) },
      { title: "Up for", number: true, text: (row) => span(row.age_s) },
      { title: "Core", number: true, text: (row) => String(row.core) },
    ],
  });
  const edges = table({
    caption: "Edges", key: (row) => row.edge, empty: "This process dials no edge.",
    columns: [
      { title: "Edge", header: true, text: (row) => row.edge },
      { title: "State", chip: (row) => (row.trouble ? ["bad", "trouble"] : row.hosts_missing.length > 0 ? ["warn", "hosts missing"] : ["ok", "fine"]) },
      { title: "Clock ahead", number: true, text: (row) => (row.clock_ahead_s === null ? NONE : `${row.clock_ahead_s} s`) },
      { title: "Detail", wrap: true, text: (row) => row.trouble ?? (row.hosts_missing.length > 0 ? `not in the tunnel: ${row.hosts_missing.join(", ")}` : NONE) },
    ],
  });
  const edgesPanel = panel("Edges", edges.element);
  return {
    name: "links",
    title: "Tunnels and links",
    element: el("div", {}, panel("Tunnels", tunnels.element), panel("Links", up.element), edgesPanel),
    update({ status, omitted }) {
      tunnels.update(status.tunnels, omitted.tunnels);
      up.update(status.links, omitted.links);
      edges.update(status.edges, omitted.edges);
      edgesPanel.hidden = !status.roles.includes("connector");
    },
  };
}
