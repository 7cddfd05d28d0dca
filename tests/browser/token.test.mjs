// The demo page of a server that lets only users in.

import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { Server } from "../js/harness.js";
import { guarded, mint } from "../js/tokens.js";
import { expectLine, launch, openTab as openTabOf, say, shows } from "./tabs.mjs";

let browser;
let server;
before(async () => {
  browser = await launch();
  server = await Server.start("embedded", guarded());
});
after(async () => {
  await browser?.close();
  await server?.kill();
});

const openTab = (t, token, options = {}) => openTabOf(t, browser, { url: `${server.url}/#token=${token}`, ...options });

it("a token in the address connects its user, and leaves the address", async (t) => {
  const token = await mint("alice");
  const tab = await openTab(t, token);
  assert.equal(new URL(tab.url()).hash, "");
  assert.equal(await tab.locator("#token").inputValue(), token);
  await tab.reload();
  await shows(tab, "#state", /^Connected$/);
});

it("what is meant for one user is shown to that user alone, and marked", async (t) => {
  const [alice, bob] = [await openTab(t, await mint("alice")), await openTab(t, await mint("bob"))];
  server.tell('broadcast user:alice new_msg {"body": "your order is ready"}');
  server.tell('broadcast room:lobby new_msg {"body": "we close at six"}');
  for (const tab of [alice, bob]) await expectLine(tab, "we close at six");
  await expectLine(alice, "your order is ready");
  await alice.locator("#log p", { hasText: "for you" }).getByText("your order is ready").waitFor();
  assert.equal(await bob.locator("#log p", { hasText: "your order is ready" }).count(), 0);
});

it("a customer's message is refused in words, and staff's is shown to all", async (t) => {
  const [customer, staff] = [await openTab(t, await mint("carol")), await openTab(t, await mint("dan", { staff: true }))];
  await say(customer, "hello from a customer");
  await shows(customer, "#notice", "The server refused the message: unauthorized.");
  await say(staff, "hello from staff");
  for (const tab of [customer, staff]) await expectLine(tab, "hello from staff");
  assert.equal(await staff.locator("#log p", { hasText: "hello from a customer" }).count(), 0);
});

it("without a token the page says so, and connects as soon as it is given one", async (t) => {
  const context = await browser.newContext({ locale: "en-GB" });
  t.after(() => context.close());
  const tab = await context.newPage();
  await tab.goto(server.url);
  await shows(tab, "#notice", "wants another token than it was given");
  await tab.locator("#token").fill(await mint("erin"));
  await tab.locator("#token").press("Enter");
  await shows(tab, "#state", /^Connected$/);
  assert.equal(await tab.locator("#notice").textContent(), "");
});
