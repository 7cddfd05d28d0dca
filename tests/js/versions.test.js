// One conversation with a real server, played with each release line of npm's `phoenix` since 1.3 and with the clients
// that others have derived from it, each as it comes: its own serializer, timers and transports.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { KEYS, call } from "./api.js";
import { Inbox, Server, join, outcomes, push } from "./harness.js";
import { guarded, mint } from "./tokens.js";
import { KeptAlive } from "./xhr.js";
import phoenix13 from "phoenix-1.3";
import phoenix14 from "phoenix-1.4";
import phoenix15 from "phoenix-1.5";
import * as phoenix16 from "phoenix-1.6";
import * as phoenix17 from "phoenix-1.7";
import * as phoenix18 from "phoenix-1.8";
import phoenixChannels from "phoenix-channels";
import phoenixSocket from "phoenix-socket";
import { WebSocket } from "ws";

// Where these clients look for a browser's classes; those before 1.4 know no other place than `window`.
globalThis.window = globalThis;
globalThis.XMLHttpRequest = KeptAlive;

const LOBBY = "room:lobby";

/** How long the first token of each client is good, in seconds. */
const SHORT = 3;

const OPTIONS = guarded({
  api: true,
  auth: `secret_file = "secret"\nallowed_drift = "0s"\nexpiry_grace = "1s"`,
  rest: `
    [[topics]]
    pattern = "${LOBBY}"
    join = "user"
    push = [{ event = "new_msg", by = "user" }]
    [[topics]]
    pattern = "user:{sub}"
    join = "owner"
    push = [{ event = "bytes", by = "owner" }]
    ${KEYS}`,
});

/**
 * Where the clients differ: whether `params` may be a function, whether they know payloads of bytes, and whether they
 * try again after their long-poll was refused (the oldest throw an error instead, and stay away).
 */
const NEWEST = { paramsFunction: true, bytes: true, retriesLongPoll: true };
const CLIENTS = [
  { name: "phoenix 1.3", ...phoenix13, paramsFunction: false, bytes: false, retriesLongPoll: false },
  { name: "phoenix 1.4", ...phoenix14, paramsFunction: true, bytes: false, retriesLongPoll: false },
  { name: "phoenix 1.5", ...phoenix15, ...NEWEST },
  { name: "phoenix 1.6", ...phoenix16, ...NEWEST },
  { name: "phoenix 1.7", ...phoenix17, ...NEWEST },
  { name: "phoenix 1.8", ...phoenix18, ...NEWEST },
  // The long-poll of phoenix-socket expects answers as Phoenix gave them before 1.3; phoenix-channels has none.
  { name: "phoenix-socket", Socket: phoenixSocket.Socket, paramsFunction: false, bytes: false },
  { name: "phoenix-channels", Socket: phoenixChannels.Socket, paramsFunction: false, bytes: false },
];

/** Each client over each of its transports. */
const WAYS = CLIENTS.flatMap((client) => [
  { client, label: `${client.name}, WebSocket`, longPoll: false, retries: true },
  { client, label: `${client.name}, long-poll`, longPoll: true, retries: client.retriesLongPoll },
]).filter(({ client, longPoll }) => !longPoll || client.LongPoll);

const transport = ({ client, longPoll }) => {
  if (longPoll) return client.LongPoll;
  // It brings a WebSocket of its own.
  return client.name === "phoenix-channels" ? undefined : WebSocket;
};

let server;
before(async () => (server = await Server.start("hailer", OPTIONS)));
after(() => server.kill());

/** A socket that shows the `tokens` one after the other, the last one again and again. */
function dial(t, way, tokens) {
  const unused = [...tokens];
  const next = () => ({ token: unused.length > 1 ? unused.shift() : unused[0] });
  const params = way.client.paramsFunction ? next : next();
  const [messages, opens, closes] = [new Inbox(), new Inbox(), new Inbox()];
  const socket = new way.client.Socket(`ws://${server.address}/socket`, {
    params,
    transport: transport(way),
    heartbeatIntervalMs: 1500,
  });
  socket.onOpen(() => opens.push("open"));
  socket.onClose((event) => {
    closes.push(event?.code);
    // What an application does where `params` is no function.
    if (!way.client.paramsFunction) Object.assign(params, next());
  });
  socket.onMessage(messages.push);
  t.after(() => socket.disconnect());
  socket.connect();
  return { socket, messages, opens, closes };
}

/** Waits for the server to end a socket; over long-poll the codes are the client's own, if it has any. */
async function expectClosed(way, closes, code, why) {
  const closed = await closes.take(`${way.label} is closed: ${why}`);
  if (!way.longPoll) assert.equal(closed, code, `${way.label}: ${why}`);
}

const isOk = ([status]) => status === "ok";
const says = (body) => (payload) => payload.body === body;

const publish = (body) => call(server, "publish", { topic: LOBBY, event: "new_msg", payload: { body } });

/** Has the server publish something, and waits until it is heard. */
async function expectHeard(way, payloads, body) {
  await publish(body);
  await payloads.take(`${way.label} hears "${body}"`, says(body));
}

