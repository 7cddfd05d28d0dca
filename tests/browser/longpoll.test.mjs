// The demo page over long-poll, by choice and where WebSockets don't get through.

import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { Server } from "../js/harness.js";
import { expectLine, launch, lines, openTab, path, say, shows } from "./tabs.mjs";

let browser;
let server;
before(async () => {
  server = await Server.start("hailer", { shards: 4 });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.kill();
});

const transport = (tab) => tab.locator("#transport").textContent();

it("tabs on either transport see each other's messages, once and in order", async (t) => {
  const longPoll = await openTab(t, browser, { url: `${server.url}/#longpoll` });
  const tabs = [longPoll, await openTab(t, browser, { url: `${server.url}/` })];
  assert.deepEqual(await Promise.all(tabs.map(transport)), ["Long-poll", "WebSocket"]);
  assert.equal(await longPoll.locator("#choice").inputValue(), "longpoll");
  const said = [];
  for (let n = 1; n <= 5; n++) {
    for (const [i, tab] of tabs.entries()) {
      said.push(`${n} from ${i}`);
      await say(tab, said.at(-1));
      for (const other of tabs) await expectLine(other, said.at(-1));
    }
  }
  for (const tab of tabs) assert.deepEqual(await lines(tab), said);
});

for (const [how, prepare, expected] of [
  ["can't be made", () => (WebSocket = class { constructor() { throw new Error("no"); } }), /^$/],
  ["are missing", () => delete globalThis.WebSocket, /^$/],
  ["never open", () => (WebSocket = class { close() {} }), /^$/],
]) {
  it(`where WebSockets ${how}, the page goes over to long-poll by itself`, async (t) => {
    const tab = await openTab(t, browser, { url: server.url, prepare, expected });
    assert.equal(await transport(tab), "Long-poll");
    assert.equal(await tab.locator("#choice").inputValue(), "");
    await say(tab, `around: they ${how}`);
    await expectLine(tab, `around: they ${how}`);
  });
}

it("where WebSockets are ended before they open, the page goes over to long-poll by itself", async (t) => {
  const tab = await openTab(t, browser, { url: server.url, expected: /WebSocket/, blocked: true });
  assert.equal(await transport(tab), "Long-poll");
  await say(tab, "around the wall");
  await expectLine(tab, "around the wall");
});

it("the transport is chosen by keyboard, and the choice outlives a reload", async (t) => {
  const tab = await openTab(t, browser, { url: server.url });
  for (let n = 0; n < 2; n++) await tab.keyboard.press("Tab");
  assert.equal(await tab.evaluate(() => document.activeElement.id), "choice");
  for (const [shown, hash] of [["WebSocket", "#websocket"], ["Long-poll", "#longpoll"]]) {
    await tab.keyboard.press("ArrowDown");
    await shows(tab, "#transport", shown);
    await shows(tab, "#state", /^Connected$/);
    assert.equal(new URL(tab.url()).hash, hash);
  }
  await tab.reload();
  await shows(tab, "#transport", "Long-poll");
  assert.equal(await tab.locator("#choice").inputValue(), "longpoll");
  await tab.locator("#choice").focus();
  await tab.keyboard.press("Home");
  await shows(tab, "#transport", "WebSocket");
  assert.equal(tab.url(), `${server.url}/`);
});

it("the page waits for a server that stops, and goes on over long-poll when it returns", async (t) => {
  const server = await Server.startFor(t, "hailer");
  const tab = await openTab(t, browser, { url: `${server.url}/#longpoll`, expected: /^Failed to load resource/ });
  await say(tab, "before");
  await expectLine(tab, "before");
  await server.stop();
  await shows(tab, "#state", /^Reconnecting/);
  await server.start();
  await shows(tab, "#state", /^Connected$/);
  await say(tab, "after");
  await expectLine(tab, "after");
  assert.equal(await transport(tab), "Long-poll");
});

it("a narrow phone shows the choice without scrolling", async (t) => {
  const options = { url: `${server.url}/#longpoll`, viewport: { width: 320, height: 560 }, isMobile: true };
  const tab = await openTab(t, browser, { ...options, colorScheme: "dark", deviceScaleFactor: 2 });
  await say(tab, "small");
  await expectLine(tab, "small");
  const size = await tab.evaluate(() => {
    const { scrollWidth, scrollHeight } = document.documentElement;
    return { scrollWidth, scrollHeight };
  });
  assert.deepEqual(size, { scrollWidth: 320, scrollHeight: 560 });
  await tab.locator("#choice").click({ trial: true });
  await tab.screenshot({ path: path("../out/phone.png") });
});
