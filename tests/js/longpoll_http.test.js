// Long-poll as it is on the wire: what an answer looks like, and what becomes of requests that are wrong, slow,
// cut short, or at the wrong shard.

import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import { after, before, describe, it } from "node:test";
import { Inbox, Server, deadline } from "./harness.js";

const PATH = "/socket/longpoll";
const NDJSON = "application/x-ndjson";
const WINDOW = "1s";
const TOPIC = "room:lobby";
const GONE = { status: 410 };

let server;
before(async () => (server = await Server.start("hailer", { shards: 4, limits: { poll_window: WINDOW } })));
after(() => server.kill());

/** One request over a connection of its own; `json` is its body, if it is that. */
function ask(method, query, { headers = {}, body, agent = false, from = server } = {}) {
  const answer = new Promise((resolve, reject) => {
    const request = http.request(`${from.url}${PATH}?${query}`, { method, headers, agent }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("error", reject);
      response.on("end", () => {
        const text = Buffer.concat(parts).toString();
        const json = /json/.test(response.headers["content-type"]) ? JSON.parse(text) : undefined;
        resolve({ code: response.statusCode, headers: response.headers, text, json });
      });
    });
    request.on("error", reject);
    request.end(body);
  });
  return deadline(answer, `an answer to ${method} ${query}`);
}

async function open(from = server, vsn = "2.0.0") {
  const { json } = await ask("GET", `vsn=${vsn}`, { from });
  assert.equal(json.status, 410);
  return json.token;
}

const poll = (token, options) => ask("GET", `vsn=2.0.0&token=${token}`, options);
const post = (token, body, { headers = { "content-type": NDJSON }, ...options } = {}) =>
  ask("POST", `vsn=2.0.0&token=${token}`, { headers, body, ...options });
const say = (ref, body) => JSON.stringify(["1", ref, TOPIC, "new_msg", { body }]);

/** A session that has joined the room, its join answered. */
async function enter(from = server) {
  const token = await open(from);
  await post(token, JSON.stringify(["1", "1", TOPIC, "phx_join", {}]), { from });
  const { json } = await poll(token, { from });
  assert.equal(json.status, 200);
  return token;
}

/** The bodies of all messages, in order, up to one that is `last`. */
async function bodiesUntil(token, last, { from = server, next = poll } = {}) {
  const bodies = [];
  while (bodies.at(-1) !== last) {
    const { json } = await next(token, { from });
    assert.ok([200, 204].includes(json.status), JSON.stringify(json));
    for (const message of json.messages) {
      const [, , , event, payload] = JSON.parse(message);
      if (event === "new_msg") bodies.push(payload.body);
    }
  }
  return bodies;
}

/** The bytes of a connection: `send`, then wait for what matches. */
class Raw {
  received = "";
  #wake = () => {};

  constructor(t, to = server) {
    const [host, port] = to.address.split(":");
    this.socket = net.connect({ host, port: Number(port) });
    this.ended = new Promise((resolve) => this.socket.on("close", resolve));
    this.socket.on("data", (data) => {
      this.received += data;
      this.#wake();
    });
    this.socket.on("error", () => {});
    t.after(() => this.socket.destroy());
  }

  send(text) {
    this.socket.write(text);
    return this;
  }

