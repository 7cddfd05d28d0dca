// The pages' own client: against a real server, and step by step over a pretended transport and clock.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, it } from "node:test";
import { WebSocket } from "ws";
import { Inbox, Server } from "./harness.js";

// The page's files have no package.json to call them modules; data: addresses need none.
const source = (name) => readFile(new URL(`../../src/web/${name}`, import.meta.url), "utf8");
const address = (text) => `data:text/javascript,${encodeURIComponent(text)}`;
const transports = address(await source("transports.js"));
const client = (await source("client.js")).replaceAll("./transports.js", transports);
const { Automatic, Socket, longPoll, webSocket } = await import(address(client));

const TOPIC = "room:lobby";
const HEARTBEAT_MS = 30_000;
const TIMEOUT_MS = 10_000;

// Unlike a browser's, this one throws an error that nobody listens to, before it closes.
globalThis.WebSocket = class extends WebSocket {
  constructor(url) {
    super(url);
    this.on("error", () => {});
  }
};

for (const transport of [webSocket, longPoll]) describe(`over a real ${transport.name} connection`, () => {

  async function enter(t) {
    const server = await Server.startFor(t, "hailer", { shards: 4 });
    const socket = new Socket(`${server.url}/socket`, { firstMs: 50, transport });
    t.after(() => socket.disconnect());
    const room = socket.channel(TOPIC);
    const [states, joins, bodies] = [new Inbox(), new Inbox(), new Inbox()];
    socket.onstate = states.push;
    room.onstate = joins.push;
    room.on("new_msg", ({ body }) => bodies.push(body));
    room.join();
    socket.connect();
    await joins.take("the join", (state) => state === "joined");
    return { server, socket, room, states, joins, bodies };
  }

  it("says and hears, and is told in words what is refused", async (t) => {
    const { room, bodies } = await enter(t);
    room.push("new_msg", { body: "hello" }).catch(() => {});
    assert.equal(await bodies.take("the message"), "hello");
    await assert.rejects(room.push("new_msg", {}), ({ kind, message, response }) => {
      assert.equal(kind, "refused");
      assert.equal(message, response.reason);
      return true;
    });
  });

  it("leaves and joins again", async (t) => {
    const { room, joins, bodies } = await enter(t);
    await room.leave();
    await assert.rejects(room.push("new_msg", { body: "?" }), { kind: "disconnected" });
    room.join();
    await joins.take("the second join", (state) => state === "joined");
    room.push("new_msg", { body: "again" }).catch(() => {});
    assert.equal(await bodies.take("the message"), "again");
  });

  it("comes back after the server's end and start on the same port", async (t) => {
    const { server, room, states, joins, bodies } = await enter(t);
    await server.stop();
    await states.take("waiting", (state) => state === "waiting");
    await server.start();
    await joins.take("the rejoin", (state) => state === "joined");
    room.push("new_msg", { body: "after" }).catch(() => {});
    assert.equal(await bodies.take("the message"), "after");
  });
});

/** A socket over a transport whose server is the test, and a clock that the test moves. */
function pretend(t, options = {}) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const connections = [];
  const transport = {
    name: "pretended",
    heartbeats: true,
    open(endpoint, params, on) {
      const connection = { on, sent: [], closed: null };
      connections.push(connection);
      return {
        send: (text) => connection.sent.push(JSON.parse(text)),
        close: (code) => (connection.closed = code),
      };
    },
  };
  const socket = new Socket("/socket", { transport, random: () => 1, ...options });
  const states = [];
  socket.onstate = (state, { retryMs }) => states.push(retryMs === undefined ? state : `${state} ${retryMs}`);
  socket.connect();
  return {
    socket,
    states,
    connections,
    tick: (ms) => t.mock.timers.tick(ms),
    last: () => connections.at(-1),
    opens: () => connections.at(-1).on.open(),
    says: (...message) => connections.at(-1).on.message(JSON.stringify(message)),
    /** What was sent last over the last connection. */
    sent: () => connections.at(-1).sent.at(-1),
  };
}

