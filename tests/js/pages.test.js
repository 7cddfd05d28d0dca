// The files of the demo page as the server gives them out.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, it } from "node:test";
import { Server } from "./harness.js";

const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws: wss:; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

let server;
before(async () => (server = await Server.start("hailer")));
after(() => server.kill());

for (const [path, file, type] of [
  ["/", "index.html", /^text\/html; ?charset=utf-8$/i],
  ["/app.js", "app.js", /^text\/javascript(; ?charset=utf-8)?$/i],
  ["/notices.js", "notices.js", /^text\/javascript(; ?charset=utf-8)?$/i],
  ["/client.js", "client.js", /^text\/javascript(; ?charset=utf-8)?$/i],
  ["/transports.js", "transports.js", /^text\/javascript(; ?charset=utf-8)?$/i],
  ["/style.css", "style.css", /^text\/css(; ?charset=utf-8)?$/i],
  ["/notice.css", "notice.css", /^text\/css(; ?charset=utf-8)?$/i],
  ["/favicon.svg", "favicon.svg", /^image\/svg\+xml$/i],
]) {
  it(`${path} is ${file}, with a policy against foreign content`, async () => {
    const response = await fetch(server.url + path);
    assert.equal(response.status, 200);
    assert.match(response.headers.get("content-type"), type);
    assert.equal(response.headers.get("content-security-policy"), POLICY);
    assert.equal(response.headers.get("x-content-type-options"), "nosniff");
    const source = new URL(`../../src/web/${file}`, import.meta.url);
    assert.equal(await response.text(), await readFile(source, "utf8"));
  });
}

it("an unknown path is not found", async () => {
  assert.equal((await fetch(`${server.url}/nothing`)).status, 404);
});