  async until(pattern) {
    const search = async () => {
      while (!pattern.test(this.received)) await new Promise((resolve) => (this.#wake = resolve));
    };
    await deadline(search(), `${pattern}`).catch((error) => {
      error.message += `; there was ${JSON.stringify(this.received.slice(-300))}`;
      throw error;
    });
    return this.received;
  }
}

describe("an answer", () => {
  it("to the first request is 410 with a token, for any site, and not to be stored", async () => {
    const { code, headers, json, text } = await ask("GET", "vsn=2.0.0&");
    assert.equal(code, 200);
    assert.equal(headers["content-type"], "application/json; charset=utf-8");
    assert.equal(headers["access-control-allow-origin"], "*");
    assert.equal(headers["access-control-allow-credentials"], undefined);
    assert.equal(headers["cache-control"], "no-store");
    assert.equal(headers["content-length"], `${text.length}`);
    assert.deepEqual(json, { status: 410, token: json.token, messages: [] });
    assert.match(json.token, /^[\w.-]+$/);
  });

  for (const vsn of ["vsn=1.0.0", "vsn=2.0.0", "vsn=2.0.7", ""]) {
    it(`opens a session for "${vsn}"`, async () => assert.equal((await ask("GET", vsn)).json.status, 410));
  }

  for (const vsn of ["vsn=", "vsn=2.1.0", "vsn=3.0.0", "vsn=2", "vsn=abc", "vsn=%zz"]) {
    it(`refuses "${vsn}"`, async () => {
      const { code, headers, json } = await ask("GET", vsn);
      assert.equal(code, 200);
      assert.deepEqual(json, { status: 403 });
      assert.equal(headers["access-control-allow-origin"], "*");
    });
  }

  for (const token of ["", "x", "null", "A".repeat(68), "%00", "SFMyNTY.g2gD.x"]) {
    it(`to the unknown token "${token}" is a new session for a GET and 410 for a POST`, async () => {
      const { json } = await poll(token);
      assert.equal(json.status, 410);
      assert.notEqual(json.token, token);
      const posted = await post(token, "[]");
      assert.deepEqual([posted.code, posted.json], [200, GONE]);
    });
  }

  it("to a poll without news is 204 after the window, with the same token", async () => {
    const token = await open();
    const { code, json } = await poll(token);
    assert.equal(code, 200);
    assert.deepEqual(json, { status: 204, token, messages: [] });
  });

  it("has messages as strings, with everything that has come, in order", async () => {
    const token = await open();
    const lines = [["1", "1", TOPIC, "phx_join", {}], ["1", "2", TOPIC, "new_msg", {}]];
    const posted = await post(token, lines.map((line) => JSON.stringify(line)).join("\n"));
    assert.deepEqual(posted.json, { status: 200 });
    const { json } = await poll(token);
    assert.deepEqual([json.status, json.token], [200, token]);
    const messages = json.messages.map((message) => JSON.parse(message));
    assert.deepEqual(messages[0], ["1", "1", TOPIC, "phx_reply", { status: "ok", response: {} }]);
    assert.deepEqual(messages[1].slice(0, 4), ["1", "2", TOPIC, "phx_reply"]);
    assert.equal(messages.length, 2);
  });

  it("escapes whatever a message may hold", async () => {
    const token = await enter();
    const body = `"\\ \u0000\u001f\u007f\u2028 </script> \u{1f4e3}`;
    await post(token, say("2", body));
    assert.deepEqual(await bodiesUntil(token, body), [body]);
  });

  it("to OPTIONS allows what is asked for", async () => {
    const wanted = "content-type, x-phoenix-authtoken";
    const { code, headers, text } = await ask("OPTIONS", "vsn=2.0.0", {
      headers: { origin: "http://localhost:3000", "access-control-request-headers": wanted },
    });
    assert.deepEqual([code, text], [200, ""]);
    assert.equal(headers["access-control-allow-origin"], "*");
    assert.equal(headers["access-control-allow-headers"], wanted);
    assert.equal(headers["access-control-allow-methods"], "get, post, options");
    assert.equal(headers["access-control-max-age"], "3600");
  });

  it("to OPTIONS of a page that may not connect is the refusal", async () => {
    const { code, json } = await ask("OPTIONS", "vsn=2.0.0", { headers: { origin: "https://example.com" } });
    assert.deepEqual([code, json], [200, { status: 403 }]);
  });

  for (const method of ["PUT", "DELETE", "HEAD", "PATCH"]) {
    it(`to ${method} is 400`, async () => assert.equal((await ask(method, "vsn=2.0.0")).code, 400));
  }
});

describe("the token", () => {
  it("counts in the header before the query", async () => {
    const [token, other] = [await enter(), await open()];
    await post(other, say("2", "by header"), {
      headers: { "content-type": NDJSON, "x-phoenix-longpoll-token": token },
    });
    const next = () => poll(other, { headers: { "x-phoenix-longpoll-token": token } });
    assert.deepEqual(await bodiesUntil(token, "by header", { next }), ["by header"]);
    const { json } = await poll(token, { headers: { "x-phoenix-longpoll-token": "unknown" } });
    assert.equal(json.status, 410);
    assert.notEqual(json.token, token);
  });

  it("is the last of that name", async () => {
    const token = await open();
    const { json } = await ask("GET", `token=mine&vsn=2.0.0&token=${token}`);
    assert.deepEqual([json.status, json.token], [204, token]);
  });

  it("of a server that was restarted is unknown", async (t) => {
    const server = await Server.startFor(t, "hailer");
    const token = await open(server);
    await server.kill();
    await server.start();
    assert.deepEqual((await post(token, "[]", { from: server })).json, GONE);
    const { json } = await poll(token, { from: server });
    assert.equal(json.status, 410);
    assert.notEqual(json.token, token);
  });

  it("is worth nothing once no poll has come for one and a half windows", async () => {
    const token = await open();
    // POSTs say only what the answers to them are.
    const search = async () => {
      for (;;) {
        const { json } = await post(token, '[null,"1","phoenix","heartbeat",{}]');
        if (json.status === 410) return;
        assert.deepEqual(json, { status: 200 });
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };
    await deadline(search(), "the session ends");
    assert.notEqual((await poll(token)).json.token, token);
  });

  it("keeps its worth with polls", async () => {
    const token = await open();
    // Longer than a session lives without them.
    for (let n = 0; n < 3; n++) assert.deepEqual((await poll(token)).json, { status: 204, token, messages: [] });
    assert.deepEqual((await post(token, '[null,"1","phoenix","heartbeat",{}]')).json, { status: 200 });
  });
});

describe("a POST", () => {
  const lives = async (token) => {
    assert.deepEqual((await post(token, say("9", "alive"))).json, { status: 200 });
    assert.equal((await bodiesUntil(token, "alive")).at(-1), "alive");
  };

  for (const [what, body] of [
    ["bad base64", "%%%"],
    ["base64 without its padding", "AAE"],
    ["bytes that are not UTF-8", Buffer.from([0x5b, 0xff, 0x5d])],
    ["no message", "[1,2]"],
    ["JSON that ends early", `["1","2"`],
    ["bytes that are no message", "AAEC"],
  ]) {
    it(`of ${what} is 400, and the session lives`, async () => {
      const token = await enter();
      const { code, json, headers } = await post(token, body);
      assert.equal(code, 400);
      assert.equal(json.status, 400);
      assert.ok(json.reason.length > 0);
      assert.equal(headers["access-control-allow-origin"], "*");
      await lives(token);
    });
  }

  it("of good lines and a bad one is 400, and the good ones are handled", async () => {
    const token = await enter();
    const { code, json } = await post(token, `${say("2", "before")}\n!\n${say("3", "behind")}\n`);
    assert.equal(code, 400);
    assert.match(json.reason, /^line 2: .*; the other 2 were handled$/);
    assert.deepEqual((await post(token, say("4", "end"))).json, { status: 200 });
    const bodies = await bodiesUntil(token, "end");
    assert.deepEqual(bodies.filter((body) => ["before", "behind", "end"].includes(body)), ["before", "behind", "end"]);
  });

  for (const [what, body] of [
    ["nothing", ""],
    ["an empty last line", `${say("2", "heard")}\n`],
    ["empty lines", "\r\n\n"],
  ]) {
    it(`of ${what} is {"status":200}`, async () => {
      const token = await enter();
      assert.deepEqual((await post(token, body)).json, { status: 200 });
      await lives(token);
    });
  }

  it("of more lines than poll_messages_max is 413, and the session lives", async () => {
    const token = await enter();
    const { code, json } = await post(token, Array(1001).fill(say("2", "too many")).join("\n"));
    assert.deepEqual([code, json.status], [413, 413]);
    await post(token, say("3", "end"));
    assert.ok(!(await bodiesUntil(token, "end")).includes("too many"));
  });

  it("of as many lines as allowed is handled whole", async () => {
    const token = await enter();
    const sent = Array.from({ length: 1000 }, (_, n) => `${token} ${n}`);
    const { json } = await post(token, sent.map((body, n) => say(`${n + 2}`, body)).join("\n"));
    assert.deepEqual(json, { status: 200 });
    const mine = (await bodiesUntil(token, sent.at(-1))).filter((body) => body.startsWith(token));
    assert.deepEqual(mine, sent);
  });

  it("of eight million line ends is nothing, of ten million 413, and other requests go on", async () => {
    const token = await enter();
    const answers = [7_900_000, 10_000_000].map((length) => post(token, "\n".repeat(length)).catch((e) => e));
    assert.equal((await ask("GET", "vsn=2.0.0")).json.status, 410);
    const [first, second] = await Promise.all(answers);
    assert.deepEqual(first.json, { status: 200 });
    // Its announced length is refused at once, so the rest may meet a closed connection.
    assert.ok(second.code === 413 || second instanceof Error, `${second.code}`);
    await lives(token);
  });

  for (const cut of [1, 7, 1000]) {
    it(`in chunks of ${cut} is handled`, async (t) => {
      const token = await enter();
      const raw = new Raw(t);
      raw.send(`POST ${PATH}?vsn=2.0.0&token=${token} HTTP/1.1\r\nhost: x\r\ncontent-type: ${NDJSON}\r\n`);
      raw.send("transfer-encoding: chunked\r\n\r\n");
      const body = `${say("2", "in chunks")}\n${say("3", `and on ${cut}`)}`;
      for (let at = 0; at < body.length; at += cut) {
        const chunk = body.slice(at, at + cut);
        raw.send(`${chunk.length.toString(16)}\r\n${chunk}\r\n`);
      }
      raw.send("0\r\n\r\n");
      await raw.until(/\r\n\r\n\{"status":200\}$/);
      const bodies = await bodiesUntil(token, `and on ${cut}`);
      assert.deepEqual(bodies.slice(-2), ["in chunks", `and on ${cut}`]);
    });
  }

  it("whose body has a bad chunk is 400, and the session lives", async (t) => {
    const token = await enter();
    const raw = new Raw(t).send(`POST ${PATH}?token=${token} HTTP/1.1\r\nhost: x\r\n`);
    raw.send("transfer-encoding: chunked\r\n\r\nxyz\r\n");
    await raw.until(/^HTTP\/1.1 400 /);
    await raw.ended;
    await lives(token);
  });

  it("that asks whether to go on is told to", async (t) => {
    const token = await enter();
    const body = say("2", "go on");
    const raw = new Raw(t).send(
      `POST ${PATH}?token=${token} HTTP/1.1\r\nhost: x\r\ncontent-type: ${NDJSON}\r\n` +
        `content-length: ${body.length}\r\nexpect: 100-continue\r\n\r\n`,
    );
    await raw.until(/^HTTP\/1.1 100 Continue\r\n\r\n$/);
    raw.send(body);
    await raw.until(/\{"status":200\}$/);
    assert.equal((await bodiesUntil(token, "go on")).at(-1), "go on");
  });

  it("that comes too slowly is 408, and the session lives", async (t) => {
    const limits = { poll_window: "10s", body_timeout: "1s" };
    const server = await Server.startFor(t, "hailer", { shards: 2, limits });
    const token = await enter(server);
    const raw = new Raw(t, server).send(`POST ${PATH}?token=${token} HTTP/1.1\r\nhost: x\r\n`);
    raw.send("content-length: 1000\r\n\r\n[");
    await raw.until(/^HTTP\/1.1 408 /);
    await raw.ended;
    await post(token, say("2", "alive"), { from: server });
    assert.deepEqual(await bodiesUntil(token, "alive", { from: server }), ["alive"]);
  });

  it("may be the whole body of one message, whatever its content type", async () => {
    const token = await enter();
    for (const type of ["application/json", "text/plain;charset=UTF-8", undefined]) {
      const headers = type === undefined ? {} : { "content-type": type };
      // A line end is white space there.
      const { json } = await post(token, `${say("2", `as ${type}`)}\n`, { headers });
      assert.deepEqual(json, { status: 200 });
      assert.equal((await bodiesUntil(token, `as ${type}`)).at(-1), `as ${type}`);
    }
  });
});

describe("polls", () => {
  const request = (token, more = "") => `GET ${PATH}?vsn=2.0.0&token=${token} HTTP/1.1\r\nhost: x\r\n${more}\r\n`;

  it("of one session at once: the newer gets the message, the older is answered 204 at once", async (t) => {
    // A window that the test would not survive.
    const server = await Server.startFor(t, "hailer", { shards: 4, limits: { poll_window: "10m" } });
    const token = await enter(server);
    const older = new Raw(t, server).send(request(token));
    await new Raw(t, server).send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").until(/200 OK/);
    const [polls, answered] = [[older], new Inbox()];
    for (let n = 0; n < 3; n++) {
      const newer = new Raw(t, server).send(request(token));
      polls.push(newer);
      newer.until(/"status":/).then(() => answered.push(newer), () => {});
      if (n === 0) older.until(/"status":/).then(() => answered.push(older), () => {});
      // Which of two came first is for the network to say; one of them waits on.
      const first = await answered.take("an answer to one of the polls");
      assert.match(first.received, /"status":204/);
    }
    await post(token, say("2", "for the last"), { from: server });
    const last = await answered.take("the message");
    assert.match(last.received, /"status":200.*for the last/s);
    assert.equal(answered.items.length, polls.length);
    assert.equal(polls.filter(({ received }) => received.includes("for the last")).length, 1);
  });

  it("may be pipelined over one connection with what leads to other shards", async (t) => {
    const tokens = [];
    for (let n = 0; n < 12; n++) tokens.push(await enter());
    const raw = new Raw(t);
    let sent = "";
    for (const [n, token] of tokens.entries()) {
      const body = say("2", `pipelined ${n}`);
      sent += `POST ${PATH}?token=${token} HTTP/1.1\r\nhost: x\r\ncontent-type: ${NDJSON}\r\n`;
      sent += `content-length: ${body.length}\r\n\r\n${body}`;
      sent += "GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n";
    }
    // A poll at the end that has something waiting for it.
    raw.send(sent + request(tokens[0]));
    await raw.until(/"messages":\[".*\]\}$/s);
    const codes = [...raw.received.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, code]) => code);
    assert.deepEqual(codes, [...tokens.flatMap(() => ["200", "404"]), "200"]);
    const expected = tokens.map((_, n) => `pipelined ${n}`);
    const bodies = await bodiesUntil(tokens[1], expected.at(-1));
    assert.deepEqual(bodies.filter((body) => expected.includes(body)).sort(), [...expected].sort());
  });

  it("of many sessions may stand on one connection, one behind the other", async (t) => {
    const tokens = [];
    for (let n = 0; n < 8; n++) tokens.push(await enter());
    const raw = new Raw(t).send(tokens.map((token) => request(token)).join(""));
    // The first poll waits for this, and the others behind it are answered in their turn.
    await post(tokens[7], say("2", "to all"));
    await raw.until(/(?:"status":200.*to all.*){8}/s);
    const answered = [...raw.received.matchAll(/"token":"([^"]*)"/g)].map(([, token]) => token);
    assert.deepEqual(answered, tokens);
  });

  it("whose client goes away lose nothing", async (t) => {
    const token = await enter();
    const waiting = new Raw(t).send(request(token));
    await new Promise((resolve) => waiting.socket.once("connect", resolve));
    waiting.socket.destroy();
    await post(token, say("2", "to nobody yet"));
    assert.equal((await bodiesUntil(token, "to nobody yet")).at(-1), "to nobody yet");
  });

  for (const [what, more, perRound] of [
    ["larger than what is under way", "", 20],
    ["that has left whole", "", 1],
    ["larger than what is under way, the last of its connection", "connection: close\r\n", 20],
    ["that has left whole, the last of its connection", "connection: close\r\n", 1],
  ]) {
    it(`repeat an answer ${what}, after a reset in its middle: nothing is lost or doubled`, async (t) => {
      const limits = { poll_window: "5s", topic_log_bytes_max: "64MiB", message_bytes_max: "64KiB" };
      const server = await Server.startFor(t, "hailer", { shards: 4, limits });
      const [token, speaker] = [await enter(server), await enter(server)];
      const sent = [];
      const big = "x".repeat(50_000);
      for (let round = 0; round < 5; round++) {
        for (let n = 0; n < perRound; n++) {
          const body = `${round}/${n} ${big}`;
          sent.push(body);
          assert.deepEqual((await post(speaker, say("2", body), { from: server })).json, { status: 200 });
        }
        const [host, port] = server.address.split(":");
        const socket = net.connect({ host, port: Number(port) });
        socket.on("error", () => {});
        socket.write(request(token, more));
        await deadline(new Promise((resolve) => socket.once("readable", resolve)), "the answer begins");
        assert.match(socket.read().toString(), /^HTTP\/1.1 200 /);
        socket.resetAndDestroy();
      }
      sent.push("end");
      await post(speaker, say("3", "end"), { from: server });
      assert.deepEqual(await bodiesUntil(token, "end", { from: server }), sent);
    });
  }
});