/** A pretended socket with a channel that is joined. */
async function pretendJoined(t, options) {
  const world = pretend(t, options);
  const room = world.socket.channel(TOPIC, { name: "ada" });
  const joins = [];
  const bodies = [];
  room.onstate = (state, { reason }) => joins.push(reason === undefined ? state : `${state}: ${reason}`);
  room.on("new_msg", ({ body }) => bodies.push(body));
  room.join();
  world.opens();
  const answer = async (status, response = {}) => {
    const [joinRef, ref, topic] = world.sent();
    world.says(joinRef, ref, topic, "phx_reply", { status, response });
    await settled();
  };
  await answer("ok");
  assert.equal(room.state, "joined");
  joins.length = 0;
  return { ...world, room, joins, bodies, answer };
}

/** Ends when every promise that can go on has done so. */
const settled = () => new Promise(setImmediate);

describe("the connection", () => {
  it("is tried again after ever longer waits, up to a ceiling", (t) => {
    const { states, last, tick } = pretend(t);
    for (const retryMs of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      assert.equal(states.at(-1), "connecting");
      last().on.close(1006);
      assert.equal(states.at(-1), `waiting ${retryMs}`);
      tick(retryMs - 1);
      assert.equal(states.at(-1), `waiting ${retryMs}`);
      tick(1);
    }
  });

  it("is tried again at once when asked while waiting", (t) => {
    const { socket, last, connections, tick } = pretend(t);
    last().on.close(1006);
    socket.connect();
    socket.connect();
    assert.equal(connections.length, 2);
    last().on.open();
    tick(1000);
    assert.equal(connections.length, 2);
  });

  it("waits anywhere between nothing and the ceiling", (t) => {
    const draws = [0, 0.25, 0.999];
    const { states, last, tick } = pretend(t, { random: () => draws.shift() });
    for (const retryMs of [0, 500, 3996]) {
      last().on.close(1006);
      assert.equal(states.at(-1), `waiting ${retryMs}`);
      tick(retryMs);
    }
  });

  it("starts over with short waits only when the server has said something", (t) => {
    const { states, last, tick, opens, says } = pretend(t);
    last().on.close(1006);
    tick(1000);
    opens();
    last().on.close(1006);
    assert.equal(states.at(-1), "waiting 2000");
    tick(2000);
    opens();
    says(null, null, TOPIC, "new_msg", {});
    last().on.close(1006);
    assert.equal(states.at(-1), "waiting 1000");
  });

  for (const code of [1001, 1002, 1005, 1006, 1009, 1011, 1012, 1013, 3000, 4000]) {
    it(`is tried again after close code ${code}`, (t) => {
      const { socket, last, opens } = pretend(t);
      opens();
      last().on.close(code);
      assert.equal(socket.state, "waiting");
    });
  }

  it("stays away after close code 1000, until asked", (t) => {
    const { socket, last, opens, tick, connections } = pretend(t);
    opens();
    last().on.close(1000);
    assert.equal(socket.state, "offline");
    tick(600_000);
    assert.equal(connections.length, 1);
    socket.connect();
    assert.equal(connections.length, 2);
  });

  it("stays away after disconnect, whatever the old connection still reports", (t) => {
    const { socket, last, opens, tick, connections } = pretend(t);
    opens();
    socket.disconnect();
    assert.equal(last().closed, 1000);
    last().on.close(1006);
    tick(600_000);
    assert.equal(socket.state, "offline");
    assert.equal(connections.length, 1);
  });

  it("is given up when it does not open in time", (t) => {
    const { socket, last, tick, opens } = pretend(t);
    tick(TIMEOUT_MS);
    assert.equal(last().closed, 4000);
    assert.equal(socket.state, "waiting");
    opens();
    assert.equal(socket.state, "waiting");
  });

  it("is kept by answered heartbeats", async (t) => {
    const { socket, tick, opens, says, sent } = pretend(t);
    opens();
    for (let n = 0; n < 5; n++) {
      tick(HEARTBEAT_MS);
      const [joinRef, ref, topic, event, payload] = sent();
      assert.deepEqual([joinRef, topic, event, payload], [null, "phoenix", "heartbeat", {}]);
      tick(TIMEOUT_MS - 1);
      says(null, ref, "phoenix", "phx_reply", { status: "ok", response: {} });
      await settled();
    }
    assert.equal(socket.state, "connected");
  });

  it("is given up when a heartbeat is not answered", async (t) => {
    const { socket, last, tick, opens } = pretend(t);
    opens();
    tick(HEARTBEAT_MS);
    tick(TIMEOUT_MS);
    await settled();
    assert.equal(last().closed, 4000);
    assert.equal(socket.state, "waiting");
  });

  it("does not send heartbeats once it is lost", async (t) => {
    const { socket, last, tick, opens, says, connections } = pretend(t);
    opens();
    tick(HEARTBEAT_MS);
    const [, ref] = last().sent.at(-1);
    // The answer and the end come in one go.
    says(null, ref, "phoenix", "phx_reply", { status: "ok", response: {} });
    socket.disconnect();
    await settled();
    tick(600_000);
    assert.equal(last().sent.length, 1);
    assert.equal(connections.length, 1);
  });

  for (const junk of ["", "{", "null", "{}", "[]", '["1","1","room:lobby","new_msg"]', new ArrayBuffer(8)]) {
    it(`overlooks what it can't read: ${JSON.stringify(junk)}`, async (t) => {
      const { socket, last, bodies, says } = await pretendJoined(t);
      last().on.message(junk);
      says(null, null, TOPIC, "new_msg", { body: "next" });
      assert.equal(socket.state, "connected");
      assert.deepEqual(bodies, ["next"]);
    });
  }
});

