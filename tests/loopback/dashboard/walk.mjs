// Walks through the dashboards of an edge and of a connector in a browser, as people do, and fails if anything is not as it should be.
// Arguments: the folder of packages, the browser, the log-in URLs of both, a hostile name, and a folder for pictures.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [packages, browserPath, edgeUrl, connectorUrl, hostile, pictures] = process.argv.slice(2);
const require = createRequire(join(packages, "walk.cjs"));
const { chromium } = require("playwright-core");
const axe = readFileSync(join(packages, "axe-core", "axe.min.js"), "utf8");

const VIEWS = ["overview", "links", "tools", "calls", "policy", "audit", "certificates", "doctor"];
const faults = [];
if (pictures) mkdirSync(pictures, { recursive: true });

const browser = await chromium.launch({
  executablePath: browserPath,
  // Tests may run as root, where Chromium has no sandbox.
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});

/** A page whose faults are collected: errors, breaches of the policy, and requests to others. */
async function open(url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  const { host } = new URL(url);
  page.on("request", (request) => {
    if (new URL(request.url()).host !== host) faults.push(`request to ${request.url()}`);
  });
  page.on("console", (message) => {
    if (message.type() === "error" && !options.expectErrors) faults.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`error: ${error.stack}`));
  await page.exposeFunction("reportViolation", (text) => faults.push(`policy: ${text}`));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => window.reportViolation(`${event.violatedDirective} ${event.blockedURI}`));
  });
  await page.goto(url);
  return page;
}

const show = async (page, view) => {
  await page.locator(`#nav a[href$="#${view}"]`).click();
  await page.locator("#main h1").waitFor();
};
const has = (page, text) => page.getByText(text, { exact: false }).filter({ visible: true }).first().waitFor();
const row = (page, caption, text) => page.getByRole("table", { name: caption, exact: true }).getByRole("row").filter({ hasText: text });
const picture = async (page, name) => {
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
};

