// The session that a one-time link opens, and requests of the admin API.

const STORED = "adit-session-key";

export const session = { possible: false, isOpen: false, audit: false, doctor: false };

function stored() {
  try {
    return localStorage.getItem(STORED) ?? "";
  } catch {
    return "";
  }
}

function store(key) {
  try {
    if (key) localStorage.setItem(STORED, key);
    else localStorage.removeItem(STORED);
  } catch {
    // Without storage the session ends with the page.
  }
  held = key;
}

let held = stored();

/** Asks the admin API. The answer as JSON, or an error that says what is wrong. */
export async function ask(path, { method = "GET", body } = {}) {
  const headers = {};
  if (held) headers["X-Adit-Session"] = held;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store" });
  const text = await answer.text();
  let parsed = null;
  try {
    parsed = text ? JSON.parse(text) : null;
  } catch {
    parsed = null;
  }
  if (!answer.ok) {
    if (answer.status === 401 && session.isOpen) {
      session.isOpen = false;
      changed();
    }
    throw new Error(parsed?.error?.message ?? `the process answered with status ${answer.status}`);
  }
  return parsed;
}

let listener = () => {};
function changed() {
  listener();
}

/** Uses the link's code, if the page was opened with one, and finds out whether there is a session. */
export async function begin(onChange) {
  listener = onChange;
  let failure = null;
  if (location.hash.startsWith("#login=")) {
    const code = location.hash.slice("#login=".length);
    history.replaceState(null, "", "/#overview");
    try {
      store((await ask("/dashboard/session", { method: "POST", body: { code } })).key);
    } catch (error) {
      failure = error.message;
    }
  }
  try {
    const state = await ask("/dashboard/session");
    Object.assign(session, { possible: state.possible, isOpen: state.ends_in_s !== null, audit: state.audit, doctor: state.doctor });
    if (!session.isOpen) store("");
  } catch (error) {
    failure ??= error.message;
  }
  changed();
  return failure;
}

export async function end() {
  await ask("/dashboard/session", { method: "DELETE" });
  store("");
  session.isOpen = false;
  changed();
}