describe("the channel", () => {
  it("joins with its params, and its ref twice", async (t) => {
    const { last } = await pretendJoined(t);
    assert.deepEqual(last().sent, [["1", "1", TOPIC, "phx_join", { name: "ada" }]]);
  });

  it("joins again with a new ref over each new connection", async (t) => {
    const { last, tick, opens, answer, room, joins } = await pretendJoined(t);
    last().on.close(1012);
    assert.equal(room.state, "joining");
    tick(1000);
    opens();
    assert.deepEqual(last().sent, [["2", "2", TOPIC, "phx_join", { name: "ada" }]]);
    await answer("ok");
    assert.deepEqual(joins, ["joining", "joined"]);
  });

  it("is not joined any more when the socket tells of its loss", async (t) => {
    const { last, socket, room } = await pretendJoined(t);
    const seen = [];
    socket.onstate = (state) => seen.push([state, room.state]);
    last().on.close(1012);
    assert.deepEqual(seen, [["waiting", "joining"]]);
  });

  it("may ask for a connection when it loses the last", async (t) => {
    const { last, socket, states, room } = await pretendJoined(t);
    room.onstate = () => socket.connect();
    states.length = 0;
    last().on.close(1012);
    assert.deepEqual(states, ["connecting"]);
  });

  it("joins again after phx_error, after ever longer waits while it is refused", async (t) => {
    const { says, sent, tick, answer, joins, room } = await pretendJoined(t);
    says("1", "1", TOPIC, "phx_error", { reason: "channel_crash" });
    assert.deepEqual(joins, ["waiting: channel_crash"]);
    for (const [ref, wait] of [["2", 1000], ["3", 2000], ["4", 4000]]) {
      tick(wait - 1);
      assert.notEqual(sent()[1], ref);
      tick(1);
      assert.deepEqual(sent(), [ref, ref, TOPIC, "phx_join", { name: "ada" }]);
      await answer("error", { reason: "not today" });
      assert.equal(joins.at(-1), "waiting: not today");
    }
    tick(8000);
    await answer("ok");
    assert.equal(room.state, "joined");
  });

  it("leaves and tries again when a join is not answered", async (t) => {
    const { says, last, tick, joins } = await pretendJoined(t);
    says("1", "1", TOPIC, "phx_error", {});
    tick(1000);
    tick(TIMEOUT_MS);
    await settled();
    assert.deepEqual(last().sent.at(-1), ["2", "3", TOPIC, "phx_leave", {}]);
    assert.equal(joins.at(-1), "waiting: no answer came in time");
    tick(2000);
    assert.deepEqual(last().sent.at(-1), ["4", "4", TOPIC, "phx_join", { name: "ada" }]);
  });

  it("stays closed after phx_close, until joined again", async (t) => {
    const { says, last, tick, opens, room } = await pretendJoined(t);
    says("1", "1", TOPIC, "phx_close", {});
    assert.equal(room.state, "closed");
    last().on.close(1012);
    tick(1000);
    opens();
    assert.deepEqual(last().sent, []);
    room.join();
    assert.equal(last().sent.at(-1)[3], "phx_join");
  });

  it("passes over what is meant for an earlier join, or another topic", async (t) => {
    const { says, tick, answer, room, bodies } = await pretendJoined(t);
    says("1", "1", TOPIC, "phx_error", {});
    says(null, null, TOPIC, "new_msg", { body: "not joined" });
    tick(1000);
    await answer("ok");
    says("1", "1", TOPIC, "phx_close", {});
    says("1", null, TOPIC, "new_msg", { body: "stale" });
    says(null, null, "room:other", "new_msg", { body: "elsewhere" });
    says(null, null, TOPIC, "other_event", { body: "unknown" });
    says("2", null, TOPIC, "new_msg", { body: "mine" });
    says(null, null, TOPIC, "new_msg", { body: "everybody's" });
    assert.equal(room.state, "joined");
    assert.deepEqual(bodies, ["mine", "everybody's"]);
  });

  it("hears nothing after leaving", async (t) => {
    const { says, last, answer, room, bodies } = await pretendJoined(t);
    const left = room.leave();
    assert.deepEqual(last().sent.at(-1), ["1", "2", TOPIC, "phx_leave", {}]);
    says(null, null, TOPIC, "new_msg", { body: "late" });
    await answer("ok");
    await left;
    assert.equal(room.state, "closed");
    assert.deepEqual(bodies, []);
  });
});

