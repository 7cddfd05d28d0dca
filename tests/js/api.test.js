// The HTTP API of a real server, with real clients: what back ends do reaches them, and every answer is held against
// docs/openapi.json.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { Caller, UNCALLED, UNSEEN, makeKey } from "./contract.js";
import { CLIENTS, LONG_POLLS, Server, connect, deadline, join, webSocket } from "./harness.js";
import { guarded, mint } from "./tokens.js";

const [CLIENT] = CLIENTS;
const ALL = ["publish", "disconnect", "read"];
const [everything, limited, reader, writer] = [
  makeKey("everything", ALL),
  makeKey("limited", ALL, ["room:lobby", "user:{sub}"]),
  makeKey("reader", ["read"]),
  makeKey("writer", ["publish", "disconnect"]),
];
const KEYS = [everything, limited, reader, writer].map(({ lines }) => lines).join("\n");
const OPTIONS = guarded({ rest: KEYS, api: true });
const bearer = ({ key }) => ({ authorization: `Bearer ${key}` });

let server, api;
before(async () => {
  server = await Server.start("hailer", OPTIONS);
  api = new Caller(server, bearer(everything));
});
after(() => server.kill());

/** What `probe` finds, asked until it finds something. */
const found = (what, probe) =>
  deadline(
    (async () => {
      for (;;) {
        const value = await probe();
        if (value) return value;
      }
    })(),
    what,
  );

/** A customer in the lobby and in the topic of its own, and what it gets there. */
async function enter(t, way = webSocket, event = "new_msg", where = server) {
  const sub = randomUUID();
  const connection = await connect(t, where, CLIENT, way, { params: { token: await mint(sub) } });
  const lobby = await join(connection, "room:lobby");
  const own = await join(connection, `user:${sub}`);
  const [inLobby, onOwn] = [lobby.received(event), own.received(event)];
  return { sub, connection, lobby, own, inLobby, onOwn };
}

const lobby = (body, more = {}) => ({ topic: "room:lobby", event: "new_msg", payload: { body }, ...more });

