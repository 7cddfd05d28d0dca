// Customers with tokens: who is let in, what they may do, and what the log says of those who are not.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { CLIENTS, Server, WAYS, connect, dial, join, outcomes, push } from "./harness.js";
import { guarded, isRefusal, keepSecret, mint } from "./tokens.js";

const LOBBY = "room:lobby";
const UNAUTHORIZED = ["error", { reason: "unauthorized" }];

/** Tokens that are no good, and why. */
const BAD = [
  ["none", () => undefined, "no token"],
  ["an empty one", () => "", "no token"],
  ["one that has run out", (sub) => mint(sub, { ttl: -60 }), "token expired"],
  ["one that is signed with another secret", (sub) => mint(sub, { key: "x".repeat(64) }), "bad token signature"],
  ["one of another application", (sub) => mint(sub, { iss: "others" }), "wrong token issuer"],
  ["one for another application", (sub) => mint(sub, { aud: "others" }), "wrong token audience"],
  ["a refresh token", (sub) => mint(sub, { typ: "refresh" }), "wrong token type"],
  ["no token at all", () => keepSecret(`customer.${randomUUID()}.nonsense`), "malformed token header"],
];

for (const way of WAYS) describe(way.name, () => {
  let server;
  before(async () => (server = await Server.start("hailer", guarded({ shards: way.shards }))));
  after(() => server.kill());

  const enter = async (t, client, sub, claims) =>
    connect(t, server, client, way, { params: { token: await mint(sub, claims), locale: "en" } });

  for (const client of CLIENTS) describe(client.name, () => {
    it("a customer joins the lobby and the own topic", async (t) => {
      const sub = randomUUID();
      const connection = await enter(t, client, sub);
      await join(connection, LOBBY);
      await join(connection, `user:${sub}`);
    });

    it("another user's topic is refused in the same words as one that does not exist", async (t) => {
      const [alice, bob] = [randomUUID(), randomUUID()];
      const connection = await enter(t, client, alice);
      await join(await enter(t, client, bob), `user:${bob}`);
      for (const topic of [`user:${bob}`, `user:${randomUUID()}`, "user:*", "user:", "room:attic", "nothing"]) {
        const joins = outcomes(connection.socket.channel(topic).join());
        assert.deepEqual(await joins.take(`an answer to the join of ${topic}`), UNAUTHORIZED);
      }
      const refused = connection.messages.items.map(({ join_ref, ref, topic, ...message }) => {
        if (client.vsn === "2.0.0") assert.equal(join_ref, ref, topic);
        return JSON.stringify(message);
      });
      assert.equal(new Set(refused).size, 1);
    });

    it("a customer's message is refused and reaches nobody, staff's reaches all", async (t) => {
      const members = [];
      for (const claims of [{}, {}, { staff: true }, { staff: "true" }, { staff: false }]) {
        const { channel, received } = await join(await enter(t, client, randomUUID(), claims), LOBBY);
        members.push({ channel, messages: received("new_msg"), staff: claims.staff === true });
      }
      for (const { channel, staff } of members) {
        if (!staff) assert.deepEqual(await push(channel, "new_msg", { body: "win a prize" }), UNAUTHORIZED);
      }
      const [speaker] = members.filter(({ staff }) => staff);
      speaker.channel.push("new_msg", { body: "we close at six" });
      assert.deepEqual(await push(speaker.channel, "shout", { body: "six!" }), UNAUTHORIZED);
      for (const { messages } of members) {
        assert.deepEqual(await messages.take("the message"), { body: "we close at six" });
      }
      for (const { messages } of members) assert.equal(messages.items.length, 1);
    });

    it("nobody but the server writes to a user's topic", async (t) => {
      const sub = randomUUID();
      const { channel, received } = await join(await enter(t, client, sub, { staff: true }), `user:${sub}`);
      const messages = received("new_msg");
      assert.deepEqual(await push(channel, "new_msg", { body: "to myself" }), UNAUTHORIZED);
      assert.deepEqual(messages.items, []);
    });

    it("who has no good token is refused, and the log says why", async (t) => {
      // Of its own: a server writes no more than a few such lines in a second.
      const server = await Server.startFor(t, "hailer", guarded({ shards: way.shards }));
      for (const [what, make, reason] of BAD) {
        const token = await make(randomUUID());
        const params = token === undefined ? {} : { token };
        const { socket, opens, closes } = dial(t, server, client, way, { params });
        assert.equal(await closes.take(`the refusal of ${what}`), way.longPoll ? 1008 : 1006);
        socket.disconnect();
        const name = `${way.longPoll ? "long-poll" : "WebSocket"} `;
        await server.log.take(`the log of ${what}`, (line) => line.includes(name) && isRefusal(line, reason));
        assert.deepEqual(opens.items, []);
      }
    });
  });
});