describe("a push", () => {
  it("ends with the response to its own ref", async (t) => {
    const { says, sent, room } = await pretendJoined(t);
    const [first, second] = [room.push("ask", { n: 1 }), room.push("ask", { n: 2 })];
    assert.deepEqual(sent(), ["1", "3", TOPIC, "ask", { n: 2 }]);
    says("1", "3", TOPIC, "phx_reply", { status: "ok", response: { n: 2 } });
    says("1", "2", TOPIC, "phx_reply", { status: "ok", response: { n: 1 } });
    assert.deepEqual(await Promise.all([first, second]), [{ n: 1 }, { n: 2 }]);
  });

  it("fails with the server's reason", async (t) => {
    const { answer, room } = await pretendJoined(t);
    const pushed = room.push("ask");
    answer("error", { reason: "why" });
    await assert.rejects(pushed, { kind: "refused", message: "why", response: { reason: "why" } });
  });

  it("fails when no answer comes", async (t) => {
    const { tick, room } = await pretendJoined(t);
    const pushed = room.push("ask");
    tick(TIMEOUT_MS);
    await assert.rejects(pushed, { kind: "timeout" });
  });

  it("fails when the connection is lost first, and a late answer is nobody's", async (t) => {
    const { last, says, tick, opens, room } = await pretendJoined(t);
    const pushed = room.push("ask");
    last().on.close(1006);
    await assert.rejects(pushed, { kind: "disconnected" });
    tick(1000);
    opens();
    says("1", "2", TOPIC, "phx_reply", { status: "ok", response: {} });
  });

  it("fails at once without a join", async (t) => {
    const { last, room } = await pretendJoined(t);
    last().on.close(1006);
    await assert.rejects(room.push("ask"), { kind: "disconnected" });
  });
});

