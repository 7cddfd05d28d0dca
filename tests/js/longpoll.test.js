// What phoenix.js does with long-poll besides what it does with any transport.

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { after, before, describe, it } from "node:test";
import { CLIENTS, Inbox, LONG_POLLS, Server, V2_CLIENTS, connect, join, push, webSocket } from "./harness.js";
import { KeptAlive } from "./xhr.js";

const TOPIC = "room:lobby";
const says = (body) => (payload) => payload.body === body;

let server;
before(async () => (server = await Server.start("hailer", { shards: 4, limits: { poll_window: "1s" } })));
after(() => server.kill());

async function enter(t, client, way) {
  const connection = await connect(t, server, client, way);
  const { channel, received } = await join(connection, TOPIC);
  return { ...connection, channel, payloads: received("new_msg") };
}

describe("a room of both transports", () => {
  it("hears every client alike, each client's messages once and in order", async (t) => {
    const members = [];
    for (const client of CLIENTS) {
      for (const way of [webSocket, ...LONG_POLLS]) members.push(await enter(t, client, way));
    }
    const sent = members.map((_, n) => Array.from({ length: 20 }, (_, i) => `${n}: ${i}`));
    for (const [n, { channel }] of members.entries()) {
      for (const body of sent[n]) channel.push("new_msg", { body });
    }
    for (const { payloads } of members) {
      while (payloads.items.length < sent.flat().length) await payloads.take("all messages");
    }
    members[0].channel.push("new_msg", { body: "end" });
    for (const { payloads } of members) {
      await payloads.take("the end", says("end"));
      const heard = payloads.items.map(({ body }) => body);
      assert.equal(heard.length, sent.flat().length + 1);
      for (const [n, bodies] of sent.entries()) {
        assert.deepEqual(heard.filter((body) => body.startsWith(`${n}: `)), bodies);
      }
    }
  });
});

for (const way of LONG_POLLS) {
  for (const client of CLIENTS) {
    describe(`${client.name}, ${way.name}`, () => {
      it("goes on over windows without a message", async (t) => {
        const polls = new Inbox();
        const counted = class extends way.transport(client) {
          ajax(method, ...rest) {
            if (method === "GET") polls.push("poll");
            super.ajax(method, ...rest);
          }
        };
        const { channel, payloads, closes } = await enter(t, client, { transport: () => counted });
        const other = await enter(t, client, way);
        // The opening, the join's answer, and then one for each window.
        for (let n = 1; n <= 5; n++) await polls.take(`poll ${n}`);
        channel.push("new_msg", { body: "after a while" });
        for (const heard of [payloads, other.payloads]) await heard.take("the message", says("after a while"));
        assert.deepEqual(closes.items, []);
      });

      it("sends far more in one breath than goes in one POST", async (t) => {
        const [speaker, listener] = [await enter(t, client, way), await enter(t, client, webSocket)];
        const sent = Array.from({ length: 950 }, (_, n) => ({ body: `message ${n}` }));
        for (const payload of sent) speaker.channel.push("new_msg", payload);
        for (const { payloads } of [speaker, listener]) {
          await payloads.take("the last message", says("message 949"));
          assert.deepEqual(payloads.items, sent);
        }
      });

      it("is refused a version that is none", async (t) => {
        const errors = new Inbox();
        const socket = new client.Socket(`ws://${server.address}/socket`, {
          transport: way.transport(client),
          vsn: "9.9.9",
        });
        socket.onError(errors.push);
        t.after(() => socket.disconnect());
        socket.connect();
        assert.equal(await errors.take("the refusal"), 403);
      });
    });
  }
}

for (const client of V2_CLIENTS) {
  it(`${client.name}: bytes sent over long-poll reach a WebSocket as they were`, async (t) => {
    const server = await Server.startFor(t, "customChannel", { shards: 4 });
    const [speaker, listener] = [
      await connect(t, server, client, LONG_POLLS[0]),
      await connect(t, server, client, webSocket),
    ];
    const from = await join(speaker, "chat:rust", { name: "ada" });
    const shouts = (await join(listener, "chat:rust", { name: "bob" })).received("shout");
    const bytes = Uint8Array.from({ length: 1000 }, (_, n) => n * 7);
    from.channel.push("shout", bytes.buffer);
    assert.deepEqual([...new Uint8Array(await shouts.take("the bytes"))], [...bytes]);
  });
}

describe("falling back", () => {
  /** A proxy that ends what asks for a WebSocket, as some companies have. */
  async function startProxy(t) {
    const sockets = new Set();
    const keep = (socket) => sockets.add(socket.on("error", () => {}));
    const proxy = net.createServer((client) => {
      keep(client);
      client.once("data", (first) => {
        if (first.includes("/websocket")) return client.destroy();
        const [host, port] = server.address.split(":");
        const upstream = net.connect({ host, port: Number(port) });
        keep(upstream);
        upstream.write(first);
        client.pipe(upstream).pipe(client);
        client.once("close", () => upstream.destroy());
        upstream.once("close", () => client.destroy());
      });
    });
    proxy.listen(0, "127.0.0.1");
    await once(proxy, "listening");
    t.after(() => {
      proxy.close();
      sockets.forEach((socket) => socket.destroy());
    });
    return `127.0.0.1:${proxy.address().port}`;
  }

  for (const client of V2_CLIENTS) {
    const { name, Socket } = client;

    it(`${name} changes to long-poll where WebSockets are blocked`, async (t) => {
      const address = await startProxy(t);
      globalThis.XMLHttpRequest = KeptAlive;
      const stored = new Map();
      const sessionStorage = {
        getItem: (key) => stored.get(key) ?? null,
        setItem: (key, value) => stored.set(key, value),
      };
      const options = { transport: webSocket.transport(), longPollFallbackMs: 500, sessionStorage };
      const socket = new Socket(`ws://${address}/socket`, options);
      const opens = new Inbox();
      socket.onOpen(() => opens.push("open"));
      t.after(() => socket.disconnect());
      socket.connect();
      await opens.take("the connection");
      const { channel, received } = await join({ socket }, TOPIC);
      const payloads = received("new_msg");
      channel.push("new_msg", { body: "around the wall" });
      await payloads.take("the message", says("around the wall"));
      assert.equal(socket.transport, client.LongPoll);
      assert.deepEqual([...stored], [["phx:fallback:LongPoll", "true"]]);
    });

    it(`${name} stays with WebSockets where they get through`, async (t) => {
      const options = { longPollFallbackMs: 500 };
      const { socket } = await connect(t, server, client, webSocket, options);
      const { channel } = await join({ socket }, TOPIC);
      const [status] = await push(channel, "new_msg", {});
      assert.equal(status, "error");
      assert.equal(socket.transport, webSocket.transport());
    });
  }
});

describe("phoenix.js 1.8 over fetch", () => {
  it("joins, says and hears", async (t) => {
    const [{ Socket, LongPoll }] = V2_CLIENTS;
    globalThis.XMLHttpRequest = undefined;
    const socket = new Socket(`ws://${server.address}/socket`, { transport: LongPoll });
    t.after(() => socket.disconnect());
    socket.connect();
    const { channel, received } = await join({ socket }, TOPIC);
    const payloads = received("new_msg");
    for (let n = 0; n < 20; n++) {
      channel.push("new_msg", { body: `fetched ${n}` });
      await payloads.take(`message ${n}`, says(`fetched ${n}`));
    }
  });
});
