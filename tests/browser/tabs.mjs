// What the suites in a browser share: tabs on the demo page that fail their test when they complain.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const { chromium } = createRequire(new URL("../js/package.json", import.meta.url))("playwright-core");

export const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--no-first-run",
    ],
  });

/**
 * A tab that has connected; the test fails if it complains, save of what `expected` matches. `prepare` runs in
 * it before the page does, `route` takes its WebSockets, and `blocked` lets none of them open.
 */
export async function openTab(t, browser, { url, expected = /^$/, prepare, route, blocked, ...options }) {
  const context = await browser.newContext({ locale: "en-GB", ...options });
  const tab = await context.newPage();
  tab.setDefaultTimeout(20_000);
  const complaints = [];
  tab.on("pageerror", (error) => complaints.push(String(error)));
  // Violations of the content security policy are told here as well.
  tab.on("console", (line) => {
    if (["error", "warning"].includes(line.type())) complaints.push(line.text());
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(complaints.filter((text) => !expected.test(text)), []);
  });
  if (prepare) await tab.addInitScript(prepare);
  if (blocked) await tab.addInitScript(block);
  if (route) await tab.routeWebSocket("**/socket/websocket*", route);
  await tab.goto(url);
  await shows(tab, "#state", /^Connected$/);
  return tab;
}

/** Sends every WebSocket to a path where the server has none. */
function block() {
  const Original = WebSocket;
  globalThis.WebSocket = class extends Original {
    constructor(url) {
      super(new URL("/nothing", url));
    }
  };
}

export const shows = (tab, selector, text) => tab.locator(selector, { hasText: text }).waitFor();

/** Types into whatever has the focus, as a person with only a keyboard does. */
export async function say(tab, text) {
  await tab.keyboard.type(text);
  await tab.keyboard.press("Enter");
}

export async function expectLine(tab, text) {
  await tab.locator("#log .body").getByText(text, { exact: true }).waitFor();
}

export const lines = (tab) => tab.locator("#log .body").allTextContents();
