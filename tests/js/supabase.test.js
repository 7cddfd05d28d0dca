// Supabase's @supabase/realtime-js at its defaults: vsn 2.0.0, broadcasts in binary frames of its own, nothing of what
// a client sends given back to it.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { RealtimeClient } from "@supabase/realtime-js";
import { WebSocket } from "ws";
import { Inbox, Server, V2_CLIENTS, connect, deadline, join, outcomes } from "./harness.js";
import { guarded, mint } from "./tokens.js";

const RULES = `
[[topics]]
pattern = "realtime:*"
join = "user"
push = [{ event = "broadcast", by = "user" }]

[[topics]]
pattern = "realtime-quiet:*"
join = "user"
`;

/** A client that connects as soon as it subscribes, and its sockets' ends. */
function dial(t, server, apikey, options = {}) {
  const params = { apikey };
  const client = new RealtimeClient(`ws://${server.address}/socket`, { transport: WebSocket, params, ...options });
  const closes = new Inbox();
  client.socketAdapter.onClose(({ code, reason }) => closes.push(`${code} ${reason}`));
  t.after(() => client.disconnect());
  return { client, closes, params };
}

/** A channel that is subscribed, with all that is broadcast there and every status that its callback has heard. */
async function subscribe({ client }, topic, broadcast) {
  const channel = client.channel(topic, broadcast && { config: { broadcast } });
  const [messages, statuses] = [new Inbox(), new Inbox()];
  channel.on("broadcast", { event: "*" }, messages.push);
  channel.subscribe((status, error) => statuses.push(error ? `${status}: ${error.message}` : status));
  assert.equal(await statuses.take(`the subscription of ${topic}`), "SUBSCRIBED");
  return { channel, messages, statuses };
}

const message = (event, payload) => ({ type: "broadcast", event, payload });
const send = (channel, event, payload) =>
  deadline(channel.send(message(event, payload)), `the outcome of ${event}`);