describe("publishing", () => {
  for (const way of [webSocket, LONG_POLLS[0]]) {
    it(`a message reaches everybody in the topic, on ${way.name}`, async (t) => {
      const server = await Server.startFor(t, "hailer", OPTIONS);
      const api = new Caller(server, { "x-api-key": writer.key });
      const [one, two] = [await enter(t, way, "new_msg", server), await enter(t, way, "new_msg", server)];
      const published = await api.post("/api/v1/publish", lobby("hello"));
      assert.deepEqual([published.topic, published.subscribers], ["room:lobby", 2]);
      for (const { inLobby } of [one, two]) assert.deepEqual(await inLobby.take("it"), { body: "hello" });
    });
  }

  it("a message to a user reaches that user alone", async (t) => {
    const [one, two] = [await enter(t), await enter(t)];
    const message = { user: one.sub, event: "new_msg", payload: { body: "for you" } };
    const published = await api.post("/api/v1/publish", message);
    assert.deepEqual([published.topic, published.subscribers], [`user:${one.sub}`, 1]);
    assert.deepEqual(await one.onOwn.take("it"), { body: "for you" });
    await api.post("/api/v1/publish", lobby("behind it"));
    await two.inLobby.take("what came behind it");
    assert.deepEqual(two.onOwn.items, []);
  });

  it("a batch arrives in its order, or not at all", async (t) => {
    const { sub, inLobby, onOwn } = await enter(t);
    const messages = [lobby("one"), { user: sub, event: "new_msg", payload: { body: "two" } }, lobby("three")];
    const { messages: published } = await api.post("/api/v1/batch", { messages });
    const [first, second, third] = published.map(({ offset }) => offset);
    assert.deepEqual([second, third], [first + 1, first + 2]);
    const bad = [...messages, lobby("four", { event: "phx_join" })];
    const { body } = await api.ask("post", "/api/v1/batch", { body: { messages: bad } });
    assert.deepEqual([body.error.code, body.error.field], ["invalid_request", "messages[3].event"]);
    await api.post("/api/v1/publish", lobby("five"));
    for (const text of ["one", "three", "five"]) assert.equal((await inLobby.take(text)).body, text);
    assert.equal((await onOwn.take("two")).body, "two");
    assert.equal(inLobby.items.length, 3);
  });

  it("a caller of Supabase is served", async (t) => {
    const { inLobby } = await enter(t);
    const supabase = new Caller(server, { apikey: everything.key, authorization: "" });
    await supabase.post("/api/broadcast", { messages: [{ ...lobby("from there"), private: true }] });
    assert.deepEqual(await inLobby.take("it"), { body: "from there" });
  });

  it("a request that is repeated with its idempotency key publishes once", async (t) => {
    const { inLobby } = await enter(t);
    const key = randomUUID();
    const first = await api.ask("post", "/api/v1/publish", { body: lobby("once", { idempotency_key: key }) });
    const headers = { "idempotency-key": key };
    const again = await api.ask("post", "/api/v1/publish", { body: lobby("once"), headers });
    assert.deepEqual(again.body, first.body);
    assert.deepEqual(
      [first, again].map(({ headers }) => headers.get("idempotent-replayed")),
      [null, "true"],
    );
    await api.refused("idempotency_mismatch", "post", "/api/v1/publish", { body: lobby("else"), headers });
    await api.refused("idempotency_mismatch", "post", "/api/v1/batch", {
      body: { messages: [lobby("else")] },
      headers,
    });
    await api.refused("idempotency_mismatch", "post", "/api/broadcast", {
      body: { messages: [lobby("else")] },
      headers,
    });
    const other = new Caller(server, bearer(limited));
    await other.post("/api/v1/publish", lobby("another key's"), headers);
    for (const text of ["once", "another key's"]) assert.equal((await inLobby.take(text)).body, text);
    assert.equal(inLobby.items.length, 2);
  });

  it("a message with a lifetime reaches those who come later, until it is retracted", async (t) => {
    const first = await enter(t, webSocket, "retract");
    const published = await api.post("/api/v1/publish", lobby("stays", { expires_in: 600 }));
    const late = await connect(t, server, CLIENT, webSocket, { params: { token: await mint(randomUUID()) } });
    const channel = late.socket.channel("room:lobby");
    channel.join();
    const got = await late.messages.take("what was kept", ({ event }) => event === "new_msg");
    const { expires_at, ...rest } = got.payload;
    assert.deepEqual(rest, { body: "stays", id: published.id });
    assert.ok(Math.abs(expires_at - Date.now() - 600_000) < 60_000, `it expires at ${expires_at}`);
    const { message } = await api.post("/api/v1/retract", { id: published.id });
    assert.deepEqual([message.state, message.ended_by], ["retracted", "key:everything"]);
    assert.deepEqual(await first.inLobby.take("the retraction"), { id: published.id });
    const latest = await enter(t);
    await api.post("/api/v1/publish", lobby("next"));
    assert.deepEqual(await latest.inLobby.take("only what is new"), { body: "next" });
    assert.equal((await api.post("/api/v1/retract", { id: published.id })).message.state, "retracted");
    await api.refused("conflict", "post", "/api/v1/cancel", { body: { id: published.id } });
  });

  it("a scheduled message can be cancelled, and is not retracted", async () => {
    const send_at = Math.floor(Date.now() / 1000) + 3600;
    const published = await api.post("/api/v1/publish", lobby("later", { send_at, with_id: true }));
    assert.equal(published.state, "scheduled");
    await api.refused("conflict", "post", "/api/v1/retract", { body: { id: published.id } });
    const { message } = await api.post("/api/v1/cancel", { id: published.id });
    assert.deepEqual([message.state, message.send_at], ["cancelled", send_at * 1000]);
    await api.refused("conflict", "post", "/api/v1/cancel", { body: { id: published.id } });
  });

  it("receipts show who has a message", async (t) => {
    const { sub, onOwn } = await enter(t);
    const message = { user: sub, event: "new_msg", payload: { body: "counted" }, receipts: true };
    const { id } = await api.post("/api/v1/publish", message);
    await onOwn.take("it");
    const progress = await found("the end of the count", async () => {
      const { progress } = await api.get(`/api/v1/messages/${id}`);
      return progress.done && progress;
    });
    assert.deepEqual([progress.addressed, progress.received], [1, 1]);
  });
});

