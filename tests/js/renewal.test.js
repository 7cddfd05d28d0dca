// Tokens that run out while their sockets live, and phoenix.js 1.8's `authToken`.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { CLIENTS, Inbox, LONG_POLLS, Server, connect, dial, join, outcomes, push, webSocket } from "./harness.js";
import { guarded, isRefusal, mint } from "./tokens.js";

const LOBBY = "room:lobby";

/**
 * How long short tokens are good. They are warned of from their beginning on, and there are as many seconds again
 * to renew them: a busy machine is not to decide what happens.
 */
const SHORT = 3;
const TIMES = `allowed_drift = "0s"\nexpiry_warning = "${SHORT}s"\nexpiry_grace = "${SHORT}s"`;
const AUTH = `secret_file = "secret"\n${TIMES}`;

/** Waits for the server to end a socket. On long-poll the codes are the client's own, when its session is gone. */
async function expectClosed({ name, way, closes }, expected) {
  const code = await closes.take(`${name} is closed`);
  assert.ok((way.longPoll ? [1008, 1011, 3410] : [expected]).includes(code), `${name}: closed with ${code}`);
}

for (const shards of [1, 4]) describe(`with --shards ${shards}`, () => {
  let server;
  before(async () => (server = await Server.start("hailer", guarded({ shards, auth: AUTH }))));
  after(() => server.kill());

  /** A user's socket with a short token, that gets a long one from its params function when it comes back. */
  async function enter(t, client, way) {
    const sub = randomUUID();
    const [short, long] = [await mint(sub, { ttl: SHORT }), await mint(sub)];
    const given = [];
    const params = () => {
      given.push(given.length === 0 ? short : long);
      return { token: given.at(-1) };
    };
    const connection = dial(t, server, client, way, { params });
    const channel = connection.socket.channel(LOBBY);
    const warnings = new Inbox();
    channel.on("token_expiring", warnings.push);
    const name = `${client.name}, ${way.name}`;
    await outcomes(channel.join()).take(`${name} joins`, ([status]) => status === "ok");
    await connection.opens.take(`${name} has opened`);
    return { ...connection, name, way, sub, given, channel, warnings };
  }

  const enterAll = (t) =>
    Promise.all(CLIENTS.flatMap((client) => [webSocket, ...LONG_POLLS].map((way) => enter(t, client, way))));

  it("who renews the token lives on, and who does not is closed and comes back with a fresh one", async (t) => {
    const [renewing, idle] = [await enterAll(t), await enterAll(t)];
    await Promise.all(renewing.map(async ({ name, sub, channel, warnings }) => {
      const { expires_in: seconds } = await warnings.take(`${name} is warned`);
      assert.ok(Number.isInteger(seconds) && seconds >= 0 && seconds <= SHORT, `expires in ${seconds} s`);
      const [status, response] = await push(channel, "access_token", { access_token: await mint(sub) });
      assert.equal(status, "ok", `${name}: ${JSON.stringify(response)}`);
      assert.ok(response.expires_in > 3000 && response.expires_in <= 3600, `expires in ${response.expires_in} s`);
    }));
    // Whose tokens have run out no earlier than those that were renewed.
    await Promise.all(idle.map(async (connection) => {
      await connection.warnings.take(`${connection.name} is warned`);
      await expectClosed(connection, 4001);
      await connection.opens.take(`${connection.name} comes back`);
      const [first, second] = connection.given;
      assert.ok(second !== undefined && second !== first, `${connection.name} comes back with a fresh token`);
    }));
    for (const { name, closes, given, channel } of renewing) {
      // An event that nobody may push is answered, so the channel lives.
      assert.deepEqual(await push(channel, "new_msg", {}), ["error", { reason: "unauthorized" }], name);
      assert.deepEqual({ name, closes: closes.items, given: given.length }, { name, closes: [], given: 1 });
    }
  });
});

