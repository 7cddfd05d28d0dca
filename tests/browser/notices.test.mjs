// Notifications on the demo page: banners by severity, the bell, what is taken back, and what must not get through.

import assert from "node:assert/strict";
import { copyFile, mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, describe, it } from "node:test";
import { KEYS, call } from "../js/api.js";
import { Server } from "../js/harness.js";
import { guarded, mint } from "../js/tokens.js";
import { expectLine, launch, lines, openTab as openTabOf, path, shows } from "./tabs.mjs";

const axe = await readFile(createRequire(new URL("../js/package.json", import.meta.url)).resolve("axe-core/axe.min.js"), "utf8");

const LOBBY = "room:lobby";
const PHONE = { viewport: { width: 320, height: 560 }, isMobile: true, hasTouch: true };

let browser;
let server;
/** The same with users, and an API for back ends. */
let users;
before(async () => {
  browser = await launch();
  server = await Server.start("embedded", { config: "" });
  users = await Server.start("hailer", guarded({ api: true, rest: KEYS }));
});
after(async () => {
  await browser?.close();
  await server?.kill();
  await users?.kill();
});

const openTab = (t, { hash = "", ...options } = {}) =>
  openTabOf(t, browser, { url: `${server.url}/${hash}`, ...options });

const publish = (payload, topic = LOBBY) => server.tell(`broadcast ${topic} new_msg ${JSON.stringify(payload)}`);
const retract = (id, topic = LOBBY) => server.tell(`broadcast ${topic} retract ${JSON.stringify({ id })}`);

/** An id that no other test has. */
let lastId = 0;
const fresh = () => `id-${++lastId}`;

/** Waits until the tab has handled all that was said before. */
async function settled(tab) {
  const text = `settled ${fresh()}`;
  publish({ body: text });
  await expectLine(tab, text);
}

const banners = (tab) => tab.locator("#banners .notice .notice-body").allTextContents();
const focused = (tab) => tab.evaluate(() => document.activeElement.ariaLabel ?? document.activeElement.id);

/** What is behind the bell, newest first. */
const behindBell = (tab) => tab.locator("#panel .notice .notice-body").allTextContents();

async function expectBell(tab, unseen) {
  const name = unseen ? `Notifications, ${unseen} unseen` : "Notifications";
  await tab.getByRole("button", { name, exact: true }).waitFor();
  assert.equal(await tab.locator("#bell .notice-count").textContent(), unseen ? `${unseen}` : "");
}

for (const hash of ["#websocket", "#longpoll"]) describe(`over ${hash.slice(1)}`, () => {
  it("banners stand by severity, and the gravest interrupts a screen reader", async (t) => {
    const tab = await openTab(t, { hash });
    publish({ id: fresh(), body: "an offer", severity: "info" });
    publish({ id: fresh(), body: "maintenance", severity: "warning", title: "Soon" });
    publish({ id: fresh(), body: "all is on fire", severity: "critical", title: "Leave" });
    publish({ id: fresh(), body: "a further offer", severity: "info" });
    await settled(tab);
    assert.deepEqual(await banners(tab), ["all is on fire", "maintenance", "a further offer", "an offer"]);
    const [alert, status] = [tab.locator("#banners [role=alert]"), tab.locator("#banners [role=status]")];
    assert.deepEqual(await alert.locator(".notice-critical .notice-title").allTextContents(), ["Leave"]);
    assert.deepEqual(await status.locator(".notice-warning .notice-title").allTextContents(), ["Soon"]);
    assert.equal(await status.locator(".notice-info").count(), 2);
    assert.match(await alert.locator(".notice").textContent(), /^Critical: Leave/);
    await expectBell(tab, 4);
    assert.deepEqual((await lines(tab)).filter((line) => !line.startsWith("settled")), []);
  });

  it("what is taken back is gone from the banners and from behind the bell, and does not come late", async (t) => {
    const tab = await openTab(t, { hash });
    const [stays, goes, late] = [fresh(), fresh(), fresh()];
    publish({ id: stays, body: "stays", severity: "critical" });
    publish({ id: goes, body: "goes", severity: "critical" });
    await shows(tab, "#banners .notice-body", /^goes$/);
    retract(goes);
    retract(late);
    retract("never heard of");
    publish({ id: late, body: "late" });
    await settled(tab);
    assert.deepEqual(await banners(tab), ["stays"]);
    assert.deepEqual(await behindBell(tab), ["stays"]);
    await expectBell(tab, 1);
  });
});