describe("looking around", () => {
  it("clients are where the API says they are", async (t) => {
    const [one, two] = [await enter(t, webSocket), await enter(t, LONG_POLLS[0])];
    const page = await api.get(`/api/v1/connections?user=${one.sub}`);
    const [connection] = page.connections;
    assert.deepEqual([connection.transport, connection.user], ["websocket", one.sub]);
    assert.deepEqual(connection.topics.toSorted(), ["room:lobby", `user:${one.sub}`]);
    const polled = await api.get("/api/v1/connections?topic=room:lobby&transport=longpoll");
    assert.ok(polled.connections.some(({ user }) => user === two.sub));
    for (const order of ["oldest", "slowest"]) {
      assert.equal((await api.get(`/api/v1/connections?order=${order}&limit=1`)).connections.length, 1);
    }
    const [first] = (await api.get("/api/v1/connections?limit=1")).connections;
    const next = (await api.get("/api/v1/connections?limit=1")).next;
    const [second] = (await api.get(`/api/v1/connections?limit=1&after=${next}`)).connections;
    assert.notEqual(first.id, second.id);

    const { topics } = await api.get(`/api/v1/topics?prefix=user:${one.sub}`);
    assert.deepEqual(topics, [{ topic: `user:${one.sub}`, subscribers: 1, websocket: 1, longpoll: 0, behind: 0 }]);
    const user = await api.get(`/api/v1/users/${one.sub}`);
    assert.deepEqual([user.online, user.topic, user.connections.length], [true, `user:${one.sub}`, 1]);
    const nobody = await api.get(`/api/v1/users/${encodeURIComponent("nobody/ at all")}`);
    assert.deepEqual([nobody.user, nobody.online], ["nobody/ at all", false]);
  });

  it("what was sent is in the history", async () => {
    const text = randomUUID();
    const { id } = await api.post("/api/v1/publish", lobby(`find me: ${text}`, { durability: "memory" }));
    const message = await found("its record", async () => {
      const { messages } = await api.get(`/api/v1/history?text=${text.toUpperCase()}&topic=room:lobby&state=sent`);
      return messages[0];
    });
    assert.deepEqual([message.id, message.sender], [id, "key:everything"]);
    assert.deepEqual(message.payload, { body: `find me: ${text}` });
    const page = await api.get("/api/v1/history?limit=1&sender=key:");
    const older = await api.get(`/api/v1/history?limit=1&before=${page.next}`);
    assert.notEqual(page.messages[0].id, older.messages[0].id);
    assert.equal((await api.get(`/api/v1/messages/${id}`)).message.id, id);
    await api.refused("not_found", "get", "/api/v1/messages/none");
    for (const path of ["retract", "cancel"]) {
      await api.refused("not_found", "post", `/api/v1/${path}`, { body: { id: "none" } });
    }
  });

  it("a token is checked without letting anybody in", async () => {
    const sub = randomUUID();
    const [good, old] = [await mint(sub), await mint(sub, { ttl: -60 })];
    const checked = await api.post("/api/v1/token/check", { token: good });
    assert.deepEqual([checked.valid, checked.user], [true, sub]);
    const { body } = await api.ask("get", "/api/v1/token/check", { headers: { "x-hailer-token": old } });
    assert.equal(body.valid, false);
    assert.match(body.reason, /^token expired: claim exp was 6\d s ago \(auth\.allowed_drift is 10 s\)$/);
  });

  it("the server tells how it is", async () => {
    const anybody = new Caller(server, {});
    assert.deepEqual(await anybody.get("/live"), { live: true });
    assert.equal((await anybody.get("/ready")).ready, true);
    const { text } = await anybody.ask("get", "/metrics");
    assert.ok(text.endsWith("# EOF\n"), text.slice(-200));
    assert.equal((await anybody.get("/api/v1/openapi.json")).openapi, "3.1.0");
    for (const path of ["/live", "/metrics", "/api/v1/openapi.json"]) {
      const head = await fetch(`${server.api}${path}`, { method: "HEAD" });
      assert.deepEqual([head.status, await head.text()], [200, ""], path);
      assert.ok(Number(head.headers.get("content-length")) > 0, path);
    }
  });
});

describe("disconnecting", () => {
  it("a user's clients are closed and no others", async (t) => {
    const [one, two] = [await enter(t), await enter(t)];
    const { sockets } = await api.post("/api/v1/disconnect", { user: one.sub, reconnect: false });
    assert.equal(sockets, 1);
    assert.equal(await one.connection.closes.take("its close"), 1000);
    assert.deepEqual(two.connection.closes.items, []);
    const { connections } = await api.get(`/api/v1/connections?user=${two.sub}`);
    const [{ id }] = connections;
    assert.equal((await api.post("/api/v1/disconnect", { connection: id })).sockets, 1);
    assert.notEqual(await two.connection.closes.take("its close"), 1000);
  });
});

