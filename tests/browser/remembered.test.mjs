// What an application's pages remember of notifications: over a change of page, in all tabs of a user, and of no other.

import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { KEYS, call } from "../js/api.js";
import { Server } from "../js/harness.js";
import { snippet } from "../js/snippets.js";
import { guarded, mint } from "../js/tokens.js";
import { page, serve } from "./application.mjs";
import { launch, shows } from "./tabs.mjs";

const LOBBY = { topic: "room:lobby" };
const KEY = "hailer:notices:alice";
const HOUR = 60 * 60_000;

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

/** The application: each user has two pages, which the server renders and which link to each other. */
async function application(t) {
  const { files, origin } = await serve(t, "1.8");
  const above = `check_origin = ["${origin}"]`;
  const server = await Server.startFor(t, "hailer", guarded({ api: true, above, rest: KEYS }));
  files.set("/app.js", `${snippet("app.js", server)}\nglobalThis.notices = notices\n`);
  for (const user of ["alice", "bob"]) {
    const token = await mint(user);
    files.set(`/${user}`, page(server, user, token, `<a href="/${user}/orders">Orders</a>`));
    files.set(`/${user}/orders`, page(server, user, token, `<a href="/${user}">Home</a>`));
  }
  const context = await browser.newContext({ locale: "en-GB" });
  t.after(() => context.close());
  const complaints = [];
  const open = async (user, { prepare } = {}) => {
    const tab = await context.newPage();
    tab.setDefaultTimeout(20_000);
    tab.on("pageerror", (error) => complaints.push(String(error)));
    if (prepare) await prepare(tab);
    await tab.goto(`${origin}/${user}`);
    return tab;
  };
  t.after(() => assert.deepEqual(complaints, []));
  const publish = async (target, payload, options) =>
    (await call(server, "publish", { ...target, event: "new_msg", payload, ...options })).id;
  const joined = (count) =>
    assert.doesNotReject(async () => {
      for (;;) {
        const { subscribers } = await call(server, "publish", { ...LOBBY, event: "other", payload: {} });
        if (subscribers >= count) return;
      }
    });
  return { server, origin, context, open, publish, joined };
}

const listed = (tab) => tab.locator("#panel .notice-body").allTextContents();
const banners = (tab) => tab.locator("#banners .notice-body").allTextContents();
const has = (tab, text) => tab.locator("#panel .notice-body").getByText(text, { exact: true }).waitFor({ state: "attached" });
const lacks = (tab, text) => tab.locator(".notice-body").getByText(text, { exact: true }).first().waitFor({ state: "detached" });
const unseen = (tab, count) =>
  tab.getByRole("button", { name: count ? `Notifications, ${count} unseen` : "Notifications", exact: true }).waitFor();
const stored = (tab) => tab.evaluate((key) => localStorage.getItem(key) ?? "", KEY);
const expectStored = (tab, text) => tab.waitForFunction(([key, text]) => localStorage.getItem(key)?.includes(text), [KEY, text]);

it("notifications survive a click on a link, with what was seen and dismissed", async (t) => {
  const { open, publish, joined } = await application(t);
  const tab = await open("alice");
  await joined(1);
  await publish(LOBBY, { body: "kept", severity: "info" }, { expires_in: 600 });
  await publish(LOBBY, { body: "with an id", severity: "critical" }, { with_id: true });
  await publish(LOBBY, { body: "without an id", severity: "warning" });
  await has(tab, "without an id");
  await tab.getByRole("button", { name: "Dismiss: with an id" }).click();
  await unseen(tab, 2);
  const check = async (count) => {
    await unseen(tab, count);
    assert.deepEqual(await listed(tab), ["without an id", "with an id", "kept"]);
    assert.deepEqual(await banners(tab), ["without an id", "kept"]);
  };
  await tab.getByRole("link", { name: "Orders" }).click();
  await check(2);
  await tab.locator("#bell").click();
  await tab.getByRole("link", { name: "Home" }).click();
  await joined(1);
  await check(0);
  const time = await tab.locator("#panel time").last().getAttribute("datetime");
  await tab.reload();
  await check(0);
  assert.equal(await tab.locator("#panel time").last().getAttribute("datetime"), time, "when it came is kept");
  await joined(1);
  await publish(LOBBY, { body: "new", severity: "info" });
  await unseen(tab, 1);
  // Right behind it.
  await tab.getByRole("link", { name: "Orders" }).click();
  await unseen(tab, 1);
  assert.deepEqual((await listed(tab)).slice(0, 2), ["new", "without an id"]);
});