it("a message that comes twice is shown once, and one without an id as often as it comes", async (t) => {
  const tab = await openTab(t);
  const id = fresh();
  for (const body of ["first", "the same"]) publish({ id, body });
  publish({ id: 7, body: "by number" });
  publish({ id: "7", body: "by its text" });
  for (let n = 0; n < 2; n++) publish({ title: "Twice", body: "no id" });
  await settled(tab);
  assert.deepEqual(await behindBell(tab), ["no id", "no id", "by number", "first"]);
  await expectBell(tab, 4);
});

it("a plain message is a line of talk, and a notification is none", async (t) => {
  const tab = await openTab(t);
  const plain = [{ body: "plain" }, { body: "null counts as none", title: null, id: null, severity: null }, { body: 5 }];
  for (const payload of plain) publish(payload);
  for (const key of ["title", "id", "severity"]) publish({ body: `has ${key}`, [key]: key });
  await settled(tab);
  assert.deepEqual((await lines(tab)).slice(0, 3), ["plain", "null counts as none", "5"]);
  assert.deepEqual(await behindBell(tab), ["has severity", "has id", "has title"]);
});

it("the gravest stay until they are dismissed; of the others, the latest three are in sight", async (t) => {
  const tab = await openTab(t);
  publish({ id: fresh(), body: "grave", severity: "critical" });
  for (let n = 1; n <= 25; n++) publish({ id: fresh(), body: `offer ${n}`, severity: "info" });
  publish({ id: fresh(), body: "careful", severity: "warning" });
  await settled(tab);
  assert.deepEqual(await banners(tab), ["grave", "careful", "offer 25", "offer 24"]);
  // It is no longer among the last twenty, and yet to be dismissed.
  await expectBell(tab, 20);
  assert.deepEqual(await behindBell(tab), ["careful", ...Array.from({ length: 19 }, (_, n) => `offer ${25 - n}`)]);
  await tab.getByRole("button", { name: "Dismiss: grave" }).click();
  assert.deepEqual(await banners(tab), ["careful", "offer 25", "offer 24"]);
  await expectBell(tab, 20);
});

it("banners are dismissed by keyboard, and the focus goes on to the next and at last to the bell", async (t) => {
  const tab = await openTab(t);
  for (const body of ["one", "two", "three"]) publish({ id: fresh(), body, severity: "warning" });
  publish({ id: fresh(), body: "four", severity: "critical", link: "/" });
  await settled(tab);
  await tab.locator("#bell").focus();
  // Past the button that connects, which is hidden, to the link of the first banner, and on to its button.
  await tab.keyboard.press("Tab");
  assert.equal(await tab.evaluate(() => document.activeElement.className), "notice-link");
  await tab.keyboard.press("Tab");
  assert.equal(await focused(tab), "Dismiss: four");
  await tab.keyboard.press("Enter");
  assert.deepEqual(await banners(tab), ["three", "two", "one"]);
  assert.equal(await focused(tab), "Dismiss: three");
  await tab.keyboard.press("Space");
  assert.equal(await focused(tab), "Dismiss: two");
  await tab.keyboard.press("Tab");
  assert.equal(await focused(tab), "Dismiss: one");
  await tab.keyboard.press("Escape");
  assert.deepEqual(await banners(tab), ["two"]);
  assert.equal(await focused(tab), "Dismiss: two");
  await expectBell(tab, 1);
  await tab.keyboard.press("Enter");
  assert.deepEqual(await banners(tab), []);
  assert.equal(await focused(tab), "Notifications");
  assert.deepEqual(await behindBell(tab), ["four", "three", "two", "one"]);
});