describe("long-poll", () => {
  /** A connection whose requests the test answers, and what it tells. */
  function pretendLongPoll(t, params = {}) {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const [requests, told] = [[], []];
    t.mock.method(globalThis, "fetch", (url, { method, body, signal }) => {
      const request = { url: new URL(url), method, body, signal };
      requests.push(request);
      return new Promise((resolve, reject) => {
        request.answers = (json) => resolve({ json: async () => json });
        request.fails = reject;
        signal.addEventListener("abort", reject);
      });
    });
    const connection = longPoll.open("http://hailer.test/socket", params, {
      open: () => told.push("open"),
      message: (text) => told.push(text),
      close: (code) => told.push(code),
    });
    const later = async (act) => {
      act();
      await settled();
      t.mock.timers.tick(1);
      await settled();
    };
    const of = (method) => requests.filter((request) => request.method === method);
    const polls = () => of("GET");
    const posts = () => of("POST");
    const answer = (request, json) => later(() => request.answers(json));
    const open = () => answer(polls()[0], { status: 410, token: "T", messages: [] });
    return { connection, told, polls, posts, later, answer, open, tick: (ms) => t.mock.timers.tick(ms) };
  }

  it("opens with the params, and polls with the token behind them", async (t) => {
    const { told, polls, open } = pretendLongPoll(t, { token: "mine" });
    assert.equal(polls()[0].url.href, "http://hailer.test/socket/longpoll?token=mine&vsn=2.0.0");
    await open();
    assert.deepEqual(told, ["open"]);
    assert.equal(polls()[1].url.search, "?token=mine&vsn=2.0.0&token=T");
  });

  it("tells messages in order and polls on, also after an empty window", async (t) => {
    const { told, polls, open, answer } = pretendLongPoll(t);
    await open();
    await answer(polls()[1], { status: 200, token: "T", messages: ["a", "b"] });
    await answer(polls()[2], { status: 204, token: "T", messages: [] });
    await answer(polls()[3], { status: 200, token: "T", messages: ["c"] });
    assert.deepEqual(told, ["open", "a", "b", "c"]);
    assert.equal(polls().length, 5);
  });

  it("posts at most 100 messages at a time, and the next when it is answered", async (t) => {
    const { connection, posts, open, answer, later } = pretendLongPoll(t);
    await open();
    const sent = Array.from({ length: 230 }, (_, n) => `[${n}]`);
    await later(() => sent.forEach((text) => connection.send(text)));
    for (let n = 1; n <= 3; n++) {
      assert.equal(posts().length, n);
      await answer(posts()[n - 1], { status: 200 });
    }
    assert.deepEqual(posts().map(({ body }) => body.split("\n").length), [100, 100, 30]);
    assert.deepEqual(posts().flatMap(({ body }) => body.split("\n")), sent);
    await later(() => connection.send("[later]"));
    assert.equal(posts()[3].body, "[later]");
  });

  for (const [what, json] of [
    ["another token", { status: 410, token: "U", messages: [] }],
    ["403", { status: 403 }],
    ["500", { status: 500 }],
    ["an unknown status", { status: 418 }],
    ["null", null],
  ]) {
    it(`ends when a poll is answered with ${what}, after what has come`, async (t) => {
      const { told, polls, open, answer } = pretendLongPoll(t);
      await open();
      await answer(polls()[1], { status: 200, token: "T", messages: ["last"] });
      await answer(polls()[2], json);
      assert.deepEqual(told, ["open", "last", 1006]);
      assert.equal(polls().length, 3);
    });
  }

  for (const json of [{ status: 410 }, { status: 408 }, { status: 413 }]) {
    it(`ends when a POST is answered with ${json.status}, and its poll with it`, async (t) => {
      const { connection, told, polls, posts, open, later, answer } = pretendLongPoll(t);
      await open();
      await later(() => connection.send("[]"));
      await answer(posts()[0], json);
      assert.deepEqual(told, ["open", 1006]);
      assert.ok(polls()[1].signal.aborted);
    });
  }

  it("ends when a request fails, or takes too long", async (t) => {
    const { told, polls, later, open } = pretendLongPoll(t);
    await open();
    await later(() => polls()[1].fails(new TypeError("no network")));
    assert.deepEqual(told, ["open", 1006]);
    t.mock.restoreAll();
    t.mock.timers.reset();
    const slow = pretendLongPoll(t);
    await slow.open();
    await slow.later(() => slow.tick(20_000));
    assert.deepEqual(slow.told, ["open", 1006]);
    assert.ok(slow.polls()[1].signal.aborted);
  });

  it("tells nothing after it was closed", async (t) => {
    const { connection, told, polls, open, later } = pretendLongPoll(t);
    await open();
    await later(() => {
      polls()[1].answers({ status: 200, token: "T", messages: ["late"] });
      connection.close();
    });
    assert.deepEqual(told, ["open"]);
    assert.equal(polls().length, 2);
  });
});