/** What axe finds wrong with a view: roles, names, contrast, structure. */
async function examine(page, name) {
  if (!(await page.evaluate("Boolean(window.axe)"))) await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  for (const { id, help, nodes } of violations) {
    faults.push(`axe on ${name}: ${id} (${help}): ${nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary}`).join(" | ")}`);
  }
}

async function walkEdge() {
  const page = await open(edgeUrl);
  await page.getByRole("button", { name: "Log out" }).waitFor();
  assert.equal(new URL(page.url()).hash, "#overview", "the code does not stay in the address bar");
  assert.equal(await page.evaluate("document.cookie"), "", "scripts cannot read the cookie");

  // Live: the number of calls grows by itself.
  const calls = () => page.getByText("since the start").textContent();
  await has(page, "since the start");
  await page.locator("#connection", { hasText: "live" }).waitFor();
  const before = await calls();
  await page.waitForFunction((before) => !document.body.innerText.includes(before), before);
  await page.locator(".plot canvas").first().waitFor();
  assert.match(await page.locator(".plot").nth(1).getAttribute("aria-label"), /Tunnel, ms, over the last .* Now p50 /);
  await examine(page, "overview");
  await picture(page, "edge-overview");

  await show(page, "links");
  await row(page, "Tunnels", "online").getByText("a.test").waitFor();
  await row(page, "Links", "tnl_").locator(".chip", { hasText: "up" }).first().waitFor();
  await examine(page, "links");
  await picture(page, "edge-links");

  await show(page, "tools");
  await row(page, "Tools and methods", "search").waitFor();
  await row(page, "Tools and methods", hostile).waitFor();
  await page.getByRole("button", { name: "search", exact: true }).click();
  await has(page, "a.test, search");
  await page.getByRole("button", { name: "Show all calls" }).click();
  const breaker = row(page, "Breakers", "a.test, search");
  await breaker.getByRole("button", { name: "open", exact: true }).click();
  await breaker.locator(".chip", { hasText: "forced open" }).waitFor();
  await breaker.getByRole("button", { name: "auto", exact: true }).click();
  await breaker.locator(".chip", { hasText: "closed" }).waitFor();
  await examine(page, "tools");
  await picture(page, "edge-tools");

  // By keyboard: the skip link, the filter, and one call that is opened and closed.
  await page.keyboard.press("4");
  await page.getByRole("heading", { level: 1, name: "Calls" }).waitFor();
  // The session outlives a reload, after which the focus is at the beginning.
  await page.reload();
  await page.getByRole("button", { name: "Log out" }).waitFor();
  await page.getByRole("heading", { level: 1, name: "Calls" }).waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate("document.activeElement.id"), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate("document.activeElement.id"), "main");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate("document.activeElement.id"), "call-filter");
  await page.keyboard.type("read_file");
  await page.waitForFunction(() => [...document.querySelectorAll("#main tbody tr")].every((line) => line.innerText.includes("read_file")));
  for (let at = 0; at < 3; at += 1) await page.keyboard.press("Tab");
  const opener = await page.evaluate("document.activeElement.className");
  assert.equal(opener, "link", "after the filter, the check box and the table comes the first call");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog", { name: "Call" }).waitFor();
  await row(page, "Phases of the call", "tunnel").first().waitFor();
  await examine(page, "one call");
  await picture(page, "edge-call");
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  await page.locator("#call-filter").fill("");
  await row(page, "The last calls", hostile).first().waitFor();
  await examine(page, "calls");
  await picture(page, "edge-calls");

  await show(page, "policy");
  await has(page, "No policy has decided");
  await examine(page, "policy");

  await show(page, "audit");
  await page.getByLabel("Tool or name").fill(hostile);
  await page.getByRole("button", { name: "Search" }).click();
  await row(page, "Lines of the audit log", hostile).first().waitFor();
  await examine(page, "audit");
  await picture(page, "edge-audit");

  await show(page, "certificates");
  await row(page, "Certificates of the edge", "connectors").getByText("valid").waitFor();
  await examine(page, "certificates");
  await picture(page, "edge-certificates");

  await show(page, "doctor");
  await page.getByRole("button", { name: "Run the checks" }).click();
  await row(page, "Findings", "config").first().waitFor();
  await row(page, "Cores", "edge 0").waitFor();
  await examine(page, "doctor");
  await picture(page, "edge-doctor");
  assert.equal(await page.locator("main img, main script, main iframe").count(), 0, "names became markup");

  // In the dark, and on a phone.
  const light = await page.evaluate("getComputedStyle(document.body).backgroundColor");
  await page.emulateMedia({ colorScheme: "dark", reducedMotion: "reduce" });
  assert.notEqual(await page.evaluate("getComputedStyle(document.body).backgroundColor"), light);
  for (const view of ["overview", "tools"]) {
    await show(page, view);
    await examine(page, `${view}, dark`);
    await picture(page, `edge-${view}-dark`);
  }
  await page.setViewportSize({ width: 360, height: 740 });
  await page.emulateMedia({ colorScheme: "light" });
  for (const view of VIEWS) {
    await show(page, view);
    const width = await page.evaluate("document.documentElement.scrollWidth");
    assert.ok(width <= 360, `${view} is ${width} px wide on a phone`);
    await picture(page, `phone-${view}`);
  }

  await page.getByRole("button", { name: "Log out" }).click();
  await has(page, "read-only");
  await show(page, "audit");
  await has(page, "after a log-in");
  await page.context().close();
}

async function walkConnector() {
  const page = await open(connectorUrl);
  await page.getByRole("button", { name: "Log out" }).waitFor();
  await has(page, "connector ");
  await show(page, "links");
  await row(page, "Edges", "fine").waitFor();
  await picture(page, "connector-links");
  await show(page, "policy");
  await row(page, "Rules", "deletes").first().waitFor();
  const waiting = row(page, "Calls that wait for approval", "delete_all");
  await waiting.getByRole("button", { name: "Approve once" }).click();
  await has(page, "Give your name first");
  await page.getByLabel("Your name").fill("Bob");
  await picture(page, "connector-policy");
  await waiting.getByRole("button", { name: "Deny" }).click();
  await waiting.getByText("denied by Bob (dashboard)").waitFor();
  await examine(page, "policy");
  await show(page, "tools");
  await row(page, "Routes", "a.test").getByText("reached").waitFor();
  await show(page, "certificates");
  await row(page, "Certificates of this connector", "valid").waitFor();
  await page.context().close();
}

/** A link that was used up opens a page that can only read. */
async function walkAgain() {
  const page = await open(edgeUrl, { expectErrors: true });
  await page.getByRole("alert").filter({ hasText: "used up" }).waitFor();
  await has(page, "read-only");
  await has(page, "since the start");
  await page.context().close();
}

try {
  await Promise.all([walkEdge().then(walkAgain), walkConnector()]);
} catch (error) {
  faults.push(error.stack);
} finally {
  await browser.close();
}
if (faults.length > 0) {
  console.log(faults.join("\n\n"));
  process.exitCode = 1;
} else {
  console.log("all views were seen");
}