it("what is seen, dismissed or retracted is so in all tabs of the user, and what comes to two tabs is one", async (t) => {
  const { server, open, publish, joined } = await application(t);
  const [one, other] = [await open("alice"), await open("alice")];
  await joined(2);
  const id = await publish({ user: "alice" }, { body: "yours", severity: "critical" }, { with_id: true });
  await publish(LOBBY, { body: "nameless", severity: "critical" });
  await publish(LOBBY, { body: "nameless twice", severity: "info" });
  await publish(LOBBY, { body: "nameless twice", severity: "info" });
  await publish(LOBBY, { body: "last", severity: "info" });
  const all = ["last", "nameless twice", "nameless twice", "nameless", "yours"];
  for (const tab of [one, other]) {
    await has(tab, "last");
    await unseen(tab, 5);
    assert.deepEqual(await listed(tab), all);
  }
  // What both have stored is one of each, too.
  for (const tab of [one, other]) await expectStored(tab, "last");
  const third = await open("alice");
  await unseen(third, 5);
  assert.deepEqual(await listed(third), all);
  await one.getByRole("button", { name: "Dismiss: yours" }).click();
  await other.getByRole("button", { name: "Dismiss: nameless", exact: true }).click();
  for (const tab of [one, other, third]) {
    await tab.waitForFunction(() => document.querySelectorAll("#banners .notice-critical").length === 0);
    await unseen(tab, 3);
  }
  await third.locator("#bell").click();
  for (const tab of [one, other]) await unseen(tab, 0);
  await call(server, "retract", { id });
  for (const tab of [one, other, third]) await lacks(tab, "yours");
  await third.reload();
  assert.deepEqual(await listed(third), all.slice(0, -1));
});

it("another user of the same browser is shown nothing of the first, nor is anybody after a sign-out", async (t) => {
  const { origin, open, publish, joined } = await application(t);
  const alice = await open("alice");
  await joined(1);
  await publish({ user: "alice" }, { body: "for alice", severity: "critical" }, { with_id: true });
  await has(alice, "for alice");
  await expectStored(alice, "for alice");
  const bob = await open("bob");
  await joined(2);
  await publish(LOBBY, { body: "for all", severity: "info" });
  await has(bob, "for all");
  assert.deepEqual(await listed(bob), ["for all"]);
  // A page that outlives the sign-in.
  await bob.evaluate(() => notices.use("alice"));
  await has(bob, "for alice");
  await bob.evaluate(() => notices.use("bob"));
  assert.deepEqual(await listed(bob), ["for all"]);
  await bob.evaluate(() => notices.use(null));
  assert.deepEqual(await listed(bob), []);
  await bob.goto(`${origin}/bob/orders`);
  assert.deepEqual(await listed(bob), ["for all"]);

  const second = await open("alice");
  await has(second, "for alice");
  await alice.evaluate(() => notices.forget());
  await lacks(second, "for alice");
  assert.equal(await stored(alice), "");
  await second.reload();
  assert.deepEqual(await listed(second), []);
});

it("what was retracted while no page was open goes when the server no longer gives it, and the rest stays", async (t) => {
  const { server, open, publish, joined } = await application(t);
  const tab = await open("alice");
  await joined(1);
  const kept = { expires_in: 600 };
  const id = await publish(LOBBY, { body: "a mistake", severity: "critical" }, kept);
  await publish(LOBBY, { body: "still true", severity: "critical" }, kept);
  await publish(LOBBY, { body: "for those who were there", severity: "critical" }, { with_id: true });
  await publish({ user: "alice" }, { body: "of another topic", severity: "critical" }, kept);
  await has(tab, "of another topic");
  await expectStored(tab, "of another topic");
  await tab.close();
  await call(server, "retract", { id });
  const again = await open("alice", { prepare: (page) => page.clock.install() });
  await has(again, "a mistake");
  await joined(1);
  await again.clock.fastForward(11_000);
  await lacks(again, "a mistake");
  const rest = ["of another topic", "for those who were there", "still true"];
  assert.deepEqual(await listed(again), rest);
  const third = await open("alice");
  await joined(2);
  assert.deepEqual(await listed(third), rest);
});

it("a stored notification expires when it says so, or after a day", async (t) => {
  const { open, publish, joined } = await application(t);
  const tab = await open("alice");
  await joined(1);
  await publish(LOBBY, { body: "ten minutes", severity: "info", expires_at: Date.now() + HOUR / 6 }, { with_id: true });
  await publish(LOBBY, { body: "two days", severity: "info", expires_at: Date.now() + 48 * HOUR }, { with_id: true });
  await publish(LOBBY, { body: "does not say", severity: "info" }, { with_id: true });
  await publish(LOBBY, { body: "nameless", severity: "info" });
  await has(tab, "nameless");
  await expectStored(tab, "nameless");
  await tab.close();
  const at = (ms) => ({ prepare: (page) => page.clock.setFixedTime(Date.now() + ms) });
  for (const [ms, expected] of [
    [HOUR / 7, ["nameless", "does not say", "two days", "ten minutes"]],
    [HOUR / 5, ["nameless", "does not say", "two days"]],
    [25 * HOUR, ["two days"]],
    [49 * HOUR, []],
  ]) {
    const later = await open("alice", at(ms));
    assert.deepEqual(await listed(later), expected, `${ms / HOUR} hours later`);
    await later.close();
  }
});

