// The room of `hailer serve`, as phoenix.js sees it.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { CLIENTS, Inbox, Server, V2_CLIENTS, WAYS, connect, join, outcomes, push } from "./harness.js";

const TOPIC = "room:lobby";

for (const way of WAYS) describe(way.name, () => {
  let server;
  before(async () => (server = await Server.start("hailer", { shards: way.shards })));
  after(() => server.kill());

  /** A socket in the room, with the bodies of all messages it gets. */
  async function enter(t, client) {
    const connection = await connect(t, server, client, way);
    const { channel, received } = await join(connection, TOPIC);
    return { ...connection, channel, payloads: received("new_msg") };
  }

  const says = (body) => (payload) => payload.body === body;

  for (const client of CLIENTS) {
    describe(client.name, () => {
      it("connects", async (t) => {
        const { socket } = await connect(t, server, client, way);
        assert.equal(socket.connectionState(), "open");
      });

      it("joins the room", async (t) => {
        const { socket } = await connect(t, server, client, way);
        const joins = outcomes(socket.channel(TOPIC).join());
        assert.deepEqual(await joins.take("the join's reply"), ["ok", {}]);
      });

      it("is refused a topic that no channel serves", async (t) => {
        const { socket } = await connect(t, server, client, way);
        const joins = outcomes(socket.channel("nowhere").join());
        assert.deepEqual(await joins.take("the refusal"), ["error", { reason: "unmatched topic" }]);
      });

      it("hears each of 200 messages once and in order, as do two others", async (t) => {
        const members = [await enter(t, client), await enter(t, client), await enter(t, client)];
        const sent = Array.from({ length: 200 }, (_, i) => ({ body: `message ${i}` }));
        for (const payload of sent) members[0].channel.push("new_msg", payload);
        for (const { payloads } of members) await payloads.take("the last message", says("message 199"));
        // Whatever came twice has come before what another member says afterwards.
        members[1].channel.push("new_msg", { body: "end" });
        for (const { payloads } of members) {
          await payloads.take("the end", says("end"));
          assert.deepEqual(payloads.items, [...sent, { body: "end" }]);
        }
      });

      it("is sent nothing of a message but its body", async (t) => {
        const { channel, payloads } = await enter(t, client);
        channel.push("new_msg", { from: "mallory", body: "plain", admin: true });
        assert.deepEqual(await payloads.take("the message"), { body: "plain" });
      });

      it("may say anything that JSON can", async (t) => {
        const { channel, payloads } = await enter(t, client);
        for (const body of ["", "\u0000 \" \\ \u2028 \u{1f4e3}", 0.5, null, false, [], { deep: [{ er: 1 }] }]) {
          channel.push("new_msg", { body });
          assert.deepEqual(await payloads.take(`the body ${JSON.stringify(body)}`), { body });
        }
      });

      it("is told why a message without a body is refused, and stays in the room", async (t) => {
        const { channel, payloads } = await enter(t, client);
        const [status, response] = await push(channel, "new_msg", { text: "where is the body?" });
        assert.equal(status, "error");
        assert.ok(typeof response.reason === "string" && response.reason !== "", JSON.stringify(response));
        channel.push("new_msg", { body: "still here" });
        await payloads.take("a message after the refusal");
        assert.deepEqual(payloads.items, [{ body: "still here" }]);
      });

      if (way.longPoll) {
        it("sends no heartbeats, but would get them answered", async (t) => {
          const { socket, messages } = await connect(t, server, client, way, { heartbeatIntervalMs: 1 });
          for (let n = 0; n < 3; n++) {
            const ref = socket.makeRef();
            socket.push({ topic: "phoenix", event: "heartbeat", payload: {}, ref, join_ref: null });
            const reply = await messages.take("the heartbeat's reply");
            assert.deepEqual([reply.ref, reply.topic, reply.event], [ref, "phoenix", "phx_reply"]);
            assert.deepEqual(reply.payload, { status: "ok", response: {} });
          }
          // Every message of the server is the answer to one of ours, which are all that was sent.
          assert.equal(messages.items.length, 3);
        });
      } else {
        it("is kept open by answered heartbeats", async (t) => {
          const { socket, messages, closes } = await connect(t, server, client, way, { heartbeatIntervalMs: 500 });
          for (let n = 1; n <= 2; n++) {
            const reply = await messages.take(`heartbeat ${n}`, ({ topic }) => topic === "phoenix");
            assert.equal(reply.event, "phx_reply");
            assert.deepEqual(reply.payload, { status: "ok", response: {} });
          }
          assert.equal(socket.connectionState(), "open");
          assert.deepEqual(closes.items, []);
        });
      }

      it("hears nothing between leaving and joining again", async (t) => {
        const other = await enter(t, client);
        const { socket, channel, payloads, messages } = await enter(t, client);
        const closed = new Inbox();
        channel.onClose(closed.push);
        const left = outcomes(channel.leave());
        assert.deepEqual(await left.take("the leave's reply"), ["ok", {}]);
        await closed.take("the channel closes");
        await messages.take("phx_close", ({ event }) => event === "phx_close");

        other.channel.push("new_msg", { body: "while away" });
        await other.payloads.take("the message meanwhile");
        const { channel: again, received } = await join({ socket }, TOPIC);
        const since = received("new_msg");
        other.channel.push("new_msg", { body: "welcome back" });
        await since.take("the message afterwards");

        assert.deepEqual(payloads.items, []);
        assert.deepEqual(since.items, [{ body: "welcome back" }]);
        const broadcasts = messages.items.filter(({ event }) => event === "new_msg");
        assert.deepEqual(broadcasts.map(({ payload }) => payload.body), ["welcome back"]);
        assert.equal(again.state, "joined");
      });
    });
  }

  // In V1 a phx_close names no join, so phoenix.js takes the first channel's for the second's.
  for (const client of V2_CLIENTS) {
    describe(`${client.name}, two channels of one topic on one socket`, () => {
      for (const politely of [true, false]) {
        it(`the second replaces the first, ${politely ? "which leaves" : "unannounced"}`, async (t) => {
          const { socket, channel: first, payloads: unheard, messages } = await enter(t, client);
          const closed = new Inbox();
          first.onClose(closed.push);
          // phoenix.js leaves the first by itself; without that, it is for the server to end it.
          if (!politely) socket.leaveOpenTopic = () => {};
          const { channel: second, received } = await join({ socket }, TOPIC);
          const payloads = received("new_msg");
          await closed.take("the first channel closes");
          await messages.take("phx_close", ({ event }) => event === "phx_close");

          second.push("new_msg", { body: "once" });
          second.push("new_msg", { body: "end" });
          await payloads.take("the end", says("end"));
          assert.deepEqual(payloads.items, [{ body: "once" }, { body: "end" }]);
          assert.deepEqual(unheard.items, []);
          assert.equal(messages.items.filter(({ event }) => event === "new_msg").length, 2);
          assert.equal(second.state, "joined");
        });
      }
    });
  }

  for (const client of CLIENTS.filter(({ vsn }) => vsn === "1.0.0")) {
    it(`${client.name}: every message from the server has the four keys of V1`, async (t) => {
      const { channel, payloads, frames, messages } = await enter(t, client);
      channel.push("new_msg", { body: "hi" });
      await payloads.take("the message");
      await push(channel, "new_msg", {});
      channel.leave();
      await messages.take("phx_close", ({ event }) => event === "phx_close");
      const events = new Set();
      for (const frame of frames.items) {
        const message = JSON.parse(frame);
        assert.deepEqual(Object.keys(message).sort(), ["event", "payload", "ref", "topic"], frame);
        events.add(message.event);
      }
      assert.deepEqual([...events].sort(), ["new_msg", "phx_close", "phx_reply"]);
    });
  }

  for (const [one, other] of [CLIENTS, [...CLIENTS].reverse()]) {
    it(`${one.name} is heard by ${other.name}`, async (t) => {
      const [speaker, listener] = [await enter(t, one), await enter(t, other)];
      speaker.channel.push("new_msg", { body: "across" });
      assert.deepEqual(await listener.payloads.take("the message"), { body: "across" });
    });
  }
});