it("a banner with the focus keeps its place, and the focus is not lost when it is taken back", async (t) => {
  const tab = await openTab(t);
  const id = fresh();
  publish({ id, body: "in hand", severity: "info" });
  await shows(tab, "#banners .notice-body", "in hand");
  await tab.getByRole("button", { name: "Dismiss: in hand" }).focus();
  for (const body of ["one", "two", "three"]) publish({ id: fresh(), body, severity: "warning" });
  await settled(tab);
  assert.deepEqual(await banners(tab), ["three", "two", "in hand"]);
  assert.equal(await focused(tab), "Dismiss: in hand");
  retract(id);
  await settled(tab);
  assert.deepEqual(await banners(tab), ["three", "two"]);
  assert.equal(await focused(tab), "Notifications, 3 unseen");
});

it("the bell counts what is unseen, and opens and closes by keyboard and by mouse", async (t) => {
  const tab = await openTab(t);
  const [bell, panel] = [tab.locator("#bell"), tab.locator("#panel")];
  await expectBell(tab, 0);
  await bell.focus();
  await tab.keyboard.press("Enter");
  await shows(tab, "#panel", "No notifications yet.");
  publish({ id: fresh(), body: "seen at once" });
  await settled(tab);
  await expectBell(tab, 0);
  await tab.keyboard.press("Escape");
  assert.equal(await panel.isVisible(), false);
  assert.equal(await bell.getAttribute("aria-expanded"), "false");

  publish({ id: fresh(), body: "unseen" });
  await settled(tab);
  await expectBell(tab, 1);
  await bell.click();
  await expectBell(tab, 0);
  assert.equal(await bell.getAttribute("aria-expanded"), "true");
  assert.equal(await panel.getByText("No notifications yet.").isVisible(), false);
  assert.deepEqual(await behindBell(tab), ["unseen", "seen at once"]);
  const age = Date.now() - Date.parse(await panel.locator("time").first().getAttribute("datetime"));
  assert.ok(age >= 0 && age < 60_000, `shown ${age} ms ago`);
  // Into the panel and out of it.
  await tab.keyboard.press("Tab");
  assert.equal(await focused(tab), "Last notifications");
  await tab.keyboard.press("Escape");
  assert.equal(await panel.isVisible(), false);
  assert.equal(await focused(tab), "Notifications");
  await bell.click();
  await panel.waitFor();
  await tab.locator("#log").click();
  assert.equal(await panel.isVisible(), false);
});

it("what was dismissed does not come back with a reload, and the rest does", async (t) => {
  const tab = await openTab(t);
  const payloads = ["dismissed", "left alone"].map((body) => ({ id: fresh(), body, severity: "critical" }));
  for (const payload of payloads) publish(payload);
  await settled(tab);
  await tab.getByRole("button", { name: "Dismiss: dismissed" }).click();
  await tab.reload();
  await shows(tab, "#state", /^Connected$/);
  for (const payload of payloads) publish(payload);
  await settled(tab);
  assert.deepEqual(await banners(tab), ["left alone"]);
  assert.deepEqual(await behindBell(tab), ["left alone", "dismissed"]);
  await expectBell(tab, 1);
});