it("a kept notification is shown although this computer's clock says that it has expired", async (t) => {
  const { open, publish, joined } = await application(t);
  const ahead = { prepare: (page) => page.clock.setFixedTime(Date.now() + 5 * HOUR) };
  const tab = await open("alice", ahead);
  await joined(1);
  await publish(LOBBY, { body: "soon", severity: "critical" }, { expires_in: 600 });
  await has(tab, "soon");
  await expectStored(tab, "soon");
  await tab.reload();
  await has(tab, "soon");
  assert.deepEqual(await banners(tab), ["soon"]);
});

for (const [what, spoil] of [
  ["is full", () => (Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); })],
  ["is kept from the page", () =>
    Object.defineProperty(globalThis, "localStorage", { get: () => { throw new DOMException("no", "SecurityError"); } })],
  ["can't be read", () => (Storage.prototype.getItem = () => { throw new DOMException("no", "InvalidStateError"); })],
]) {
  it(`notifications are shown where the storage ${what}`, async (t) => {
    const { open, publish, joined } = await application(t);
    const tab = await open("alice", { prepare: (page) => page.addInitScript(spoil) });
    await joined(1);
    await publish(LOBBY, { body: "shown", severity: "critical" }, { with_id: true });
    await shows(tab, "#banners .notice-body", /^shown$/);
    await tab.getByRole("button", { name: "Dismiss: shown" }).click();
    await unseen(tab, 0);
    assert.deepEqual(await banners(tab), []);
    await tab.evaluate(() => notices.forget());
  });
}

it("what is stored is taken for a stranger's: markup is text, and a link leads nowhere else", async (t) => {
  const { open } = await application(t);
  const markup = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;
  const entry = { at: Date.now(), title: markup, body: markup, severity: "critical", seen: "no", away: 1, topic: 5 };
  const entries = [
    { ...entry, id: "a", link: "javascript:document.title='owned'" },
    { ...entry, id: "b", link: "//evil.example", keys: [1, {}] },
    { ...entry, id: { x: 1 }, keys: ["x.1", markup.repeat(9)] },
    { ...entry, id: "c", at: 8e15, expires_at: 9e15, severity: "__proto__" },
    { ...entry, id: "x".repeat(1000) },
    ...Array.from({ length: 1000 }, (_, n) => ({ ...entry, id: `many ${n}` })),
  ];
  const text = JSON.stringify({ at: "x", ids: [["__proto__", 15], ["a", 64], [markup, 1]], entries });
  const tab = await open("alice", {
    prepare: (page) => page.addInitScript(([key, text]) => localStorage.setItem(key, text), [KEY, text]),
  });
  await tab.locator("#banners .notice").first().waitFor();
  assert.equal(await tab.locator(":is(#banners, #panel) :is(img, script, a)").count(), 0);
  assert.equal(await tab.title(), "An application");
  assert.ok((await tab.locator("#panel .notice").count()) <= 20);
  assert.equal(await tab.locator("#panel .notice-title").first().textContent(), markup);
});

it("what is stored is bounded: for each user, and in users", async (t) => {
  const { open } = await application(t);
  const tab = await open("alice");
  const sizes = await tab.evaluate(() => {
    const keys = () => Object.keys(localStorage).filter((key) => key.startsWith("hailer:notices:"));
    for (let n = 0; n < 8; n++) {
      notices.use(`user ${n}`);
      for (let m = 0; m < 60; m++) notices.add({ id: `${m}`, body: "x".repeat(16_000), severity: "critical" });
      for (let m = 0; m < 900; m++) notices.retract(`gone ${m}${"x".repeat(150)}`);
      // Storing is put off, but not beyond the page or the user.
      notices.use(`user ${n}`);
    }
    return keys().map((key) => [key, localStorage.getItem(key).length]);
  });
  assert.deepEqual(sizes.map(([key]) => key).sort(), [3, 4, 5, 6, 7].map((n) => `hailer:notices:user ${n}`));
  for (const [key, length] of sizes) assert.ok(length > 100_000 && length <= 200_000, `${key}: ${length}`);
  assert.ok((await listed(tab)).length > 5, "the newest are there");
});
