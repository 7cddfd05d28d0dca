// The back office in a real browser, with the demo page's customers beside it, against the real server.

import assert from "node:assert/strict";
import { copyFile, mkdir, readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { once } from "node:events";
import { after, before, it } from "node:test";
import { SECRETS, Server, deadline } from "../js/harness.js";
import { launch, openTab, path, shows } from "./tabs.mjs";

const axe = await readFile(createRequire(new URL("../js/package.json", import.meta.url)).resolve("axe-core/axe.min.js"), "utf8");

const PHONE = { width: 360, height: 640 };
const DESK = { width: 1000, height: 800 };
const MARKUP = `'"><script>document.title="owned"</script><img src=x onerror="document.title='owned'">`;

let browser;
let server;
/** Where the back office is. */
let office;
/** The cookies of somebody who has signed in. */
let signedIn;

before(async () => {
  browser = await launch();
  server = await Server.start("hailer", { args: ["--api-listen", "127.0.0.1:0"] });
  const line = await server.said.take("where the back office is", (line) => line.startsWith("Back office at "));
  const [, origin, link] = /(http:\/\/127\.0\.0\.1:\d+)(\/admin\/welcome#\S+)/.exec(line);
  office = origin;
  // The first is here by the link, and the others have its cookie.
  const context = await browser.newContext();
  const tab = await context.newPage();
  await tab.goto(`${office}${link}`);
  await tab.waitForFunction(() => location.hash === "" && document.getElementById("token").value.length === 43);
  await tab.getByRole("button", { name: "Sign in" }).press("Enter");
  await heading(tab, "Compose");
  signedIn = await context.storageState();
  const [cookie] = signedIn.cookies;
  assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite, cookie.path], ["hailer", true, "Strict", "/"]);
  SECRETS.add(cookie.value);

  await tab.goto("about:blank");
  await tab.goto(`${office}${link}`);
  await tab.getByRole("button", { name: "Sign in" }).click();
  await tab.getByRole("alert").getByText("not good any more").waitFor();
  await context.close();
});
after(async () => {
  await browser?.close();
  await server?.kill();
});

const heading = (tab, name) => tab.getByRole("heading", { level: 1, name, exact: true }).waitFor();

/** A tab of the back office; the test fails if it complains, save of what `expected` matches. */
async function openOffice(t, address = "/admin/compose", { expected = /^$/, state = signedIn, ...options } = {}) {
  const context = await browser.newContext({ locale: "en-GB", viewport: DESK, storageState: state, ...options });
  const tab = await context.newPage();
  tab.setDefaultTimeout(20_000);
  const complaints = [];
  tab.on("pageerror", (error) => complaints.push(String(error)));
  tab.on("dialog", (dialog) => complaints.push(dialog.message()));
  tab.on("console", (line) => ["error", "warning"].includes(line.type()) && complaints.push(line.text()));
  t.after(async () => {
    await context.close();
    // Whoever goes on at once leaves a page before its socket is open.
    const hasty = /^WebSocket connection to .* failed: WebSocket is closed before the connection is established/;
    assert.deepEqual(complaints.filter((text) => !expected.test(text) && !hasty.test(text)), []);
  });
  await tab.goto(`${office}${address}`);
  return tab;
}

/** Writes into the form by keyboard, and goes on to the preview. */
async function compose(tab, fields) {
  await tab.goto(`${office}/admin/compose`);
  for (const [label, text] of Object.entries(fields)) {
    await tab.getByLabel(label, { exact: false }).first().focus();
    await tab.keyboard.insertText(text);
  }
  await tab.getByRole("button", { name: "Preview" }).press("Enter");
  await heading(tab, "Preview");
}

async function send(tab, fields) {
  await compose(tab, fields);
  await tab.getByRole("button", { name: "Send it now" }).press("Enter");
  await heading(tab, "Message");
  return new URL(tab.url()).pathname.split("/").at(-1);
}

const customer = (t, hash) => openTab(t, browser, { url: `${server.url}/#${hash}` });
const banner = (tab) => tab.locator("#banners .notice-body");

const figure = (tab, name, value) => shows(tab, `#delivery #${name}`, new RegExp(`^${value}$`));