it("a storage that holds something else keeps nothing from being shown", async (t) => {
  const id = fresh();
  const entry = { id, at: Date.now(), title: 5, body: { a: 1 }, link: "javascript:alert(1)", severity: "loud", keys: 7 };
  for (const stored of [
    "", "null", "5", '"text"', "[]", "{", '{"no":"list"}', '{"ids":5,"entries":5}', '{"ids":[5],"entries":[null]}',
    '{"ids":[[{},"x"],["__proto__",15],["a",1e99]],"entries":[[],{"at":"x"},{"at":1},{"at":null,"id":"a"}]}',
    JSON.stringify({ ids: [], entries: [entry] }), "x".repeat(100_000),
  ]) {
    const prepare = `sessionStorage.setItem("hailer:notices:", ${JSON.stringify(stored)})`;
    const tab = await openTab(t, { prepare });
    publish({ id: fresh(), body: "shown", severity: "critical" });
    await shows(tab, "#banners .notice-body", /^shown$/);
    assert.equal(await tab.locator("#panel :is(a, img, script)").count(), 0);
  }
});

const HOSTILE = [
  `<img src=x onerror="document.title='owned'">`,
  `<script>document.title='owned'</script>`,
  `"><svg onload=document.title='owned'>`,
  `</p></section><style>*{display:none}</style>`,
  `javascript:document.title='owned'`,
  "{{constructor.constructor('document.title=1')()}}",
  "\u202egnp.exe\u0000",
];

it("markup in a title or body is shown as the text it is", async (t) => {
  const tab = await openTab(t);
  for (const text of HOSTILE) {
    publish({ id: text, title: text, body: text, link: text, severity: "critical" });
    await settled(tab);
    const banner = tab.locator("#banners .notice").first();
    const read = (className) => banner.locator(className).evaluate((element) => element.textContent);
    assert.equal(await read(".notice-title"), text);
    assert.equal(await read(".notice-body"), text);
    assert.equal(await banner.locator("a").count(), 0);
  }
  assert.equal(await tab.locator(":is(#banners, #panel) :is(img, script, svg, style)").count(), 0);
  assert.equal(await tab.title(), "Hailer: room:lobby");
});

it("only links to pages of http, and to paths of this server, are links", async (t) => {
  const tab = await openTab(t);
  const hrefOf = async (link) => {
    publish({ id: fresh(), body: "link", link });
    await settled(tab);
    const links = tab.locator("#banners .notice").first().locator("a");
    if ((await links.count()) === 0) return null;
    assert.match(await links.getAttribute("rel"), /\bnoopener\b/);
    return links.evaluate(({ href, target }) => [href, target]);
  };
  for (const [link, href, target] of [
    ["https://example.com/a?b=c#d", "https://example.com/a?b=c#d", "_blank"],
    ["HTTP://EXAMPLE.com", "http://example.com/", "_blank"],
    ["/orders/42?x=//y", `${server.url}/orders/42?x=//y`, ""],
    ["/", `${server.url}/`, ""],
    [`/"onclick="document.title=1`, `${server.url}/%22onclick=%22document.title=1`, ""],
  ]) {
    assert.deepEqual(await hrefOf(link), [href, target], link);
  }
  for (const link of [
    "javascript:alert(1)", "JaVaScRiPt://example.com/%0aalert(1)", "java\nscript:alert(1)", " javascript:alert(1)",
    "data:text/html,<script>1</script>", "vbscript:x", "file:///etc/passwd", "blob:http://example.com/x",
    "//example.com", "/\\example.com", "\\\\example.com", "/\t/example.com", "/\n/example.com", "\t//example.com",
    "https:example.com", "http:/example.com", "https://", "ftp://example.com", "example.com", "#here", "?q", "..", "", 5,
    { href: "https://example.com" }, ["https://example.com"], null,
  ]) {
    assert.equal(await hrefOf(link), null, JSON.stringify(link));
  }
});

it("payloads of any other shape do no harm", async (t) => {
  const tab = await openTab(t);
  const payloads = [
    { severity: "loud", body: "an unknown severity" },
    { severity: "__proto__", body: "a name of every object" },
    { severity: ["critical"], body: "a list" },
    { id: { toString: 1 }, title: 5, body: { a: [1] } },
    { id: "__proto__", title: "only a title" },
    { id: "" },
    null, [], 5, "text", [null],
  ];
  for (const payload of payloads) publish(payload);
  for (const payload of ["null", "5", "{}", '{"id":{"a":1}}', '{"id":"__proto__x"}']) {
    server.tell(`broadcast ${LOBBY} retract ${payload}`);
  }
  await settled(tab);
  const expected = ['{"a":[1]}', "a list", "a name of every object", "an unknown severity"];
  assert.deepEqual(await behindBell(tab), expected);
  assert.equal(await tab.locator("#panel .notice").count(), 6);
  assert.equal(await tab.locator("#panel .notice-info").count(), 6);
});