describe("the automatic choice", () => {
  /** Connections of both transports that the test opens and ends. */
  function pretendBoth(t) {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const opened = [];
    for (const transport of [webSocket, longPoll]) {
      t.mock.method(transport, "open", (endpoint, params, on) => {
        const connection = { name: transport.name, on, closed: null };
        opened.push(connection);
        return { send() {}, close: (code) => (connection.closed = code) };
      });
    }
    const automatic = new Automatic();
    const socket = new Socket("/socket", { transport: automatic, random: () => 1 });
    socket.connect();
    return {
      socket,
      opened,
      last: () => opened.at(-1),
      names: () => opened.map(({ name }) => name),
      tick: (ms) => t.mock.timers.tick(ms),
    };
  }
  const [W, L] = ["WebSocket", "Long-poll"];

  it("is a WebSocket that opens, also after the loss of many", (t) => {
    const { socket, last, names, tick } = pretendBoth(t);
    for (let n = 0; n < 4; n++) {
      last().on.open();
      assert.deepEqual([socket.state, socket.transport], ["connected", W]);
      tick(2500);
      last().on.close(1006);
      tick(30_000);
    }
    assert.deepEqual(names(), [W, W, W, W, W]);
  });

  it("is long-poll at once when the second WebSocket in a row fails", (t) => {
    const { socket, last, names, tick } = pretendBoth(t);
    last().on.close(1006);
    assert.equal(socket.state, "waiting");
    tick(1000);
    last().on.close(1006);
    assert.equal(socket.state, "connecting");
    last().on.open();
    assert.deepEqual([socket.state, socket.transport], ["connected", L]);
    assert.deepEqual(names(), [W, W, L]);
  });

  it("is long-poll when a WebSocket does not open in time, whatever that reports afterwards", (t) => {
    const { socket, opened, names, tick } = pretendBoth(t);
    tick(2499);
    assert.deepEqual(names(), [W]);
    tick(1);
    assert.deepEqual(names(), [W, L]);
    assert.equal(opened[0].closed, 4000);
    opened[0].on.open();
    opened[0].on.close(1006);
    assert.equal(socket.state, "connecting");
    opened[1].on.open();
    assert.equal(socket.transport, L);
  });

  it("tries one WebSocket before each further long-poll, and keeps to those when one opens", (t) => {
    const { socket, last, names, tick } = pretendBoth(t);
    tick(2500);
    last().on.open();
    last().on.close(1006);
    tick(1000);
    last().on.close(1006);
    last().on.open();
    assert.deepEqual([names(), socket.transport], [[W, L, W, L], L]);
    last().on.close(1006);
    tick(2000);
    last().on.open();
    assert.equal(socket.transport, W);
    last().on.close(1006);
    tick(30_000);
    last().on.close(1006);
    tick(30_000);
    assert.deepEqual(names(), [W, L, W, L, W, W, W]);
  });

  it("blames the server when long-poll fails as well", (t) => {
    const { last, names, tick } = pretendBoth(t);
    for (const name of [W, W, L, W, W, L, W]) {
      assert.equal(last().name, name);
      last().on.close(1006);
      tick(30_000 * (name === L || names().filter((other) => other === W).length % 2));
    }
  });

  it("sends heartbeats over WebSockets alone", (t) => {
    const { socket, last, tick } = pretendBoth(t);
    tick(2500);
    last().on.open();
    tick(600_000);
    assert.equal(socket.state, "connected");
  });

  it("gives way to a choice at once, and ends what it had under way", (t) => {
    const { socket, opened, names, tick } = pretendBoth(t);
    socket.use(longPoll);
    assert.equal(opened[0].closed, 1000);
    tick(2500);
    assert.deepEqual(names(), [W, L]);
    opened[1].on.open();
    socket.use(webSocket);
    assert.equal(opened[1].closed, 1000);
    assert.deepEqual(names(), [W, L, W]);
    socket.disconnect();
    socket.use(longPoll);
    assert.deepEqual([socket.state, names().length], ["offline", 3]);
  });
});
