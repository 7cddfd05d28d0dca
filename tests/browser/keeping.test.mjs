// What staff have written in the back office is not lost: with their session, a closed tab, or a restart of the server.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, it } from "node:test";
import { SECRETS, Server, deadline } from "../js/harness.js";
import { launch, path, shows } from "./tabs.mjs";

const axe = await readFile(createRequire(new URL("../js/package.json", import.meta.url)).resolve("axe-core/axe.min.js"), "utf8");

const PASSWORD = "M4rked correct horse";
/** What is written; no server may print it. */
const [TITLE, BODY] = ["M4rked tea & cake", "M4rked first line\n<second>"];
for (const secret of [PASSWORD, TITLE, BODY.split("\n")[0]]) SECRETS.add(secret);

const folder = mkdtempSync(join(tmpdir(), "hailer-keeping-"));
const config = (name, rest = "") => `log_level = "trace"\n[store]\npath = "${join(folder, name)}.db"\n${rest}`;
const CONFIGS = { long: config("long"), short: config("short", '[admin]\nsession_idle = "4s"\n') };

let browser;
/** Servers with sessions as they are by default, and with some that end after 4 seconds without a request. */
const servers = {};

before(async () => {
  for (const [name, text] of Object.entries(CONFIGS)) {
    const file = join(folder, `${name}.toml`);
    writeFileSync(file, text, { mode: 0o600 });
    const program = process.env.HAILER_BIN ?? path("../../target/debug/hailer");
    for (const account of ["ada", "grace"]) {
      const args = ["staff", "add", account, "--config", file];
      execFileSync(program, args, { input: `${PASSWORD}\n`, stdio: ["pipe", "pipe", "inherit"] });
    }
    servers[name] = await Server.start("hailer", { config: text, api: true });
  }
  browser = await launch();
});
after(async () => {
  await browser?.close();
  for (const server of Object.values(servers)) await server.kill();
  rmSync(folder, { recursive: true, force: true });
});

const heading = (tab, name) => tab.getByRole("heading", { level: 1, name, exact: true }).waitFor();

async function signIn(tab, name = "ada") {
  await heading(tab, "Sign in");
  await tab.getByLabel("Name").fill(name);
  await tab.getByLabel("Password").fill(PASSWORD);
  await tab.keyboard.press("Enter");
  await heading(tab, "Compose");
}

/** A tab of somebody who has signed in to the server of this name. */
async function open(t, name, options = {}) {
  const context = await browser.newContext({ locale: "en-GB", ...options });
  t.after(() => context.close());
  const tab = await context.newPage();
  tab.setDefaultTimeout(20_000);
  tab.on("framenavigated", (frame) => assert.ok(!/M4rked/.test(decodeURIComponent(frame.url())), "no text in an address"));
  await tab.goto(`${servers[name].api}/admin/compose`);
  await signIn(tab);
  return tab;
}

/** Writes a message to one user. */
async function write(tab, { user = "42" } = {}) {
  await tab.getByLabel("One user").check();
  await tab.getByLabel("User", { exact: true }).fill(user);
  await tab.getByLabel("Title").fill(TITLE);
  await tab.getByLabel("Message").fill(BODY);
}

/** The form has all of it. */
async function expectWritten(tab, { user = "42" } = {}) {
  await heading(tab, "Compose");
  await tab.waitForFunction((title) => document.getElementById("title").value === title, TITLE);
  const values = await tab.evaluate(() => {
    const { title, body, user, to } = document.querySelector("form.compose").elements;
    return [title.value, body.value, user.value, to.value];
  });
  assert.deepEqual(values, [TITLE, BODY, user, "user"]);
}

/** Waits for the session's end, which asking does not put off. */
async function ended(tab) {
  const over = async () => {
    while ((await (await tab.context().request.get(`${new URL(tab.url()).origin}/admin/session`)).json()).account !== null);
  };
  await deadline(over(), "the session ends");
}

const sent = async (tab) => {
  await tab.goto(`${new URL(tab.url()).origin}/admin/messages`);
  return tab.locator(".list li").count();
};