it("the module works without a storage, and says what is new", async (t) => {
  const tab = await openTab(t);
  const said = await tab.evaluate(async () => {
    const { Notices, isNotification } = await import("/notices.js");
    const make = (name) => document.body.appendChild(document.createElement(name));
    const notices = new Notices({ banners: make("div"), bell: make("button"), panel: make("div") });
    const said = [notices.add({ id: "a", body: "1" }), notices.add({ id: "a", body: "2" }), notices.add({ body: "3" })];
    said.push(notices.unseen);
    notices.dismiss("a");
    notices.dismiss("unknown");
    said.push(notices.unseen, notices.add({ id: "a" }));
    notices.retract("a");
    return [...said, notices.unseen, isNotification({ body: "x" }), isNotification({ id: 0 }), isNotification(undefined)];
  });
  assert.deepEqual(said, [true, false, true, 2, 1, false, 1, false, true, false]);
});

/** A tab of a user, with all that a back end can do. */
const openTabOfUser = async (t, user) =>
  openTabOf(t, browser, { url: `${users.url}/#token=${await mint(user)}` });

/** Has a back end publish a notification: its id. */
const send = async (target, payload, options) =>
  (await call(users, "publish", { ...target, event: "new_msg", payload, ...options })).id;

it("a notification to one user is shown to that user alone", async (t) => {
  const [alice, bob] = [await openTabOfUser(t, "alice"), await openTabOfUser(t, "bob")];
  const id = await send({ user: "alice" }, { title: "Your order", body: "is on its way" }, { with_id: true });
  await send({ topic: LOBBY }, { body: "all have this" });
  for (const tab of [alice, bob]) await expectLine(tab, "all have this");
  await shows(alice, "#banners .notice-title", /^Your order$/);
  assert.deepEqual(await banners(bob), []);
  await call(users, "retract", { id });
  await alice.locator("#banners .notice").waitFor({ state: "detached" });
});

it("what a back end publishes is shown on both transports, and later joiners get it until it is taken back", async (t) => {
  const publish = (body) => send({ topic: LOBBY }, { body, severity: "critical" }, { expires_in: 600 });
  const [alice, bob] = [await openTabOfUser(t, "alice"), await openTabOfUser(t, "bob")];
  await bob.locator("#choice").selectOption("longpoll");
  await shows(bob, "#transport", "Long-poll");

  const ids = [];
  for (const body of ["first", "withdrawn", "third"]) ids.push(await publish(body));
  for (const tab of [alice, bob]) {
    await shows(tab, "#banners .notice-body", /^third$/);
    assert.deepEqual(await banners(tab), ["third", "withdrawn", "first"]);
  }
  await call(users, "retract", { id: ids[1] });
  await alice.getByRole("button", { name: "Dismiss: first" }).click();
  for (const tab of [alice, bob]) await tab.getByText("withdrawn").first().waitFor({ state: "detached" });
  assert.deepEqual([await banners(alice), await banners(bob)], [["third"], ["third", "first"]]);

  // Whoever was away, whoever comes for the first time, and whoever has begun anew.
  const carol = await openTabOfUser(t, "carol");
  await call(users, "disconnect", { user: "bob" });
  await alice.reload();
  ids.push(await publish("fourth"));
  for (const [tab, expected] of [
    [alice, ["fourth", "third"]],
    [bob, ["fourth", "third", "first"]],
    [carol, ["fourth", "third", "first"]],
  ]) {
    await shows(tab, "#banners .notice-body", /^fourth$/);
    assert.deepEqual(await banners(tab), expected);
    assert.deepEqual(await behindBell(tab), ["fourth", "third", "first"]);
  }
  for (const id of ids) await call(users, "retract", { id });
  for (const tab of [alice, bob, carol]) {
    await tab.waitForFunction(() => document.querySelector(".notice") === null);
    await expectBell(tab, 0);
  }
});