describe("refusals", () => {
  const PATHS = [
    ["post", "/api/v1/publish"],
    ["post", "/api/v1/batch"],
    ["post", "/api/v1/retract"],
    ["post", "/api/v1/cancel"],
    ["post", "/api/broadcast"],
    ["post", "/api/v1/disconnect"],
    ["post", "/api/v1/token/check"],
    ["get", "/api/v1/token/check"],
    ["get", "/api/v1/connections"],
    ["get", "/api/v1/topics"],
    ["get", "/api/v1/users/42"],
    ["get", "/api/v1/history"],
    ["get", "/api/v1/messages/none"],
  ];

  it("without a good key nothing is told", async () => {
    const nobody = new Caller(server, {});
    const stranger = new Caller(server, { "x-api-key": "hlr_stranger" });
    for (const [method, path] of PATHS) await nobody.refused("unauthorized", method, path, {});
    await stranger.refused("unauthorized", "get", "/api/v1/topics");
    const two = new Caller(server, { "x-api-key": reader.key, ...bearer(everything) });
    await two.refused("several_keys", "get", "/api/v1/topics");
  });

  it("a key in an address is refused with the header that is for it", async () => {
    for (const [method, path] of [...PATHS, ["get", "/live"], ["get", "/ready"], ["get", "/api/v1/openapi.json"]]) {
      const message = await api.refused("key_in_query", method, `${path}?api_key=${everything.key}`, {});
      assert.match(message, /Authorization: Bearer/);
    }
    await api.refused("key_in_query", "get", `/metrics?token=${everything.key}`);
  });

  it("a key does what it is for", async () => {
    const read = new Caller(server, bearer(reader));
    const write = new Caller(server, bearer(writer));
    for (const [method, path] of PATHS.slice(0, 6)) await read.refused("forbidden", method, path, { body: {} });
    for (const [method, path] of PATHS.slice(6)) await write.refused("forbidden", method, path, {});
    const some = new Caller(server, bearer(limited));
    await some.refused("topic_forbidden", "post", "/api/v1/publish", { body: { ...lobby("no"), topic: "room:b" } });
    for (const path of ["connections", "topics", "history"]) {
      await some.refused("topic_forbidden", "get", `/api/v1/${path}`);
    }
    await some.refused("topic_forbidden", "post", "/api/v1/disconnect", { body: { socket_id: "user_socket:1" } });
  });

  it("what is wrong in a request is named", async () => {
    for (const [method, path] of PATHS.slice(0, 7)) {
      await api.refused("unsupported_media_type", method, path, {
        text: "{}",
        headers: { "content-type": "text/plain" },
      });
      await api.refused("invalid_json", method, path, { text: "{" });
      await api.refused("invalid_request", method, path, { body: { nonsense: 1 } });
    }
    for (const [method, path] of PATHS.filter(([method]) => method === "get")) {
      await api.refused("invalid_request", method, `${path}?nonsense=1`);
    }
    const large = "x".repeat(70_000);
    await api.refused("too_large", "post", "/api/v1/publish", { body: lobby(large) });
    for (const path of ["/api/v1/batch", "/api/broadcast"]) {
      await api.refused("too_large", "post", path, { body: { messages: [lobby(large)] } });
    }
    await api.refused("not_found", "get", "/api/v1/nothing");
    for (const method of ["get", "put", "delete", "options"]) {
      await api.refused("method_not_allowed", method, "/api/v1/publish");
    }
  });

  it("guessing is answered 429, and a good key is let in all the while", async (t) => {
    const config = `${OPTIONS.config}\n[api]\nfailures_per_minute_max = 3\nmetrics_open = false`;
    const server = await Server.startFor(t, "hailer", { ...OPTIONS, config });
    const guesser = new Caller(server, { "x-api-key": "hlr_guess" });
    for (let at = 0; at < 3; at += 1) await guesser.refused("unauthorized", "get", "/api/v1/topics");
    for (const [method, path] of [...PATHS, ["get", "/metrics"]]) {
      await guesser.refused("too_many_failures", method, path, {});
    }
    const good = new Caller(server, bearer(everything));
    await good.get("/api/v1/topics");
    await good.get("/metrics");
    await new Caller(server, {}).refused("unauthorized", "get", "/metrics");
    await new Caller(server, bearer(writer)).refused("forbidden", "get", "/metrics");
    const told = server.log.items.filter((line) => line.includes("wrong API keys"));
    assert.equal(told.length, 1, "one line in the log");
  });
});

it("every operation of the contract was called, and every answer was seen that can be had from outside", () => {
  assert.deepEqual([...UNCALLED], []);
  // A server that has too much to do, and two requests with one idempotency key at the same moment.
  const rare = ["publish 409", "batch 409", "broadcast 409"];
  const unseen = [...UNSEEN].filter((name) => !name.endsWith(" 503") && !rare.includes(name));
  assert.deepEqual(unseen, []);
});