for (const [name, start, token] of [
  ["the open demo", () => ["hailer", { args: ["--topic", "realtime:*"] }], async () => "anything"],
  [
    "a server that asks for tokens",
    () => ["hailer", guarded({ auth: 'secret_file = "secret"\ntoken_param = "apikey"', rest: RULES })],
    () => mint(randomUUID()),
  ],
]) describe(`realtime-js at ${name}`, () => {
  let server;
  before(async () => (server = await Server.start(...start())));
  after(() => server.kill());

  const enter = async (t, topic, broadcast, options) => {
    const connection = dial(t, server, await token(), options);
    return { ...connection, ...(await subscribe(connection, topic, broadcast)) };
  };

  it("sends without being thrown out, and others get it", async (t) => {
    const topic = randomUUID();
    const [ada, bob] = [await enter(t, topic), await enter(t, topic)];
    for (const payload of [{ x: 1 }, { text: "\"é\n\u{1f980}" }, {}]) {
      assert.equal(await send(ada.channel, "shout", payload), "ok");
      assert.deepEqual(await bob.messages.take("the message"), message("shout", payload));
    }
    assert.deepEqual([ada.closes.items, ada.statuses.items], [[], ["SUBSCRIBED"]]);
  });

  it("does not get its own messages unless it wants them", async (t) => {
    const topic = randomUUID();
    const [quiet, vain] = [await enter(t, topic), await enter(t, topic, { self: true })];
    await send(quiet.channel, "first", { n: 1 });
    assert.deepEqual(await vain.messages.take("the first"), message("first", { n: 1 }));
    await send(vain.channel, "second", { n: 2 });
    for (const { messages } of [quiet, vain]) {
      assert.deepEqual(await messages.take("the second"), message("second", { n: 2 }));
    }
    assert.deepEqual(quiet.messages.items, [message("second", { n: 2 })]);
  });

  it("is answered when it asks for it", async (t) => {
    const topic = randomUUID();
    const [asks, other] = [await enter(t, topic, { ack: true }), await enter(t, topic)];
    const replies = new Inbox();
    asks.client.socketAdapter.onMessage(({ event, payload }) => event === "phx_reply" && replies.push(payload));
    assert.equal(await send(asks.channel, "shout", { x: 1 }), "ok");
    assert.deepEqual(await replies.take("the reply"), { status: "ok", response: {} });
    assert.deepEqual(await other.messages.take("the message"), message("shout", { x: 1 }));
    assert.deepEqual(asks.messages.items, []);
  });

  it("sends bytes", async (t) => {
    const topic = randomUUID();
    const [ada, bob] = [await enter(t, topic, { self: true, ack: true }), await enter(t, topic)];
    for (const bytes of [[0, 1, 254, 255], []]) {
      assert.equal(await send(ada.channel, "bytes", Uint8Array.from(bytes).buffer), "ok");
      for (const { messages } of [ada, bob]) {
        const { payload, ...rest } = await messages.take("the bytes");
        assert.deepEqual([rest, [...new Uint8Array(payload)]], [{ type: "broadcast", event: "bytes" }, bytes]);
      }
    }
  });

  it("talks to one of vsn 1.0.0", async (t) => {
    const topic = randomUUID();
    const [old, young] = [await enter(t, topic, { ack: true }, { vsn: "1.0.0" }), await enter(t, topic)];
    assert.equal(await send(old.channel, "shout", { x: 1 }), "ok");
    assert.deepEqual(await young.messages.take("the message"), message("shout", { x: 1 }));
    await send(young.channel, "shout", { x: 2 });
    assert.deepEqual(await old.messages.take("the message"), message("shout", { x: 2 }));
    assert.deepEqual(old.messages.items.length, 1);
  });

  it("talks to phoenix.js", async (t) => {
    const topic = randomUUID();
    const ada = await enter(t, topic);
    for (const client of V2_CLIENTS) {
      const key = await token();
      const connection = await connect(t, server, client, undefined, { params: { apikey: key } });
      const { channel, received } = await join(connection, `realtime:${topic}`);
      const messages = received("broadcast");
      await send(ada.channel, "shout", { x: 1 });
      assert.deepEqual(await messages.take("the message"), message("shout", { x: 1 }));
      if (name === "the open demo") continue;
      channel.push("broadcast", message("shout", { by: client.name }));
      assert.deepEqual(await ada.messages.take("the answer"), message("shout", { by: client.name }));
    }
  });

  it("is told that it is not tracked, and that no table is listened to", async (t) => {
    const { client } = await enter(t, randomUUID());
    const present = client.channel(randomUUID()).on("presence", { event: "sync" }, () => {});
    const statuses = new Inbox();
    present.subscribe(statuses.push);
    assert.equal(await statuses.take("the subscription"), "SUBSCRIBED");
    assert.equal(await deadline(present.track({ at: 1 }), "the outcome of track"), "error");
    const listening = client
      .channel(randomUUID())
      .on("postgres_changes", { event: "*", schema: "public", table: "a" }, () => {});
    listening.subscribe((status, error) => statuses.push([status, error?.message]));
    const refused = ([status]) => status === "CHANNEL_ERROR";
    assert.deepEqual(await statuses.take("the refusal", refused), [
      "CHANNEL_ERROR",
      "mismatch between server and client bindings for postgres changes",
    ]);
  });

  it("leaves and comes back", async (t) => {
    const topic = randomUUID();
    const [ada, bob] = [await enter(t, topic), await enter(t, topic)];
    assert.equal(await deadline(ada.client.removeChannel(ada.channel), "the leave"), "ok");
    assert.equal(await ada.statuses.take("the end"), "CLOSED");
    const again = await subscribe(ada, topic);
    await send(bob.channel, "shout", { x: 1 });
    assert.deepEqual(await again.messages.take("the message"), message("shout", { x: 1 }));
    assert.deepEqual(ada.messages.items, []);
  });

  it("is refused a name in letters that it can't write, and stays connected", async (t) => {
    const { channel, closes, messages } = await enter(t, randomUUID(), { self: true, ack: true });
    assert.equal(await send(channel, "café", { x: 1 }), "error");
    assert.equal(await send(channel, "cafe", { x: 1 }), "ok");
    await messages.take("the message");
    assert.deepEqual(closes.items, []);
  });

  it("sends heartbeats that are answered", async (t) => {
    const heartbeats = new Inbox();
    await enter(t, randomUUID(), undefined, { heartbeatIntervalMs: 100, heartbeatCallback: heartbeats.push });
    await heartbeats.take("a heartbeat's answer", (status) => status === "ok");
  });
});