for (const javaScriptEnabled of [false, true]) {
  const how = javaScriptEnabled ? "with scripts" : "without scripts";

  it(`a text is not lost when the session ends while it is written or previewed, ${how}`, async (t) => {
    const tab = await open(t, "short", { javaScriptEnabled });
    const before = await sent(tab);
    await tab.goto(`${servers.short.api}/admin/compose`);
    await write(tab);
    await ended(tab);
    await tab.getByRole("button", { name: "Preview" }).press("Enter");
    await tab.getByRole("alert").getByText("sign in as ada").waitFor();
    assert.equal(await tab.getByLabel("Name").inputValue(), "ada");
    await signIn(tab);
    const check = javaScriptEnabled
      ? () => expectWritten(tab)
      : async () => {
          assert.equal(await tab.getByLabel("Title").inputValue(), TITLE);
          assert.equal(await tab.getByLabel("Message").inputValue(), BODY);
          assert.equal(await tab.getByLabel("User", { exact: true }).inputValue(), "42");
          assert.ok(await tab.getByLabel("One user").isChecked());
        };
    await check();
    await tab.getByRole("status").getByText("Nothing is lost").waitFor();
    await tab.getByRole("button", { name: "Preview" }).press("Enter");
    await heading(tab, "Preview");
    await ended(tab);
    await tab.getByRole("button", { name: "Send it now" }).press("Enter");
    await signIn(tab);
    await check();
    assert.equal(await sent(tab), before, "nothing was sent by itself");
  });
}

it("another account that signs in does not get the text of the first", async (t) => {
  const tab = await open(t, "short");
  await write(tab);
  await ended(tab);
  await tab.getByRole("button", { name: "Preview" }).press("Enter");
  await signIn(tab, "grace");
  const check = async () => {
    assert.equal(await tab.getByLabel("Title").inputValue(), "");
    assert.doesNotMatch(await tab.content(), /M4rked/);
  };
  await check();
  await tab.goto(`${servers.short.api}/admin/compose?restored=1`);
  await check();
  // The other account's draft is still its own.
  await ended(tab);
  await tab.reload();
  await signIn(tab, "ada");
  await tab.getByRole("button", { name: "Go on with it" }).click();
  await expectWritten(tab);
});

it("a restart between writing and the preview loses nothing, and the page says to sign in again", async (t) => {
  const tab = await open(t, "long");
  await shows(tab, "#live", /^Live$/);
  await write(tab);
  const { long } = servers;
  await long.stop();
  await shows(tab, "#live", /^Not live: trying again$/);
  await long.start();
  await shows(tab, "#live", /^Not live: sign in again$/);
  await tab.getByText("You are signed out. What you wrote is kept").waitFor();
  await tab.getByRole("button", { name: "Preview" }).press("Enter");
  await signIn(tab);
  await expectWritten(tab);

  await long.stop();
  await long.start();
  await tab.locator("#live").getByRole("link", { name: "sign in again" }).click();
  await tab.getByRole("alert").getByText("sign in as ada").waitFor();
  await signIn(tab);
  await expectWritten(tab);
  await shows(tab, "#live", /^Live$/);
  // From another page, the way leads back to it.
  await tab.getByRole("link", { name: "Audit log" }).click();
  await heading(tab, "Audit log");
  await shows(tab, "#live", /^Live$/);
  await long.stop();
  await long.start();
  await tab.getByRole("link", { name: "sign in again" }).click();
  await tab.getByLabel("Name").fill("ada");
  await tab.getByLabel("Password").fill(PASSWORD);
  await tab.keyboard.press("Enter");
  await heading(tab, "Audit log");
});

it("where the browser stores nothing, the way to the sign-in carries the text", async (t) => {
  const tab = await open(t, "long");
  await tab.addInitScript(() => {
    for (const name of ["localStorage", "sessionStorage"]) {
      Object.defineProperty(globalThis, name, { get: () => { throw new DOMException("no", "SecurityError"); } });
    }
  });
  await tab.goto(`${servers.long.api}/admin/compose`);
  await write(tab);
  await servers.long.stop();
  await servers.long.start();
  await tab.locator(".session-warning").getByRole("link", { name: "sign in again" }).click();
  await signIn(tab);
  await expectWritten(tab);
  await tab.getByRole("button", { name: "Preview" }).press("Enter");
  await heading(tab, "Preview");
  await servers.long.stop();
  await servers.long.start();
  await tab.locator(".session-warning").getByRole("link", { name: "sign in again" }).click();
  await signIn(tab);
  await expectWritten(tab);
});