for (const way of [webSocket, ...LONG_POLLS]) for (const client of CLIENTS) {
  describe(`${client.name}, ${way.name}`, () => {
    let server;
    before(async () => (server = await Server.start("hailer", guarded({ shards: 4 }))));
    after(() => server.kill());

    const enter = async (t, sub, claims) => {
      const params = { token: await mint(sub, claims) };
      const connection = await connect(t, server, client, way, { params });
      return { ...connection, name: client.name, way, ...(await join(connection, LOBBY)) };
    };
    const renew = async (channel, token) => push(channel, "access_token", { access_token: await token });

    it("another user's token closes the socket, which comes back as who it was", async (t) => {
      const [alice, mallory] = [randomUUID(), randomUUID()];
      const connection = await enter(t, alice);
      connection.channel.push("access_token", { access_token: await mint(mallory) });
      await expectClosed(connection, 4003);
      await connection.opens.take("it comes back");
      await join(connection, `user:${alice}`);
    });

    it("a bad token renews nothing and ends nothing", async (t) => {
      const sub = randomUUID();
      const { channel, closes } = await enter(t, sub);
      for (const [token, reason] of [
        [mint(sub, { ttl: -60 }), "token expired"],
        [mint(sub, { key: "y".repeat(64) }), "bad token signature"],
        [mint(sub, { typ: "refresh" }), "wrong token type"],
        ["nonsense", "malformed token"],
      ]) {
        assert.deepEqual(await renew(channel, token), ["error", { reason }]);
      }
      const [status] = await push(channel, "access_token", { token: "under another name" });
      assert.equal(status, "error");
      assert.deepEqual(closes.items, []);
    });

    it("the rights are those of the fresh token", async (t) => {
      const sub = randomUUID();
      const { channel, received } = await enter(t, sub);
      const messages = received("new_msg");
      const say = (body) => push(channel, "new_msg", { body });
      assert.deepEqual(await say("too early"), ["error", { reason: "unauthorized" }]);
      assert.equal((await renew(channel, mint(sub, { staff: true })))[0], "ok");
      channel.push("new_msg", { body: "in time" });
      assert.deepEqual(await messages.take("the message"), { body: "in time" });
      assert.equal((await renew(channel, mint(sub)))[0], "ok");
      assert.deepEqual(await say("too late"), ["error", { reason: "unauthorized" }]);
      assert.equal(messages.items.length, 1);
    });
  });
}

for (const way of [webSocket, ...LONG_POLLS]) for (const client of CLIENTS) {
  if (!client.name.startsWith("phoenix.js 1.8")) continue;
  describe(`authToken, ${client.name}, ${way.name}`, () => {
    let server;
    before(async () => (server = await Server.start("hailer", guarded({ shards: 4 }))));
    after(() => server.kill());

    it("lets its user in", async (t) => {
      const sub = randomUUID();
      const connection = await connect(t, server, client, way, { authToken: await mint(sub) });
      await join(connection, LOBBY);
      await join(connection, `user:${sub}`);
      if (!way.longPoll) assert.equal(connection.socket.conn.protocol, "phoenix");
    });

    it("goes before the token of the params", async (t) => {
      const [alice, bob] = [randomUUID(), randomUUID()];
      const options = { authToken: await mint(alice), params: { token: await mint(bob) } };
      const connection = await connect(t, server, client, way, options);
      await join(connection, `user:${alice}`);
    });

    it("that is no good is refused, though the params hold a good one", async (t) => {
      const sub = randomUUID();
      for (const [token, reason] of [
        [await mint(sub, { ttl: -60 }), "token expired"],
        [await mint(sub, { key: "z".repeat(64) }), "bad token signature"],
      ]) {
        const options = { authToken: token, params: { token: await mint(sub) } };
        const { socket, opens, closes } = dial(t, server, client, way, options);
        assert.equal(await closes.take("the refusal"), way.longPoll ? 1008 : 1006);
        socket.disconnect();
        await server.log.take("the log", (line) => isRefusal(line, reason));
        assert.deepEqual(opens.items, []);
      }
    });

    it("may be a function that renews", async (t) => {
      const sub = randomUUID();
      const unused = [await mint(sub, { ttl: -60 }), await mint(sub)];
      const authToken = () => (unused.length > 1 ? unused.shift() : unused[0]);
      const connection = await connect(t, server, client, way, { authToken });
      assert.deepEqual([connection.closes.items.length, unused.length], [1, 1]);
      await join(connection, `user:${sub}`);
    });
  });
}
