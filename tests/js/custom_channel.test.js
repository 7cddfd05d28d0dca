// The example `custom_channel`: replies, broadcasts, bytes, and a channel that ends itself.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { CLIENTS, Inbox, Server, V2_CLIENTS, WAYS, connect, join, outcomes, push } from "./harness.js";

const TOPIC = "chat:rust";
const BYTES = Uint8Array.from({ length: 256 }, (_, i) => i).buffer;

for (const way of WAYS) describe(way.name, () => {
  let server;
  before(async () => (server = await Server.start("customChannel", { shards: way.shards })));
  after(() => server.kill());

  /** A socket in the chat, with the payloads of both events that others hear. */
  async function enter(t, client, name) {
    const connection = await connect(t, server, client, way);
    const { channel, received } = await join(connection, TOPIC, { name });
    return { ...connection, channel, shouts: received("shout"), whispers: received("whisper") };
  }

  /** Bytes are compared as an array: an ArrayBuffer equals every other. */
  const bytes = (buffer) => {
    assert.ok(buffer instanceof ArrayBuffer, `bytes, not ${JSON.stringify(buffer)}`);
    return [...new Uint8Array(buffer)];
  };

  for (const client of CLIENTS) {
    describe(client.name, () => {
      it("joins with a name", async (t) => {
        const { socket } = await connect(t, server, client, way);
        const joins = outcomes(socket.channel(TOPIC, { name: "ada" }).join());
        const [status] = await joins.take("the join's reply");
        assert.equal(status, "ok");
      });

      it("is refused without a name", async (t) => {
        const { socket } = await connect(t, server, client, way);
        const joins = outcomes(socket.channel(TOPIC).join());
        assert.deepEqual(await joins.take("the refusal"), ["error", { reason: "name required" }]);
      });

      it("is refused a topic outside the pattern", async (t) => {
        const { socket } = await connect(t, server, client, way);
        const joins = outcomes(socket.channel("chat", { name: "ada" }).join());
        assert.deepEqual(await joins.take("the refusal"), ["error", { reason: "unmatched topic" }]);
      });

      it("gets the payload of a ping back as it was", async (t) => {
        const { channel } = await enter(t, client, "ada");
        for (const payload of [{}, { a: [1, 2.5, "\u00e9\n\u{1f4e3}", null, { b: true }], "": -0.001 }]) {
          assert.deepEqual(await push(channel, "ping", payload), ["ok", payload]);
        }
      });

      it("shouts to everybody, itself included", async (t) => {
        const [ada, bob] = [await enter(t, client, "ada"), await enter(t, client, "bob")];
        ada.channel.push("shout", { words: ["hear", "me"] });
        for (const { shouts } of [ada, bob]) {
          assert.deepEqual(await shouts.take("the shout"), { words: ["hear", "me"] });
        }
      });

      it("whispers to everybody but itself", async (t) => {
        const [ada, bob] = [await enter(t, client, "ada"), await enter(t, client, "bob")];
        ada.channel.push("whisper", { words: "psst" });
        assert.deepEqual(await bob.whispers.take("the whisper"), { words: "psst" });
        // Messages of one topic arrive in order, so a whisper to herself would have come before this.
        bob.channel.push("shout", {});
        await ada.shouts.take("a later message");
        assert.deepEqual(ada.whispers.items, []);
      });

      it("keeps the topics of one socket apart", async (t) => {
        const { socket, channel, shouts } = await enter(t, client, "ada");
        const other = await join({ socket }, "chat:elixir", { name: "ada" });
        const otherShouts = other.received("shout");
        other.channel.push("shout", { in: "elixir" });
        channel.push("shout", { in: "rust" });
        await otherShouts.take("the shout in one");
        await shouts.take("the shout in the other");
        assert.deepEqual([otherShouts.items, shouts.items], [[{ in: "elixir" }], [{ in: "rust" }]]);
      });

      it("does not come back to a channel that the server has stopped", async (t) => {
        const { socket, channel, messages } = await enter(t, client, "ada");
        const other = await join({ socket }, "chat:elixir", { name: "ada" });
        const closed = new Inbox();
        channel.onClose(closed.push);
        channel.push("bye");
        await closed.take("the channel closes");
        assert.equal(channel.state, "closed");
        assert.deepEqual(await push(other.channel, "ping", { still: "here" }), ["ok", { still: "here" }]);
        const closes = messages.items.filter(({ event }) => event === "phx_close");
        assert.deepEqual(closes.map(({ topic, payload }) => [topic, payload]), [[TOPIC, {}]]);
      });
    });
  }

  for (const client of V2_CLIENTS) {
    describe(`${client.name}, bytes`, () => {
      it("gets the bytes of a ping back as they were", async (t) => {
        const { channel } = await enter(t, client, "ada");
        for (const payload of [BYTES, new ArrayBuffer(0)]) {
          const [status, response] = await push(channel, "ping", payload);
          assert.equal(status, "ok");
          assert.deepEqual(bytes(response), bytes(payload));
        }
      });

      it("shouts and whispers bytes", async (t) => {
        const [ada, bob] = [await enter(t, client, "ada"), await enter(t, client, "bob")];
        ada.channel.push("whisper", BYTES);
        ada.channel.push("shout", BYTES);
        for (const heard of [bob.whispers, bob.shouts, ada.shouts]) {
          assert.deepEqual(bytes(await heard.take("the bytes")), bytes(BYTES));
        }
        assert.deepEqual(ada.whispers.items, []);
      });
    });
  }
});