it("typing keeps a session, a warning comes before its end, and who stays is not signed out", async (t) => {
  const tab = await open(t, "short");
  const began = Date.now();
  await tab.getByLabel("Message").focus();
  // Twice as long as a session lasts.
  while (Date.now() - began < 8_000) await tab.keyboard.type("a word ", { delay: 20 });
  const warning = tab.locator(".session-warning");
  const { account } = await (await tab.context().request.get(`${servers.short.api}/admin/session`)).json();
  assert.equal(account, "ada");
  await warning.getByText("You will be signed out in").waitFor();
  await warning.getByRole("button", { name: "Stay signed in" }).click();
  await warning.waitFor({ state: "detached" });
  await warning.getByText("You will be signed out in").waitFor();
  // Another tab is as good.
  const other = await tab.context().newPage();
  await other.goto(`${servers.short.api}/admin/account`);
  await warning.waitFor({ state: "detached" });
  await warning.getByText("You are signed out. What you wrote is kept").waitFor();
  await shows(tab, "#live", /^Not live: sign in again$/);
  assert.equal(await other.locator("#live a").count(), 1);
});

it("a tab that is only open keeps no session", async (t) => {
  const tab = await open(t, "short");
  await shows(tab, "#live", /^Live$/);
  await shows(tab, "#live", /^Not live: sign in again$/);
  await tab.reload();
  await heading(tab, "Sign in");
});

it("a text survives a closed tab and a change of page, and is gone when it is sent, discarded or signed out of", async (t) => {
  const tab = await open(t, "long");
  const address = `${servers.long.api}/admin/compose`;
  await write(tab, { user: "7" });
  await tab.getByRole("link", { name: "Messages", exact: true }).click();
  await tab.getByRole("link", { name: "Compose" }).click();
  await tab.getByRole("status").getByText("is here again").waitFor();
  await expectWritten(tab, { user: "7" });
  // A tab beside it begins with nothing, and is not offered what is being written here.
  const context = tab.context();
  const second = await context.newPage();
  await second.goto(address);
  await shows(second, "#live", /^Live$/);
  assert.equal(await second.getByLabel("Title").inputValue(), "");
  assert.equal(await second.locator(".restored").count(), 0);
  await tab.close();

  await second.reload();
  await second.getByRole("status").getByText("A text of").waitFor();
  await second.evaluate(axe);
  const { violations } = await second.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  assert.deepEqual(violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)]), []);
  await second.getByRole("button", { name: "Go on with it" }).click();
  await expectWritten(second, { user: "7" });
  await second.getByRole("button", { name: "Preview" }).press("Enter");
  await heading(second, "Preview");
  await second.getByRole("button", { name: "Go on writing" }).press("Enter");
  await expectWritten(second, { user: "7" });
  await second.getByRole("button", { name: "Preview" }).press("Enter");
  await second.getByRole("button", { name: "Send it now" }).press("Enter");
  await heading(second, "Message");
  const drafts = (one) => one.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith("hailer:draft:")).length);
  // What is sent is no draft.
  await second.waitForFunction(() => Object.keys(localStorage).every((key) => !key.startsWith("hailer:draft:")));

  await second.goto(address);
  await write(second);
  assert.equal(await drafts(second), 1);
  await second.reload();
  await second.getByRole("button", { name: "Discard it" }).click();
  assert.equal(await second.getByLabel("Title").inputValue(), "");
  assert.equal(await drafts(second), 0);
  await write(second);
  assert.equal(await drafts(second), 1);
  await second.getByRole("button", { name: "Sign out" }).press("Enter");
  await heading(second, "Sign in");
  assert.equal(await drafts(second), 0, "whoever signs out leaves nothing behind");
  const all = await second.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }));
  assert.doesNotMatch(all, /M4rked/);
});