describe("realtime-js", () => {
  const quick = { reconnectAfterMs: () => 100 };

  it("comes back after the server's restart, and hears what is said then", async (t) => {
    const server = await Server.startFor(t, "hailer", { args: ["--topic", "realtime:*"] });
    const topic = randomUUID();
    const members = [];
    for (const broadcast of [undefined, { ack: true }]) {
      const connection = dial(t, server, "anything", quick);
      members.push({ ...connection, ...(await subscribe(connection, topic, broadcast)) });
    }
    const [ada, bob] = members;
    await server.stop();
    for (const { closes } of members) assert.match(await closes.take("the close"), /^1012 /);
    await server.start();
    for (const { statuses } of members) await statuses.take("the rejoin", (status) => status === "SUBSCRIBED");
    assert.equal(await send(bob.channel, "back", { x: 1 }), "ok");
    assert.deepEqual(await ada.messages.take("the message"), message("back", { x: 1 }));
    assert.deepEqual(bob.messages.items, []);
  });

  it("gives a fresh token by setAuth, and for the next connection in its params", async (t) => {
    const auth = 'secret_file = "secret"\ntoken_param = "apikey"\nexpiry_warning = "1h"';
    const server = await Server.startFor(t, "hailer", guarded({ auth, rest: RULES }));
    const sub = randomUUID();
    const connection = dial(t, server, await mint(sub, { ttl: 600 }), quick);
    const { channel, statuses } = await subscribe(connection, "lobby", { ack: true });
    const replies = new Inbox();
    connection.client.socketAdapter.onMessage(({ event, payload }) => event === "phx_reply" && replies.push(payload));
    const fresh = await mint(sub, { ttl: 7200 });
    await connection.client.setAuth(fresh);
    const { status, response } = await replies.take("the renewal");
    assert.equal(status, "ok");
    assert.ok(response.expires_in > 7000, JSON.stringify(response));
    connection.params.apikey = fresh;
    await server.stop();
    await server.start();
    await statuses.take("the rejoin", (status) => status === "SUBSCRIBED");
    assert.equal(await send(channel, "shout", {}), "ok");
  });

  it("is refused what it may not push, and stays connected", async (t) => {
    const rest = '[[topics]]\npattern = "realtime:*"\njoin = "user"\n';
    const auth = 'secret_file = "secret"\ntoken_param = "apikey"';
    const server = await Server.startFor(t, "hailer", guarded({ auth, rest }));
    const connection = dial(t, server, await mint(randomUUID()));
    const { channel } = await subscribe(connection, "lobby", { ack: true });
    assert.equal(await send(channel, "shout", { x: 1 }), "error");
    assert.equal(await send(channel, "shout", new ArrayBuffer(3)), "error");
    assert.deepEqual(connection.closes.items, []);
  });
});

for (const client of V2_CLIENTS) it(`${client.name} may join as realtime-js does`, async (t) => {
  const server = await Server.startFor(t, "hailer", { args: ["--topic", "room:*"] });
  const connection = await connect(t, server, client);
  const { channel } = await join(connection, "room:a", { config: { broadcast: { ack: true } } });
  assert.deepEqual(await outcomes(channel.push("broadcast", message("shout", {}))).take("the answer"), ["ok", {}]);
  assert.deepEqual(await outcomes(channel.push("presence", {})).take("the answer"), [
    "error",
    { reason: "this server keeps no presence" },
  ]);
});