it("a message is written, previewed, sent, received by two of two, and taken back", async (t) => {
  const customers = [await customer(t, "websocket"), await customer(t, "longpoll")];
  const tab = await openOffice(t);
  await shows(tab, "#live", /^Live$/);
  await shows(tab, "#online-websocket", /^1$/);
  await shows(tab, "#online-longpoll", /^1$/);
  await compose(tab, { "Title": "Sale", "Message": "Half price today", "Link": "https://example.com/sale" });
  await shows(tab, ".notice-info .notice-body", /^Half price today$/);
  await shows(tab, ".audience", "2 recipients");
  const markup = (one, selector) =>
    one.locator(selector).evaluate((notice) => {
      const copy = notice.cloneNode(true);
      for (const own of copy.querySelectorAll(".notice-time, .notice-dismiss")) own.remove();
      // The order of attributes means nothing.
      return [...copy.querySelectorAll("*"), copy].map((element) => {
        const attributes = [...element.attributes].map(({ name, value }) => `${name}=${value}`).sort();
        return [element.localName, ...attributes, element.textContent].join(" ");
      });
    });
  const previewed = await markup(tab, ".stage .notice");
  await tab.getByRole("button", { name: "Send it now" }).press("Enter");
  await heading(tab, "Message");
  for (const one of customers) {
    await shows(one, "#banners .notice-title", /Sale$/);
    await shows(one, "#banners .notice-body", /^Half price today$/);
    assert.deepEqual(await markup(one, "#banners .notice"), previewed, "the preview is what customers see");
  }
  for (const [name, value] of [["addressed", 2], ["written", 2], ["received", 2], ["behind", 0], ["gone", 0]]) {
    await figure(tab, name, value);
  }
  await shows(tab, "#summary", "Written to 2 of 2, received by 2.");
  await tab.locator("#chart svg[role=img] polyline.received[points*=' ']").waitFor({ state: "attached" });
  await tab.locator("#refresh").waitFor({ state: "hidden" });
  await tab.getByRole("button", { name: "Retract it" }).press("Enter");
  await shows(tab, ".badge", /^retracted$/);
  for (const one of customers) await banner(one).waitFor({ state: "detached" });
});

it("without its script every page works and says how far a message has got", async (t) => {
  await customer(t, "websocket");
  const tab = await openOffice(t, "/admin/compose", { javaScriptEnabled: false });
  await send(tab, { "Message": "no script here" });
  const refreshed = async () => {
    while ((await tab.locator("#delivery #received").textContent()) !== "1") {
      await tab.getByRole("link", { name: "Refresh the figures" }).press("Enter");
      await tab.waitForLoadState();
    }
  };
  await deadline(refreshed(), "the figures say that one customer has it");
  await tab.getByRole("link", { name: "Messages" }).click();
  await tab.getByLabel("Text").fill("no script");
  await tab.keyboard.press("Enter");
  await tab.getByRole("link", { name: "no script here" }).waitFor();
});

it("one customer is put off the line, and that one alone", async (t) => {
  const [goes, stays] = [await customer(t, "websocket"), await customer(t, "longpoll")];
  const tab = await openOffice(t, "/admin/connections?transport=websocket");
  await tab.getByRole("link", { name: /^Disconnect this connection/ }).click();
  await heading(tab, "Disconnect");
  await tab.getByRole("button", { name: "Disconnect: stay away" }).press("Enter");
  await shows(tab, "[role=status]", "1 connection is closed.");
  await shows(goes, "#state", /^Offline$/);
  await send(tab, { "Message": "to whom is left" });
  await shows(stays, "#banners .notice-body", /^to whom is left$/);
  assert.equal(await stays.locator("#state").textContent(), "Connected");
  assert.equal(await banner(goes).count(), 0);
});

it("a message waits for its time in the browser's own zone, and is cancelled", async (t) => {
  const tab = await openOffice(t, "/admin/compose", { timezoneId: "Asia/Tokyo" });
  const tomorrow = new Date(Date.now() + 24 * 60 * 60_000).toISOString().slice(0, 10);
  await tab.getByLabel("Message").fill("good morning");
  assert.equal(await tab.getByLabel("Date and time").isVisible(), false, "it is there when it is chosen");
  await tab.getByLabel("Later").check();
  await shows(tab, "#zone", "(Asia/Tokyo)");
  await tab.getByLabel("Date and time").fill(`${tomorrow}T09:30`);
  await tab.getByRole("button", { name: "Preview" }).press("Enter");
  await heading(tab, "Preview");
  assert.equal(await tab.locator("main time").getAttribute("datetime"), `${tomorrow}T00:30:00.000Z`);
  await shows(tab, "main time", /09:30:00$/);
  await tab.getByRole("button", { name: "Go on writing" }).press("Enter");
  await heading(tab, "Compose");
  assert.equal(await tab.getByLabel("Date and time").inputValue(), `${tomorrow}T09:30`);
  await tab.getByRole("button", { name: "Preview" }).press("Enter");
  await tab.getByRole("button", { name: "Schedule it" }).press("Enter");
  await heading(tab, "Message");
  await tab.getByRole("link", { name: "Scheduled", exact: true }).click();
  await tab.getByRole("link", { name: "good morning" }).click();
  await tab.getByRole("button", { name: "Cancel it" }).press("Enter");
  await shows(tab, ".badge", /^cancelled$/);
});