it("drafts are bounded, and what else is stored does no harm", async (t) => {
  const tab = await open(t, "long");
  await tab.evaluate(() => {
    const fields = { title: "<img src=x onerror=alert(1)>", body: "b", link: "", to: "everyone", topic: "", user: "", severity: "info", lifetime: "", lifetime_unit: "none", when: "now", send_at: "", resend_of: "" };
    const draft = (at) => JSON.stringify({ at, sending: false, fields });
    const now = Date.now();
    for (let n = 0; n < 9; n++) localStorage.setItem(`hailer:draft:ada:${n}`, draft(now - n * 1000));
    localStorage.setItem("hailer:draft:ada:old", draft(now - 8 * 24 * 60 * 60_000));
    for (const [n, text] of ["", "null", "{", '{"at":1}', '{"at":9e99,"fields":5}'].entries()) localStorage.setItem(`hailer:draft:ada:bad${n}`, text);
    localStorage.setItem("hailer:draft:grace:1", draft(now + 1));
  });
  await tab.goto(`${servers.long.api}/admin/compose`);
  await tab.getByRole("status").getByText("<img src=x onerror=alert(1)>").waitFor();
  assert.equal(await tab.locator("main img").count(), 0);
  await write(tab);
  const keys = await tab.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith("hailer:draft:")).sort());
  const own = keys.filter((key) => key.startsWith("hailer:draft:ada:"));
  assert.equal(own.length, 5, keys.join());
  assert.deepEqual(own.filter((key) => /:\d$/.test(key)), ["0", "1", "2", "3"].map((n) => `hailer:draft:ada:${n}`));
  assert.ok(keys.includes("hailer:draft:grace:1"), "another account's is its own");
  await tab.evaluate(() => localStorage.clear());
});

it("what is filled in beside another choice is not sent", async (t) => {
  const tab = await open(t, "long");
  const [user, topic, time] = ["User", "Topic", "Date and time"].map((label) => tab.getByLabel(label, { exact: label !== "Date and time" }));
  for (const field of [user, topic, time]) await field.waitFor({ state: "hidden" });
  await tab.getByText("One user").click();
  // A click leads to its field.
  await tab.waitForFunction(() => document.activeElement.id === "user");
  await user.fill("42");
  await tab.getByText("Everyone in a topic by name").click();
  assert.deepEqual([await user.isVisible(), await topic.isVisible()], [false, true]);
  await topic.fill("room:7");
  await tab.getByText("Everyone in room:lobby").click();
  await tab.getByText("Later").click();
  await time.fill("2040-01-01T10:00");
  await tab.getByText("Now", { exact: true }).click();
  await tab.getByLabel("How long").fill("5");
  assert.equal(await tab.getByLabel("Unit").inputValue(), "minutes");
  await tab.getByLabel("Message").fill("to everybody");
  const [request] = await Promise.all([tab.waitForRequest(/preview$/), tab.getByRole("button", { name: "Preview" }).press("Enter")]);
  const fields = new URLSearchParams(request.postData());
  assert.deepEqual(["to", "user", "topic", "when", "send_at"].map((name) => fields.get(name)), ["everyone", null, null, "now", null]);
  await heading(tab, "Preview");
  await shows(tab, ".audience strong", /^To EVERYONE$/);
});

it("without scripts, a user who is filled in beside “Everyone” is asked about", async (t) => {
  const tab = await open(t, "long", { javaScriptEnabled: false });
  await tab.getByLabel("User", { exact: true }).fill("42");
  await tab.getByLabel("Message").fill("for one alone");
  await tab.getByRole("button", { name: "Preview" }).press("Enter");
  await heading(tab, "Compose");
  await tab.getByRole("alert").getByText("A user is given, and is not chosen").waitFor();
  assert.equal(await tab.getByLabel("User", { exact: true }).inputValue(), "42");
  await tab.getByLabel("One user").check();
  await tab.getByRole("button", { name: "Preview" }).press("Enter");
  await heading(tab, "Preview");
  await tab.getByText("The user 42").waitFor();
  assert.equal(await tab.locator(".audience strong").count(), 0);
});
