// Numbers and times as texts.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const NONE = "–";

export function count(number) {
  return number === null || number === undefined ? NONE : WHOLE.format(number);
}

/** A number and a word, in the plural where needed. */
export function counted(number, word) {
  return `${count(number)} ${word}${number === 1 ? "" : "s"}`;
}

export function rate(number) {
  return number === null || number === undefined ? NONE : number >= 100 ? WHOLE.format(number) : TENTHS.format(number);
}

/** Microseconds as milliseconds with three digits that count. */
export function ms(us) {
  if (us === null || us === undefined) return NONE;
  const value = us / 1000;
  if (value >= 100) return WHOLE.format(value);
  return value.toFixed(value >= 10 ? 1 : value >= 1 ? 2 : 3);
}

/** Microseconds with a unit. */
export function took(us) {
  if (us === null || us === undefined) return NONE;
  if (us >= 10e6) return `${(us / 1e6).toFixed(1)} s`;
  return us >= 1000 ? `${ms(us)} ms` : `${Math.round(us)} µs`;
}

/** Seconds in the two largest units. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const s = Math.max(0, Math.floor(Math.abs(seconds)));
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => s >= size);
  if (first < 0) return "0 s";
  const [size, unit] = parts[first];
  const next = parts[first + 1];
  const rest = next ? Math.floor((s % size) / next[0]) : 0;
  return rest && first < 3 ? `${Math.floor(s / size)} ${unit} ${rest} ${next[1]}` : `${Math.floor(s / size)} ${unit}`;
}

export function bytes(number) {
  if (number === null || number === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (number >= 1024 && at < units.length - 1) {
    number /= 1024;
    at += 1;
  }
  return `${at === 0 || number >= 100 ? Math.round(number) : number.toFixed(1)} ${units[at]}`;
}

/** A time of day; with the date if it is not today. */
export function clock(text) {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return String(text ?? NONE);
  const day = time.toDateString() === new Date().toDateString() ? "" : `${time.toISOString().slice(0, 10)} `;
  return day + time.toLocaleTimeString("en-GB");
}

export function percent(part, whole) {
  if (!whole) return NONE;
  const value = (100 * part) / whole;
  return `${value === 0 || value >= 10 ? Math.round(value) : value.toFixed(value < 0.1 ? 2 : 1)} %`;
}

/** Words of the API, such as `half_open`, for people. */
export function words(name) {
  return String(name ?? NONE).replaceAll("_", " ");
}
