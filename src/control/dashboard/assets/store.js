// The live state: samples from the stream, rates between them, and the last calls.

import { ask } from "/dashboard/session.js";

const CALLS_KEPT = 500;
const POINTS_KEPT = 450;
/** A stream that ends is opened again by the browser; only a longer gap is worth telling. */
const GAP_MS = 4000;

export const store = {
  sample: null,
  /** Calls per second by label. */
  rates: new Map(),
  /** The last calls, the newest first. */
  calls: [],
  series: null,
  isLive: false,
};

const listeners = new Set();
let gap = null;
let onConnection = () => {};

export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const labelKey = ({ route, method, tool }) => `${route}\n${method}\n${tool}`;
export const callKey = (call) => `${call.role} ${call.id ?? ""} ${call.ended_at} ${call.stopped_at} ${call.from ?? ""}`;

let stream = null;

/** Opens the stream, while the page is shown: a browser has few connections to one host, and each stream takes one. */
export function connect(onConnectionChange) {
  onConnection = onConnectionChange;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  if (!document.hidden) open();
}

function close() {
  stream?.close();
  stream = null;
}

async function open() {
  if (stream) return;
  const opened = stream = new EventSource("/dashboard/live");
  opened.addEventListener("open", () => setLive(true));
  opened.addEventListener("sample", (event) => {
    setLive(true);
    take(JSON.parse(event.data));
  });
  opened.addEventListener("error", () => {
    gap ??= setTimeout(() => setLive(false), GAP_MS);
    // The browser gives up after an answer that is not a stream, such as when there are too many.
    if (opened.readyState === EventSource.CLOSED && stream === opened) {
      stream = null;
      setTimeout(open, GAP_MS);
    }
  });
  try {
    store.series = await ask("/dashboard/series");
  } catch {
    // The charts begin with the next sample that finds a series.
  }
}

function setLive(isLive) {
  if (isLive) {
    clearTimeout(gap);
    gap = null;
  }
  if (store.isLive !== isLive) {
    store.isLive = isLive;
    onConnection(isLive);
  }
}

function take(sample) {
  const before = store.sample;
  const seconds = before ? (sample.at_ms - before.at_ms) / 1000 : 0;
  const counted = new Map((before?.latency.labels ?? []).map((label) => [labelKey(label), label.calls]));
  store.rates = new Map(sample.latency.labels.map((label) => {
    const was = counted.get(labelKey(label)) ?? (before ? 0 : label.calls);
    return [labelKey(label), seconds > 0 ? Math.max(0, label.calls - was) / seconds : null];
  }));
  store.sample = sample;
  keepCalls(sample.calls);
  addPoint(store.series, sample.interval, sample.interval?.total);
  listeners.forEach((listener) => listener(sample));
}

export function keepCalls(calls) {
  const known = new Set(store.calls.map(callKey));
  const fresh = calls.filter((call) => !known.has(callKey(call)));
  if (fresh.length > 0) {
    store.calls = [...fresh, ...store.calls].sort((one, other) => (one.ended_at < other.ended_at ? 1 : -1)).slice(0, CALLS_KEPT);
  }
}

/** Adds an interval to the columns of a series. */
export function addPoint(series, interval, figures) {
  if (!series || !interval || series.at_ms.at(-1) >= interval.at_ms) return;
  const of = figures ?? { calls: 0, failed: 0, tunnel: null, upstream: null };
  const perSecond = (number) => (interval.seconds > 0 ? number / interval.seconds : 0);
  series.at_ms.push(interval.at_ms);
  series.calls_per_s.push(perSecond(of.calls));
  series.failed_per_s.push(perSecond(of.failed));
  series.tunnel_p50_us.push(of.tunnel?.p50_us ?? null);
  series.tunnel_p95_us.push(of.tunnel?.p95_us ?? null);
  series.upstream_p50_us.push(of.upstream?.p50_us ?? null);
  series.upstream_p95_us.push(of.upstream?.p95_us ?? null);
  if (series.at_ms.length > POINTS_KEPT) Object.values(series).forEach((column) => column.shift());
}