/** One of each severity, with all that a notification may have. */
function publishAll() {
  const link = "https://example.com/status";
  publish({ id: fresh(), body: "We are back.", severity: "info" });
  publish({ id: fresh(), title: "Maintenance at six", body: "It takes ten minutes.", severity: "warning", link });
  publish({ id: fresh(), title: "Payments fail", body: "We are working on it.", severity: "critical", link });
}

async function expectAccessible(tab, what) {
  await tab.evaluate(axe);
  const found = await tab.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations", "incomplete"] }));
  // That a colour behind text could not be made out is for people to look at; all else is for this test.
  const wrong = found.violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)]);
  assert.deepEqual(wrong, [], what);
  assert.ok(found.passes.some(({ id }) => id === "color-contrast"), "contrast was looked at");
}

for (const colorScheme of ["light", "dark"]) {
  for (const [name, device] of [["a desk", { viewport: { width: 900, height: 700 } }], ["a phone", PHONE]]) {
    it(`axe finds nothing to complain of, in ${colorScheme} colours on ${name}`, async (t) => {
      const tab = await openTab(t, { colorScheme, ...device });
      await expectAccessible(tab, "nothing has come");
      publishAll();
      await settled(tab);
      await expectAccessible(tab, "three banners");
      await tab.locator("#bell").click();
      await tab.locator("#panel").waitFor();
      await expectAccessible(tab, "the bell is open");
    });
  }
}

it("a narrow phone needs no sideways scrolling, and banners leave room for the rest", async (t) => {
  const tab = await openTab(t, PHONE);
  for (let n = 0; n < 8; n++) {
    const text = "wide".repeat(40);
    publish({ id: fresh(), title: text, body: text, link: `https://${"long".repeat(12)}.example`, severity: "critical" });
  }
  await settled(tab);
  const size = () =>
    tab.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.scrollHeight]);
  assert.deepEqual(await size(), [320, 560]);
  for (const selector of ["#message", "#send", "#choice"]) assert.ok(await inSight(tab, selector), selector);
  assert.ok((await tab.locator("#log").boundingBox()).height >= 40);
  // A finger finds the button.
  const { width, height } = await tab.locator("#banners .notice-dismiss").first().boundingBox();
  assert.ok(width >= 44 && height >= 44, `${width} × ${height}`);
  await tab.locator("#banners .notice-dismiss").first().tap();
  assert.equal((await banners(tab)).length, 7);
  await tab.locator("#bell").tap();
  assert.deepEqual(await size(), [320, 560]);
  const panel = await tab.locator("#panel").boundingBox();
  assert.ok(panel.x >= 0 && panel.x + panel.width <= 320 && panel.y + panel.height <= 560, JSON.stringify(panel));
  assert.equal(await tab.locator("#panel").evaluate((e) => e.scrollWidth > e.clientWidth), false);
});

async function inSight(tab, selector) {
  const { y, height } = await tab.locator(selector).boundingBox();
  return y >= 0 && y + height <= tab.viewportSize().height;
}

it("a picture of notifications is taken", async (t) => {
  const tab = await openTab(t, { viewport: { width: 760, height: 680 }, deviceScaleFactor: 2 });
  publishAll();
  await tab.locator("#banners .notice").nth(2).waitFor();
  const picture = path("../out/notifications.png");
  await mkdir(path("../out"), { recursive: true });
  await tab.screenshot({ path: picture });
  if (process.env.UPDATE_SCREENSHOT === "1") await copyFile(picture, path("../../docs/notifications.png"));
});
