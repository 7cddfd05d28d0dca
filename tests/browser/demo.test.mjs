// The demo page in a real browser.

import assert from "node:assert/strict";
import { copyFile, mkdir } from "node:fs/promises";
import { after, before, it } from "node:test";
import { CLIENTS, Server, connect, join } from "../js/harness.js";
import { expectLine, launch, lines, openTab as openTabOf, path, say, shows } from "./tabs.mjs";

let browser;
let server;
before(async () => {
  server = await Server.start("hailer");
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.kill();
});

const openTab = (t, options = {}) => openTabOf(t, browser, { url: server.url, ...options });

it("a message typed in one tab is shown in both, with its time", async (t) => {
  const tabs = [await openTab(t), await openTab(t)];
  await say(tabs[0], "hello from one");
  for (const tab of tabs) await expectLine(tab, "hello from one");
  await say(tabs[1], "hello from two");
  for (const tab of tabs) {
    await expectLine(tab, "hello from two");
    assert.deepEqual(await lines(tab), ["hello from one", "hello from two"]);
    for (const time of await tab.locator("#log time").all()) {
      assert.match(await time.textContent(), /^\d\d:\d\d:\d\d$/);
      const age = Date.now() - Date.parse(await time.getAttribute("datetime"));
      assert.ok(age >= 0 && age < 60_000, `shown ${age} ms ago`);
    }
    assert.equal(await tab.locator("#transport").textContent(), "WebSocket");
    assert.equal(await tab.locator("#message").inputValue(), "");
  }
});

it("markup in a message is shown as the text it is", async (t) => {
  const tabs = [await openTab(t), await openTab(t)];
  const text = `<img src=x onerror="document.title='owned'"> <b>&amp;</b> <script>1</script>`;
  await say(tabs[0], text);
  for (const tab of tabs) {
    await expectLine(tab, text);
    assert.equal(await tab.locator("#log :is(img, b, script)").count(), 0);
    assert.equal(await tab.title(), "Hailer: room:lobby");
  }
});

it("the page waits for a server that stops, keeps what is typed, and goes on when it returns", async (t) => {
  const server = await Server.startFor(t, "hailer");
  // Waits are drawn by lot: left to choose, the page tries long-poll as well after two short ones.
  const options = { url: `${server.url}/#websocket`, expected: /^WebSocket connection to .* failed/ };
  const tabs = [await openTab(t, options), await openTab(t, options)];
  await say(tabs[0], "before");
  for (const tab of tabs) await expectLine(tab, "before");

  await server.stop();
  for (const tab of tabs) {
    await shows(tab, "#state", /^Reconnecting in \d+ s$/);
    assert.equal(await tab.locator("#transport").textContent(), "");
  }
  await say(tabs[0], "after");
  await shows(tabs[0], "#notice", "Not connected");
  assert.equal(await tabs[0].locator("#message").inputValue(), "after");

  await server.start();
  for (const tab of tabs) await shows(tab, "#state", /^Connected$/);
  await tabs[0].keyboard.press("Enter");
  for (const tab of tabs) {
    await expectLine(tab, "after");
    assert.deepEqual(await lines(tab), ["before", "after"]);
  }
  assert.equal(await tabs[0].locator("#notice").textContent(), "");
});

it("the page stays away from a server that wants it to, until it is asked to connect", async (t) => {
  const connections = [];
  const tab = await openTab(t, {
    route: (socket) => {
      socket.connectToServer();
      connections.push(socket);
    },
  });
  await connections[0].close({ code: 1000 });
  await shows(tab, "#state", /^Offline$/);
  await tab.keyboard.press("Shift+Tab");
  await tab.keyboard.press("Shift+Tab");
  assert.equal(await tab.evaluate(() => document.activeElement.id), "connect");
  await tab.keyboard.press("Enter");
  await shows(tab, "#state", /^Connected$/);
  assert.equal(connections.length, 2);
  await say(tab, "back again");
  await expectLine(tab, "back again");
});

it("a refusal is shown in words, and the message can be mended", async (t) => {
  const tab = await openTab(t, {
    prepare: () => {
      const { send } = WebSocket.prototype;
      WebSocket.prototype.send = function (text) {
        send.call(this, text.replace('"body"', '"text"'));
      };
    },
  });
  await say(tab, "lost its body");
  await shows(tab, "#notice", /^The server refused the message: .*\w.*\.$/);
  assert.equal(await tab.locator("#message").inputValue(), "lost its body");
  assert.deepEqual(await lines(tab), []);
});

it("the last 200 messages are kept", async (t) => {
  const tab = await openTab(t);
  const { channel } = await join(await connect(t, server, CLIENTS[0]), "room:lobby");
  for (let n = 1; n <= 450; n++) channel.push("new_msg", { body: `message ${n}` });
  await expectLine(tab, "message 450");
  const kept = await lines(tab);
  assert.deepEqual(kept, Array.from({ length: 200 }, (_, i) => `message ${i + 251}`));
  assert.ok(await tab.locator("#log .body").last().isVisible());
});

it("who has scrolled up is left there, and who is at the end follows", async (t) => {
  const tab = await openTab(t);
  const { channel } = await join(await connect(t, server, CLIENTS[0]), "room:lobby");
  for (let n = 1; n <= 60; n++) channel.push("new_msg", { body: `message ${n}` });
  await expectLine(tab, "message 60");
  const log = tab.locator("#log");
  const left = () => log.evaluate((e) => Math.round(e.scrollHeight - e.scrollTop - e.clientHeight));
  assert.equal(await left(), 0);

  await tab.keyboard.press("Shift+Tab");
  await tab.keyboard.press("Home");
  await tab.waitForFunction(() => document.getElementById("log").scrollTop === 0);
  channel.push("new_msg", { body: "unseen below" });
  await expectLine(tab, "unseen below");
  assert.equal(await log.evaluate((e) => e.scrollTop), 0);

  await tab.keyboard.press("End");
  await tab.waitForFunction(() => {
    const e = document.getElementById("log");
    return e.scrollHeight - e.scrollTop - e.clientHeight < 1;
  });
  channel.push("new_msg", { body: "seen" });
  await expectLine(tab, "seen");
  await tab.setViewportSize({ width: 500, height: 400 });
  await tab.waitForFunction(() => {
    const e = document.getElementById("log");
    return e.scrollHeight - e.scrollTop - e.clientHeight < 1;
  });
});

it("a narrow phone needs no sideways scrolling", async (t) => {
  const tab = await openTab(t, { viewport: { width: 320, height: 560 }, isMobile: true });
  await say(tab, "wide".repeat(60));
  await expectLine(tab, "wide".repeat(60));
  const { width, height } = await tab.evaluate(() => ({
    width: document.documentElement.scrollWidth,
    height: document.documentElement.scrollHeight,
  }));
  assert.deepEqual({ width, height }, { width: 320, height: 560 });
});

it("a picture of two messages is taken", async (t) => {
  const tab = await openTab(t, { viewport: { width: 760, height: 360 }, deviceScaleFactor: 2 });
  const other = await openTab(t);
  await say(tab, "Is anybody there?");
  await expectLine(other, "Is anybody there?");
  await say(other, "Loud and clear.");
  await expectLine(tab, "Loud and clear.");
  const picture = path("../out/demo.png");
  await mkdir(path("../out"), { recursive: true });
  await tab.screenshot({ path: picture, caret: "initial" });
  if (process.env.UPDATE_SCREENSHOT === "1") {
    await mkdir(path("../../docs"), { recursive: true });
    await copyFile(picture, path("../../docs/demo.png"));
  }
});
