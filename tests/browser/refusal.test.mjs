// What a page in a real browser can know of a refusal.

import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { Server } from "../js/harness.js";
import { SECRET, guarded, mint } from "../js/tokens.js";
import { closeOf, joinFrom, openPage, serveElsewhere } from "./elsewhere.mjs";
import { launch } from "./tabs.mjs";

let browser;
let elsewhere;
let polite;
let curt;
before(async () => {
  browser = await launch();
  elsewhere = await serveElsewhere();
  const above = `check_origin = ["${elsewhere.origin}"]`;
  polite = await Server.start("hailer", guarded({ above, auth: 'secret_file = "secret"\nrefusal = "polite"' }));
  curt = await Server.start("hailer", guarded({ above }));
});
after(async () => {
  await browser?.close();
  await elsewhere?.close();
  await polite?.kill();
  await curt?.kill();
});

const bad = () => mint("alice", { key: SECRET.toUpperCase() });
const expired = () => mint("alice", { ttl: -60 });

const REFUSALS = [
  ["no token", async () => ({}), { code: 1000, reason: "no token" }],
  ["a bad token", async () => ({ token: await bad() }), { code: 1000, reason: "bad token signature" }],
  ["a token of another type", async () => ({ token: await mint("alice", { typ: "refresh" }) }),
    { code: 1000, reason: "wrong token type" }],
  ["a token that has run out", async () => ({ token: await expired() }), { code: 4001, reason: "token expired" }],
];

for (const [what, params, told] of REFUSALS) {
  it(`${what}: a page is told why, if refusals are polite`, async (t) => {
    const page = await openPage(t, browser, elsewhere.origin);
    assert.deepEqual(await closeOf(page, polite, await params()), { opened: true, ...told, wasClean: true });
    const { token } = await params();
    if (token === undefined) return;
    const bearer = `base64url.bearer.phx.${Buffer.from(token).toString("base64url")}`;
    const closed = await closeOf(page, polite, {}, ["phoenix", bearer]);
    assert.deepEqual(closed, { opened: true, ...told, wasClean: true });
  });

  it(`${what}: a page is told nothing otherwise`, async (t) => {
    const page = await openPage(t, browser, elsewhere.origin);
    const nothing = { opened: false, code: 1006, reason: "", wasClean: false };
    assert.deepEqual(await closeOf(page, curt, await params()), nothing);
  });
}

it("phoenix.js 1.7 stays away after a polite refusal of a bad token", async (t) => {
  const page = await openPage(t, browser, `${elsewhere.origin}/1.7`);
  const result = await joinFrom(page, polite, { params: [{ token: await bad() }] });
  assert.deepEqual(result, { outcome: "closed", closes: [{ code: 1000, reason: "bad token signature" }], retries: 0 });
});

for (const version of ["1.7", "1.8"]) {
  it(`phoenix.js ${version} comes back with a fresh token when one that has run out is refused politely`, async (t) => {
    const page = await openPage(t, browser, `${elsewhere.origin}/${version}`);
    const params = [{ token: await expired() }, { token: await mint("alice") }];
    const { outcome, closes } = await joinFrom(page, polite, { params, attempts: 2 });
    assert.deepEqual({ outcome, closes }, { outcome: "joined", closes: [{ code: 4001, reason: "token expired" }] });
  });
}

it("a page whose token has run out on a live socket is told to come back with a fresh one", async (t) => {
  const above = `check_origin = ["${elsewhere.origin}"]`;
  const auth = 'secret_file = "secret"\nallowed_drift = "0s"\nexpiry_grace = "0s"';
  const server = await Server.startFor(t, "hailer", guarded({ above, auth }));
  const page = await openPage(t, browser, elsewhere.origin);
  const closed = await closeOf(page, server, { token: await mint("alice", { ttl: 2 }) });
  assert.deepEqual(closed, {
    opened: true,
    ...{ code: 4001, reason: "the token has run out: come back with a fresh one" },
    wasClean: true,
  });
});
