// Puts the page together: the views, the session and the state of the connection.

import { announce, el, setText, updateChip } from "/dashboard/dom.js";
import { span } from "/dashboard/format.js";
import { ask, begin, end, session } from "/dashboard/session.js";
import { connect, keepCalls, store, subscribe } from "/dashboard/store.js";
import { audit } from "/dashboard/views/audit.js";
import { calls } from "/dashboard/views/calls.js";
import { certificates } from "/dashboard/views/certificates.js";
import { doctor } from "/dashboard/views/doctor.js";
import { links } from "/dashboard/views/links.js";
import { overview } from "/dashboard/views/overview.js";
import { policy } from "/dashboard/views/policy.js";
import { tools } from "/dashboard/views/tools.js";

/** In the order of the navigation. Each builds its elements once. */
const VIEWS = [overview, links, tools, calls, policy, audit, certificates, doctor].map((build) => build());

const main = document.getElementById("main");
const nav = document.getElementById("nav");
let current = null;

function show() {
  const wanted = VIEWS.find((view) => `#${view.name}` === location.hash) ?? (current ? null : VIEWS[0]);
  if (!wanted || wanted === current) return;
  const isFirst = current === null;
  current?.hidden?.();
  current = wanted;
  main.replaceChildren(el("h1", { id: "title" }, wanted.title), wanted.element);
  main.setAttribute("aria-labelledby", "title");
  document.title = `${wanted.title} · adit`;
  for (const link of nav.querySelectorAll("a")) {
    if (link.hash === `#${wanted.name}`) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  wanted.shown?.();
  if (store.sample) wanted.update?.(store.sample);
  if (!isFirst) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

function showConnection(isLive) {
  updateChip(document.getElementById("connection"), isLive ? "ok" : "bad", isLive ? "live" : "no connection");
}

function showProcess({ status }) {
  const roles = status.roles.join(" and ");
  setText(document.getElementById("process"), `${roles} ${status.version}, up ${span(status.uptime_s)}${status.state === "draining" ? ", draining" : ""}`);
}

function showSession(failure) {
  const place = document.getElementById("session");
  if (session.isOpen) {
    const leave = el("button", { type: "button", onclick: () => end().then(() => announce("Logged out"), (error) => announce(error.message)) }, "Log out");
    place.replaceChildren(el("span", { class: "process logged" }, "logged in "), leave);
  } else {
    const how = session.possible ? "read-only: adit dashboard logs in" : "read-only";
    place.replaceChildren(el("span", { class: "process" }, how));
  }
  if (failure) {
    const note = el("p", { class: "problem", role: "alert" }, failure);
    main.before(note);
  }
  VIEWS.forEach((view) => view.sessionChanged?.());
}

nav.append(el("ul", {}, VIEWS.map((view) => el("li", {}, el("a", { href: `/#${view.name}` }, view.title)))));
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", show);
// Digits choose a view, unless something is typed.
addEventListener("keydown", (event) => {
  const isTyping = event.target.closest?.("input, select, textarea");
  const view = VIEWS[Number(event.key) - 1];
  if (view && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) location.hash = view.name;
});

subscribe((sample) => {
  showProcess(sample);
  current?.update?.(sample);
});

const failure = await begin(() => showSession(null));
if (failure) showSession(failure);
show();
try {
  keepCalls((await ask("/v1/calls?limit=500")).calls);
} catch (error) {
  announce(error.message);
}
connect(showConnection);