describe("one conversation", { concurrency: true }, () => {
  for (const way of WAYS) it(way.label, async (t) => {
    const sub = randomUUID();
    const tokens = [await mint(sub, { ttl: SHORT }), await mint(sub, { ttl: -1 }), await mint(sub)];
    const { socket, messages, opens, closes } = dial(t, way, way.retries ? tokens : [tokens[0], tokens[2]]);
    await opens.take(`${way.label} connects`);

    const lobby = await join({ socket }, LOBBY, { greeting: "hello" });
    const payloads = lobby.received("new_msg");
    await expectHeard(way, payloads, `${way.label} has joined`);

    if (!way.longPoll) {
      const { payload } = await messages.take("a heartbeat's answer", ({ topic }) => topic === "phoenix");
      assert.deepEqual(payload, { status: "ok", response: {} });
    }

    // The token runs out; the next one has as well, so it takes two tries to come back.
    await expectClosed(way, closes, 4001, "its token has run out");
    if (way.retries) await expectClosed(way, closes, 1006, "its next token has run out as well");
    await opens.take(`${way.label} comes back with a fresh token`);
    await lobby.joins.take(`${way.label} joins again by itself`, isOk);
    await expectHeard(way, payloads, `${way.label} is back`);

    // Each of its own messages once and in order.
    const own = Array.from({ length: 20 }, (_, n) => `${way.label}: ${n}`);
    for (const body of own) {
      lobby.channel.push("new_msg", { body });
      // Before 1.7 each message is a request of its own, and any of them may come first.
      if (way.longPoll) await payloads.take(`${way.label} hears itself`, says(body));
    }
    if (!way.longPoll) await payloads.take(`${way.label} hears itself`, says(own.at(-1)));
    const heard = payloads.items.map(({ body }) => body).filter((body) => own.includes(body));
    assert.deepEqual(heard, own);

    const [status, response] = await push(lobby.channel, "access_token", { access_token: tokens[2] });
    assert.equal(status, "ok");
    assert.ok(response.expires_in > 3000, JSON.stringify(response));
    assert.deepEqual(await push(lobby.channel, "nonsense", {}), ["error", { reason: "unauthorized" }]);

    const foreign = socket.channel(`user:${randomUUID()}`);
    const refused = await outcomes(foreign.join()).take(`${way.label} may not join`);
    assert.deepEqual(refused, ["error", { reason: "unauthorized" }]);
    foreign.leave();
    const mine = await join({ socket }, `user:${sub}`);
    if (way.client.bytes && !way.longPoll) {
      const bytes = Uint8Array.from({ length: 256 }, (_, n) => n);
      const received = mine.received("bytes");
      mine.channel.push("bytes", bytes.buffer);
      const back = await received.take(`${way.label} gets its bytes back`);
      assert.ok(back instanceof ArrayBuffer, `${way.label}: bytes, not ${JSON.stringify(back)}`);
      assert.deepEqual(new Uint8Array(back), bytes);
    }

    const gone = new Inbox();
    lobby.channel.onClose(() => gone.push("closed"));
    assert.deepEqual(await outcomes(lobby.channel.leave()).take(`${way.label} leaves`), ["ok", {}]);
    await gone.take(`${way.label} closes its channel`);
    // In V1 the message names no join: a new channel of the topic would take it for its own.
    await messages.take("phx_close", ({ event }) => event === "phx_close");
    await publish(`${way.label} is away`);
    const again = await join({ socket }, LOBBY);
    const since = again.received("new_msg");
    await expectHeard(way, since, `${way.label} has joined once more`);
    for (const { items } of [payloads, since]) assert.ok(!items.some(says(`${way.label} is away`)), "heard while away");

    assert.equal(opens.items.length, 2, `${way.label} has kept its connection`);
    await call(server, "disconnect", { user: sub });
    await expectClosed(way, closes, 1001, "its user is disconnected");
    await opens.take(`${way.label} comes back after the disconnect`);
    await again.joins.take(`${way.label} joins again after the disconnect`, isOk);
    await expectHeard(way, since, `${way.label} is back after the disconnect`);
  });
});

it("each of them comes back by itself when the server has been restarted", async (t) => {
  const members = await Promise.all(WAYS.map(async (way) => {
    const connection = dial(t, way, [await mint(randomUUID())]);
    const { joins, received } = await join(connection, LOBBY);
    return { way, ...connection, joins, payloads: received("new_msg") };
  }));
  await server.stop();
  await Promise.all(members.map(({ way, closes }) => expectClosed(way, closes, 1012, "the server ends")));
  await server.start();
  await Promise.all(members.map(({ way, joins }) => joins.take(`${way.label} joins again`, isOk)));
  await publish("back again");
  for (const { way, payloads } of members) {
    await payloads.take(`${way.label} hears what is said afterwards`);
    assert.deepEqual(payloads.items, [{ body: "back again" }], way.label);
  }
});

it("docs/clients.md names the versions that are tested", () => {
  const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8");
  const npm = Object.entries(JSON.parse(read("package.json")).devDependencies)
    .map(([name, version]) => (version.startsWith("npm:") ? version.slice(4).split("@") : [name, version]))
    .filter(([name]) => name.startsWith("phoenix") || name.startsWith("@supabase/"))
    .map(([name, version]) => `npm \`${name}\` ${version}`);
  const pypi = ["realtime", "phxsocket", "phoenix-channels-python-client"].map((name) => {
    const [, version] = new RegExp(`^${name}==(.*)$`, "m").exec(read("../python/requirements.txt"));
    return `PyPI \`${name}\` ${version}`;
  });
  const rows = read("../../docs/clients.md").matchAll(/^\| ((?:npm|PyPI) `[^`]+`) \| ([^ ]+) \|/gm);
  const documented = Array.from(rows, ([, client, version]) => `${client} ${version}`);
  assert.deepEqual(documented.sort(), [...npm, ...pypi].sort());
});
