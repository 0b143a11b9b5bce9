// Charts over time, drawn by uPlot, with a line of text that says the same.

import { el, setText } from "/dashboard/dom.js";

const HEIGHT = 150;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const isDark = matchMedia("(prefers-color-scheme: dark)");

/**
 * A chart of columns of a series. `lines` are { column, label, colour, dashed, scale }, where `scale` turns a value into what is
 * shown, and `format` writes that.
 */
export function chart({ title, unit, lines, format }) {
  const plot = el("div", { class: "plot", role: "img" });
  const summary = el("p", { class: "unseen" });
  const legend = el("ul", { class: "legend" }, lines.map((line) => {
    const value = el("span", { class: "now" });
    line.value = value;
    return el("li", {}, el("span", { class: `stroke ${line.name}${line.dashed ? " dashed" : ""}`, "aria-hidden": "true" }), `${line.label} `, value);
  }));
  const element = el("figure", { class: "chart" }, el("figcaption", {}, title, el("span", { class: "unit" }, ` ${unit}`)), legend, plot, summary);
  let drawn = null;
  let data = null;

  /** Times of day, with seconds where they matter. */
  function times(plot, ticks) {
    const digits = ticks.length > 1 && ticks[1] - ticks[0] < 60 ? 8 : 5;
    return ticks.map((at) => new Date(at * 1000).toLocaleTimeString("en-GB").slice(0, digits));
  }

  function options(width) {
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    return {
      width,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, drag: { setScale: false, x: false, y: false } },
      scales: { x: { time: true }, y: { range: (plot, low, high) => [0, high > 0 ? high * 1.15 : 1] } },
      axes: [
        { ...axis, space: 70, size: 24, values: times },
        { ...axis, size: 46, space: 34, values: (plot, ticks) => ticks.map((value) => format(value)) },
      ],
      series: [{}, ...lines.map((line) => ({
        label: line.label,
        stroke: colour(`--${line.name}`),
        width: 1.5,
        dash: line.dashed ? [4, 3] : undefined,
        spanGaps: true,
        points: { show: false },
      }))],
      hooks: { setCursor: [showValues] },
    };
  }

  function showValues() {
    const at = drawn?.cursor.idx ?? null;
    const column = (line, nth) => data?.[nth + 1]?.[at ?? data[0].length - 1];
    lines.forEach((line, nth) => {
      // The last interval may have had no call; then the last one that had some is shown.
      const value = at === null ? data?.[nth + 1]?.findLast((entry) => entry !== null) : column(line, nth);
      setText(line.value, value === null || value === undefined ? "–" : format(value));
    });
  }

  function draw() {
    drawn?.destroy();
    drawn = null;
    const width = plot.clientWidth;
    // One point is no line.
    if (data?.[0].length > 1 && width > 0) drawn = new uPlot(options(width), data, plot);
  }

  new ResizeObserver(() => {
    if (drawn && plot.clientWidth > 0 && drawn.width !== plot.clientWidth) drawn.setSize({ width: plot.clientWidth, height: HEIGHT });
    else if (!drawn) draw();
  }).observe(plot);
  isDark.addEventListener("change", draw);

  return {
    element,
    update(series) {
      if (!series || series.at_ms.length === 0) return;
      data = [series.at_ms.map((at) => at / 1000), ...lines.map((line) =>
        series[line.column].map((value) => (value === null ? null : (line.scale ?? 1) * value)))];
      if (drawn) drawn.setData(data);
      else draw();
      showValues();
      const now = lines.map((line) => `${line.label} ${line.value.textContent}`).join(", ");
      const text = `${title}, ${unit}, over the last ${Math.max(1, Math.round((series.at_ms.at(-1) - series.at_ms[0]) / 60000))} min. Now ${now}.`;
      plot.setAttribute("aria-label", text);
    },
  };
}

const callsFormat = (value) => (value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1));
const msFormat = (value) => (value >= 100 ? String(Math.round(value)) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

/** The three charts of calls: their number, the time in the tunnel, and the time in the server. */
export function callCharts() {
  const charts = [
    chart({
      title: "Calls", unit: "per second", format: callsFormat,
      lines: [
        { column: "calls_per_s", label: "all", name: "calls" },
        { column: "failed_per_s", label: "failed", name: "failed", dashed: true },
      ],
    }),
    chart({
      title: "Tunnel", unit: "ms", format: msFormat,
      lines: [
        { column: "tunnel_p50_us", label: "p50", name: "tunnel", scale: 0.001 },
        { column: "tunnel_p95_us", label: "p95", name: "tunnel", dashed: true, scale: 0.001 },
      ],
    }),
    chart({
      title: "Server", unit: "ms", format: msFormat,
      lines: [
        { column: "upstream_p50_us", label: "p50", name: "upstream", scale: 0.001 },
        { column: "upstream_p95_us", label: "p95", name: "upstream", dashed: true, scale: 0.001 },
      ],
    }),
  ];
  return {
    element: el("div", { class: "charts" }, charts.map((one) => one.element)),
    update: (series) => charts.forEach((one) => one.update(series)),
  };
}