it("who repeats a message sees it before it goes", async (t) => {
  const one = await customer(t, "websocket");
  const tab = await openOffice(t);
  const first = await send(tab, { "Message": "once more" });
  await tab.getByRole("link", { name: "Send it again…" }).press("Enter");
  await heading(tab, "Preview");
  await tab.getByRole("button", { name: "Send it now" }).dblclick();
  await heading(tab, "Message");
  await tab.waitForURL((url) => !url.pathname.endsWith(first));
  await one.waitForFunction(() => document.querySelectorAll("#banners .notice-body").length === 2);
  await tab.goto(`${office}/admin/messages?text=once+more`);
  assert.equal(await tab.locator(".list li").count(), 2, "a double click sends once");
});

it("markup stays text wherever it is shown", async (t) => {
  const tab = await openOffice(t);
  await compose(tab, { "Title": MARKUP, "Message": MARKUP });
  const check = async () => {
    assert.equal(await tab.locator("main :is(script, img)").count(), 0);
    assert.doesNotMatch(await tab.title(), /owned/);
    assert.ok((await tab.locator("main").textContent()).includes(MARKUP));
  };
  await check();
  await tab.getByRole("button", { name: "Send it now" }).press("Enter");
  await heading(tab, "Message");
  await check();
  await tab.goto(`${office}/admin/messages`);
  await check();
});

/** A page of another origin on the same machine, which browsers count as the same site: cookies come along. */
async function elsewhere(t, body) {
  const other = createServer((_, response) => response.setHeader("content-type", "text/html").end(body));
  await once(other.listen(0, "127.0.0.1"), "listening");
  t.after(() => other.close());
  return `http://127.0.0.1:${other.address().port}/`;
}

it("a form of another origin does nothing", async (t) => {
  const tab = await openOffice(t, "/admin/compose", { expected: /403|^Blocked|frame/ });
  const csrf = await tab.locator("main input[name=csrf]").getAttribute("value");
  SECRETS.add(csrf);
  // Even with a token that was stolen.
  const fields = { csrf, to: "everyone", severity: "info", when: "now", body: "forged", nonce: "abcdef" };
  const inputs = Object.entries(fields).map(([name, value]) => `<input name="${name}" value="${value}">`);
  const url = await elsewhere(
    t,
    `<title>x</title><form method="post" action="${office}/admin/compose/send">${inputs.join("")}</form><button onclick="document.forms[0].submit()">go</button>`,
  );
  await tab.goto(url);
  const [request] = await Promise.all([
    tab.waitForRequest(`${office}/admin/compose/send`),
    tab.getByRole("button", { name: "go" }).click(),
  ]);
  assert.match((await request.allHeaders()).cookie ?? "", /hailer=/, "the browser has sent the cookie");
  await heading(tab, "That is not allowed");
  await tab.goto(`${office}/admin/messages?text=forged`);
  await tab.getByText("There are no such messages.").waitFor();
});

it("the pages can't be framed, nor their sockets opened from another origin", async (t) => {
  const url = await elsewhere(t, `<title>x</title><iframe src="${office}/admin/compose"></iframe>`);
  const tab = await openOffice(t, "/admin/compose", { expected: /frame|WebSocket|refused/i });
  await tab.goto(url);
  // The browser puts a page of its own into the frame.
  assert.deepEqual(tab.frames().map((frame) => new URL(frame.url()).protocol), ["http:", "chrome-error:"]);
  const outcome = await tab.evaluate(
    (address) =>
      new Promise((resolve) => {
        const socket = new WebSocket(address);
        socket.onopen = () => resolve("open");
        socket.onclose = () => resolve("closed");
      }),
    `${office.replace("http", "ws")}/admin/socket/websocket?vsn=2.0.0`,
  );
  assert.equal(outcome, "closed");
});

it("guessing is held up", async (t) => {
  const tab = await openOffice(t, "/admin/sign-in", { expected: /422|429/, state: undefined });
  for (let n = 0; n < 5; n++) {
    await tab.getByLabel("Name").fill("nobody");
    await tab.getByLabel("Password").fill(`guess ${n}`);
    await tab.getByRole("button", { name: "Sign in" }).press("Enter");
    await tab.getByRole("alert").getByText("The name or the password is wrong.").waitFor();
    await tab.waitForFunction(() => document.getElementById("password").value === "");
  }
  await tab.getByLabel("Name").fill("nobody");
  await tab.getByLabel("Password").fill("right");
  await tab.getByRole("button", { name: "Sign in" }).press("Enter");
  await heading(tab, "Please wait");
  await tab.getByText("You can try again in 60 seconds.").waitFor();
});

