// What is wrong with one message costs a client that message alone, as phoenix.js sees it.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { CLIENTS, Server, WAYS, connect, dial, join, outcomes, push } from "./harness.js";

const LONG = `room:${"x".repeat(300)}`;
const HALF = "a string in the message has a \\u escape that is half of a surrogate pair";
const quick = { reconnectAfterMs: () => 50, rejoinAfterMs: () => 50 };

for (const way of WAYS) describe(way.name, () => {
  let server;
  before(async () => (server = await Server.start("hailer", { shards: way.shards, args: ["--topic", "room:*"] })));
  after(() => server.kill());

  for (const client of CLIENTS) describe(client.name, () => {
    for (const [what, topic, params, reason] of [
      ["a topic that is too long", LONG, {}, "the topic is too long (limit topic_bytes_max)"],
      ["half an emoji in the params of a join", "room:a", { name: "Zoe \ud83d" }, HALF],
    ]) it(`${what} does not close the socket`, async (t) => {
      const connection = dial(t, server, client, way, quick);
      await connection.opens.take("the socket is open");
      const lobby = await join(connection, "room:lobby");
      const joins = outcomes(connection.socket.channel(topic, params).join());
      // phoenix.js asks again by itself.
      for (let n = 0; n < 5; n++) assert.deepEqual(await joins.take("the refusal"), ["error", { reason }]);
      assert.equal(connection.opens.items.length, 1);
      assert.equal(lobby.joins.items.length, 1);
      assert.deepEqual(connection.closes.items, []);
    });

    it("a push that is wrong is answered, and the next one is heard", async (t) => {
      const connection = await connect(t, server, client, way);
      const { channel, received } = await join(connection, "room:b");
      const messages = received("new_msg");
      let deep = [];
      for (let n = 0; n < 100; n++) deep = [deep];
      const refused = [
        ["new_msg", { body: "Zoe \ud83d" }, HALF],
        ["new_msg", { body: deep }, "arrays and objects are nested too deep in the message (limit json_depth_max)"],
        ["e".repeat(300), {}, "the event is too long (limit event_bytes_max)"],
      ];
      for (const [event, payload, reason] of refused) {
        assert.deepEqual(await push(channel, event, payload), ["error", { reason }]);
      }
      channel.push("new_msg", { body: "whole" });
      assert.deepEqual(await messages.take("the message"), { body: "whole" });
      assert.equal(messages.items.length, 1);
    });
  });
});
