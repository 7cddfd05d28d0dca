// Staff with passwords in a real browser: signing in, guessing, and how a session ends, against a real store.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, it } from "node:test";
import { SECRETS, Server } from "../js/harness.js";
import { launch, path, shows } from "./tabs.mjs";

const PASSWORD = "M4rked correct horse";
const OTHER = "M4rked battery staple";
for (const secret of [PASSWORD, OTHER]) SECRETS.add(secret);

const folder = mkdtempSync(join(tmpdir(), "hailer-staff-"));
const CONFIG = `[store]\npath = "${join(folder, "hailer.db")}"\n`;
const config = join(folder, "hailer.toml");

/** Runs `hailer staff` with a password on its stdin. */
function staff(args, input = "") {
  const program = process.env.HAILER_BIN ?? path("../../target/debug/hailer");
  execFileSync(program, ["staff", ...args, "--config", config], { input, stdio: ["pipe", "pipe", "inherit"] });
}

let browser;
let server;
let office;

async function start() {
  server = await Server.start("hailer", { config: CONFIG, api: true });
  office = server.api;
}

before(async () => {
  writeFileSync(config, CONFIG, { mode: 0o600 });
  for (const name of ["ada", "grace", "joan"]) staff(["add", name], `${PASSWORD}\n`);
  browser = await launch();
  await start();
});
after(async () => {
  await browser?.close();
  await server?.kill();
  rmSync(folder, { recursive: true, force: true });
});

const heading = (tab, name) => tab.getByRole("heading", { level: 1, name, exact: true }).waitFor();

async function open(t) {
  const context = await browser.newContext({ locale: "en-GB" });
  const tab = await context.newPage();
  tab.setDefaultTimeout(20_000);
  t.after(() => context.close());
  await tab.goto(`${office}/admin`);
  await heading(tab, "Sign in");
  return tab;
}

async function type(tab, name, password) {
  await tab.getByLabel("Name").fill(name);
  await tab.getByLabel("Password").fill(password);
  await tab.keyboard.press("Enter");
}

async function enter(t, name, password = PASSWORD) {
  const tab = await open(t);
  await type(tab, name, password);
  await heading(tab, "Compose");
  await shows(tab, "#live", /^Live$/);
  const [cookie] = await tab.context().cookies();
  SECRETS.add(cookie.value);
  return tab;
}

it("staff sign in with a password, and the browser keeps no trace of it", async (t) => {
  const tab = await enter(t, "ada");
  await shows(tab, ".who", "ada");
  const [cookie] = await tab.context().cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.path], [true, "Strict", "/"]);
  const seen = await tab.evaluate(() => [document.cookie, JSON.stringify({ ...localStorage, ...sessionStorage }), location.href]);
  for (const text of seen) assert.ok(!text.includes("M4rked") && !text.includes(cookie.value), text);
  // A page that was asked for before is where the way leads.
  await tab.context().clearCookies();
  await tab.goto(`${office}/admin/audit`);
  await heading(tab, "Sign in");
  await type(tab, "ada", PASSWORD);
  await heading(tab, "Audit log");
});

it("wrong passwords lock an account out, and no other one", async (t) => {
  const tab = await open(t);
  for (let n = 0; n < 5; n++) {
    await type(tab, "joan", `M4rked guess ${n}`);
    await tab.getByRole("alert").getByText("The name or the password is wrong.").waitFor();
    await tab.waitForFunction(() => document.getElementById("password").value === "");
  }
  await type(tab, "joan", PASSWORD);
  await heading(tab, "Please wait");
  await enter(t, "grace");
});

it("a disabled account is out within seconds, without a click", async (t) => {
  const [tab, other] = [await enter(t, "grace"), await enter(t, "ada")];
  staff(["disable", "grace"]);
  await shows(tab, "#live", /^Not live: sign in again$/);
  await tab.reload();
  await heading(tab, "Sign in");
  await type(tab, "grace", PASSWORD);
  await tab.getByRole("alert").getByText("The name or the password is wrong.").waitFor();
  await shows(other, "#live", /^Live$/);
  staff(["enable", "grace"]);
  await enter(t, "grace");
});

it("another password ends the account's other sessions", async (t) => {
  const [here, there, stranger] = [await enter(t, "ada"), await enter(t, "ada"), await enter(t, "grace")];
  await here.goto(`${office}/admin/account`);
  await here.getByLabel("The present password").fill(PASSWORD);
  await here.getByLabel("The new password", { exact: false }).first().fill(OTHER);
  await here.getByLabel("The new password again").fill(OTHER);
  await here.getByRole("button", { name: "Change it" }).press("Enter");
  await shows(here, "[role=status]", "Your password is changed.");
  await shows(there, "#live", /^Not live: sign in again$/);
  await there.reload();
  await heading(there, "Sign in");
  await type(there, "ada", PASSWORD);
  await there.getByRole("alert").getByText("The name or the password is wrong.").waitFor();
  await type(there, "ada", OTHER);
  await heading(there, "Compose");
  await shows(stranger, "#live", /^Live$/);
});

it("a restart of the server ends every session", async (t) => {
  const tab = await enter(t, "grace");
  const cookies = await tab.context().cookies();
  await server.stop();
  await start();
  const [{ name, value }] = cookies;
  const context = await browser.newContext();
  t.after(() => context.close());
  await context.addCookies([{ name, value, url: office }]);
  const again = await context.newPage();
  await again.goto(`${office}/admin/compose`);
  await heading(again, "Sign in");
  await enter(t, "grace");
});