/** Every page, with what it needs to be looked at. */
async function pages(tab) {
  const id = await send(tab, { "Title": "Look", "Message": "how it looks ".repeat(20) });
  return [
    "/admin/compose",
    "/admin/messages",
    "/admin/messages?state=scheduled",
    `/admin/messages/${id}`,
    `/admin/messages/${id}/resend`,
    "/admin/connections",
    "/admin/connections/disconnect?who=user&id=ada",
    "/admin/audit",
    "/admin/account",
    "/admin/nothing",
  ];
}

async function expectAccessible(tab, what) {
  await tab.evaluate(axe);
  const found = await tab.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const wrong = found.violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)]);
  assert.deepEqual(wrong, [], what);
  assert.ok(found.passes.some(({ id }) => id === "color-contrast"), "contrast was looked at");
}

for (const colorScheme of ["light", "dark"]) {
  it(`axe finds nothing to complain of in ${colorScheme} colours, and a phone needs no sideways scrolling`, async (t) => {
    await customer(t, "websocket");
    const tab = await openOffice(t, "/admin/compose", { colorScheme, expected: /404|422/ });
    const check = async (what) => {
      for (const viewport of [DESK, PHONE]) {
        await tab.setViewportSize(viewport);
        await expectAccessible(tab, `${what} at ${viewport.width}`);
        const width = await tab.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(width <= viewport.width, `${what} is ${width} wide at ${viewport.width}`);
      }
    };
    for (const address of await pages(tab)) {
      await tab.goto(`${office}${address}`);
      await check(address);
    }
    await tab.goto(`${office}/admin/compose`);
    await tab.getByLabel("Message").fill("x");
    await tab.getByLabel("Link").fill("nowhere");
    await tab.getByRole("button", { name: "Preview" }).click();
    await tab.getByRole("alert").getByText("A link begins with").waitFor();
    await check("what is wrong");
    const outside = await openOffice(t, "/admin/sign-in", { colorScheme, state: undefined });
    await expectAccessible(outside, "sign-in");
    await outside.goto(`${office}/admin/welcome`);
    await expectAccessible(outside, "welcome");
  });
}

it("the audit log tells it all, and is exported", async (t) => {
  const tab = await openOffice(t, "/admin/audit");
  const actions = await tab.locator("tbody tr td:nth-child(3)").allTextContents();
  const expected = ["sign_in", "sign_in_refused", "locked", "publish", "published", "scheduled", "cancel", "retract", "disconnect"];
  for (const action of expected) assert.ok(actions.includes(action), action);
  const [download] = await Promise.all([
    tab.waitForEvent("download"),
    tab.getByRole("button", { name: "Export what matches as CSV" }).press("Enter"),
  ]);
  assert.equal(download.suggestedFilename(), "hailer-audit.csv");
  const csv = await readFile(await download.path(), "utf8");
  assert.match(csv, /^number,at,actor,action,subject,detail,address\n\d+,\S+Z,staff:demo,export,/);
  assert.ok(!csv.includes("Half price"), "what was written is not in the log");
});

it("pictures of the back office are taken", async (t) => {
  await mkdir(path("../out"), { recursive: true });
  const customers = [await customer(t, "websocket"), await customer(t, "longpoll")];
  const tab = await openOffice(t, "/admin/compose", { viewport: { width: 900, height: 900 }, deviceScaleFactor: 2 });
  const keep = async (name) => {
    await tab.screenshot({ path: path(`../out/${name}`) });
    if (process.env.UPDATE_SCREENSHOT === "1") await copyFile(path(`../out/${name}`), path(`../../docs/${name}`));
  };
  await tab.getByLabel("Title").fill("Maintenance at six");
  await tab.getByLabel("Message").fill("Orders can't be placed for ten minutes. What is in your basket stays there.");
  await tab.getByLabel("Warning").check();
  await shows(tab, "#online-topics", /^\d+$/);
  await keep("back-office-compose.png");
  await tab.getByRole("button", { name: "Preview" }).click();
  await tab.getByRole("button", { name: "Send it now" }).click();
  await figure(tab, "received", 2);
  for (const one of customers) await shows(one, "#banners .notice-title", /Maintenance at six$/);
  await keep("back-office-message.png");
});

it("a session that is signed out is over in every tab, and its cookie with it", async (t) => {
  const [tab, other] = [await openOffice(t), await openOffice(t)];
  await shows(other, "#live", /^Live$/);
  await tab.getByRole("button", { name: "Sign out" }).press("Enter");
  await heading(tab, "Sign in");
  await shows(other, "#live", /^Not live: sign in again$/);
  // A cookie that was copied before.
  const stolen = await openOffice(t, "/admin/audit");
  await heading(stolen, "Sign in");
});
