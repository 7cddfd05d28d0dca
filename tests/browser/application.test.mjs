// An application of somebody else's, with the guide's page and its ten lines, as they stand in docs/notifications.md.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { after, before, it } from "node:test";
import { KEYS, call } from "../js/api.js";
import { Server } from "../js/harness.js";
import { snippet } from "../js/snippets.js";
import { guarded, mint } from "../js/tokens.js";
import { openPage } from "./elsewhere.mjs";
import { launch, path, shows } from "./tabs.mjs";

const [USER, KEPT] = [{ user: "alice" }, { expires_in: 600 }];
/** What the guide promises to get along with. */
const POLICY = "default-src 'none'; style-src 'self'; connect-src ws:";

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

/** Serves the application with this phoenix.js; its `files` are added when it is known where. */
async function serve(t, version) {
  const files = new Map();
  for (const [name, file] of [
    ["/phoenix.js", `../js/node_modules/phoenix-${version}/priv/static/phoenix.mjs`],
    ["/notices.js", "../../src/web/notices.js"],
    ["/notice.css", "../../src/web/notice.css"],
  ]) {
    files.set(name, await readFile(path(file), "utf8"));
  }
  const application = createServer(({ url }, response) => {
    const type = url.endsWith(".js") ? "text/javascript" : url.endsWith(".css") ? "text/css" : "text/html";
    const policy = `${POLICY}; script-src 'self' 'nonce-application'`;
    response.setHeader("content-type", `${type}; charset=utf-8`).setHeader("content-security-policy", policy);
    response.end(files.get(url) ?? "");
  });
  application.listen(0, "127.0.0.1");
  await once(application, "listening");
  t.after(() => {
    application.closeAllConnections();
    application.close();
  });
  return { files, origin: `http://127.0.0.1:${application.address().port}` };
}

/** The application's page for its user, who is signed in with this token. */
const page = (token) => `<!doctype html>
  <html lang="en">
  <title>An application</title>
  <script type="importmap" nonce="application">{ "imports": { "phoenix": "/phoenix.js" } }</script>
  <script nonce="application">const [token, userId] = ${JSON.stringify([token, USER.user])};</script>
`;

for (const version of ["1.7", "1.8"]) {
  it(`ten lines show notifications in an application with phoenix.js ${version}`, async (t) => {
    const { files, origin } = await serve(t, version);
    const above = `check_origin = ["${origin}"]`;
    const server = await Server.startFor(t, "hailer", guarded({ api: true, above, rest: KEYS }));
    files.set("/app.js", snippet("app.js", server));
    files.set("/", page(await mint(USER.user)) + snippet("page.html", server));
    const publish = async (target, payload, options) =>
      (await call(server, "publish", { ...target, event: "new_msg", payload, ...options })).id;

    await publish(USER, { title: "Your order", body: "is on its way", severity: "info" }, KEPT);
    const tab = await openPage(t, browser, origin);
    await shows(tab, "#banners .notice-info .notice-title", /^Your order$/);
    const id = await publish({ topic: "room:lobby" }, { body: "<b>Maintenance</b>", severity: "critical" }, { with_id: true });
    await shows(tab, "#banners [role=alert] .notice-body", /^<b>Maintenance<\/b>$/);
    await tab.getByRole("button", { name: "Notifications, 2 unseen", exact: true }).click();
    assert.equal(await tab.locator("#panel .notice").count(), 2);

    await call(server, "retract", { id });
    await tab.locator(".notice-critical").first().waitFor({ state: "detached" });
    assert.equal(await tab.locator("#panel .notice").count(), 1);

    await tab.getByRole("button", { name: "Dismiss: Your order" }).click();
    await tab.reload();
    // It is kept, and so it comes again behind the bell.
    await tab.locator("#panel .notice-title", { hasText: "Your order" }).waitFor({ state: "attached" });
    assert.equal(await tab.locator("#banners .notice").count(), 0);
  });
}
