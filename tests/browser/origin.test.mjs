// Pages of other origins in a real browser: refused, until the line that the log suggests is in the configuration.

import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { Server } from "../js/harness.js";
import { guarded, mint } from "../js/tokens.js";
import { joinFrom, openPage, serveElsewhere } from "./elsewhere.mjs";
import { launch } from "./tabs.mjs";

const TRANSPORTS = [
  { name: "WebSocket", longPoll: false },
  { name: "long-poll", longPoll: true },
];

let browser;
let listed;
let foreign;
before(async () => {
  browser = await launch();
  [listed, foreign] = [await serveElsewhere(), await serveElsewhere()];
});
after(async () => {
  await browser?.close();
  await listed?.close();
  await foreign?.close();
});

for (const version of ["1.7", "1.8"]) for (const { name, longPoll } of TRANSPORTS) {
  // Over long-poll 1.7 sends a header for which browsers ask before, and it is that question which is refused.
  const refused = longPoll ? { "1.7": 1011, "1.8": 1008 }[version] : 1006;
  it(`a page of another origin, with phoenix.js ${version} over ${name}`, async (t) => {
    const server = await Server.startFor(t, "hailer", guarded());
    const token = await mint("alice");
    const attempt = async (url) => {
      const page = await openPage(t, browser, `${url}/${version}`);
      const { outcome, closes } = await joinFrom(page, server, { longPoll, params: [{ token }] });
      return [outcome, closes[0]?.code];
    };
    const suggestion = async (origin) => {
      const asked = new RegExp(`${name} unauthorized: origin not allowed; to let it in: (check_origin = \\[.*\\]) `);
      const isOf = (line) => asked.test(line) && line.includes(`"${origin}"] `);
      return asked.exec(await server.log.take(`the refusal of ${origin}`, isOf))[1];
    };

    assert.deepEqual(await attempt(listed.origin), ["closed", refused]);
    const line = await suggestion(listed.origin);
    assert.equal(line, `check_origin = ["conn", "${listed.origin}"]`);

    await server.stop();
    server.configure(guarded({ above: line }).config);
    await server.start();
    assert.deepEqual(await attempt(listed.origin), ["joined", undefined]);
    // Neither another port nor another name of the same machine is the same origin.
    for (const origin of [foreign.origin, `http://localhost:${listed.port}`]) {
      assert.deepEqual(await attempt(origin), ["closed", refused]);
      assert.equal(await suggestion(origin), `check_origin = ["conn", "${listed.origin}", "${origin}"]`);
    }
  });
}

it("a page of no origin is refused, and nothing is suggested", async (t) => {
  const server = await Server.startFor(t, "hailer", guarded());
  const page = await openPage(t, browser, `${listed.origin}/1.8`);
  // A frame in a sandbox has an origin of its own that is nobody's.
  await page.setContent('<iframe sandbox="allow-scripts" srcdoc="<p>sandboxed</p>"></iframe>');
  const frame = await (await page.waitForSelector("iframe")).contentFrame();
  const code = await frame.evaluate(
    (url) => new Promise((resolve) => (new WebSocket(url).onclose = ({ code }) => resolve(code))),
    `ws://${server.address}/socket/websocket?vsn=2.0.0&token=${await mint("alice")}`,
  );
  assert.equal(code, 1006);
  const line = await server.log.take("the refusal's line", (text) => text.includes("WebSocket unauthorized: "));
  assert.match(line, /unauthorized: origin without a host /);
  assert.doesNotMatch(line, /check_origin/);
});

for (const { name, longPoll } of TRANSPORTS) {
  it(`authToken gets through from another origin over ${name}`, async (t) => {
    const above = `check_origin = ["${listed.origin}"]`;
    const server = await Server.startFor(t, "hailer", guarded({ above }));
    const page = await openPage(t, browser, `${listed.origin}/1.8`);
    const { outcome } = await joinFrom(page, server, { longPoll, authToken: await mint("alice") });
    assert.equal(outcome, "joined");
  });
}
