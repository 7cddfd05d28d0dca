// What every suite shares: real server processes, the published phoenix.js in two versions with both
// serializers, and waiting with a deadline that says what was waited for.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as joinPaths } from "node:path";
import { fileURLToPath } from "node:url";
import { createInterface } from "node:readline";
// Comes before phoenix.js, which looks for a browser as it loads.
import { KeptAlive, OneEach } from "./xhr.js";
import * as phoenix17 from "phoenix-1.7";
import * as phoenix18 from "phoenix-1.8";
import { WebSocket } from "ws";

/** Ample even for a debug build on a busy machine; nothing waits this long unless it is broken. */
const DEADLINE_MS = 20_000;

// Waiting

/** The value of `promise`, or a failure that names `what` did not happen in time. */
export async function deadline(promise, what, ms = DEADLINE_MS) {
  let timer;
  const expired = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, expired]);
  } finally {
    clearTimeout(timer);
  }
}

/** What has happened so far, in order, and the promise of what comes next. */
export class Inbox {
  items = [];
  #taken = 0;
  #wake = () => {};

  push = (item) => {
    this.items.push(item);
    this.#wake();
  };

  /** The first item not yet taken for which `wanted` holds; passes over those before it. */
  async take(what, wanted = () => true) {
    const search = async () => {
      for (;;) {
        while (this.#taken < this.items.length) {
          const item = this.items[this.#taken++];
          if (wanted(item)) return item;
        }
        await new Promise((resolve) => (this.#wake = resolve));
      }
    };
    try {
      return await deadline(search(), what);
    } catch (error) {
      error.message += `; there was ${JSON.stringify(this.items.slice(-5))}`;
      throw error;
    }
  }
}

// Server processes

const built = (path) => fileURLToPath(new URL(`../../target/debug/${path}`, import.meta.url));
const given = (shards) => (shards === undefined ? [] : [`${shards}`]);
const PROGRAMS = {
  hailer: (address, { shards, limits = {}, api = false, args = [] }, config, apiAddress) => [
    process.env.HAILER_BIN ?? built("hailer"),
    [
      ...["serve", "--listen", address],
      ...(api ? ["--api-listen", apiAddress ?? "127.0.0.1:0"] : []),
      ...(config === undefined ? [] : ["--config", config]),
      ...given(shards).flatMap((shards) => ["--shards", shards]),
      ...Object.entries(limits).flatMap(([name, value]) => ["--limit", `${name}=${value}`]),
      ...args,
    ],
  ],
  customChannel: (address, { shards }) => [
    process.env.HAILER_EXAMPLE_BIN ?? built("examples/custom_channel"),
    [address, ...given(shards)],
  ],
  embedded: (address, { shards }, config) => [
    process.env.HAILER_EMBEDDED_BIN ?? built("examples/embedded"),
    [config, address, ...given(shards)],
  ],
};

/** What no server may ever print; every server is looked through for it when it has ended. */
export const SECRETS = new Set();

/**
 * The variables of this process that are no settings of a server. The API, whose port is the same by default in every
 * server, is off unless an argument says otherwise.
 */
const environment = () => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("HAILER_"))),
  HAILER_API_LISTEN: "off",
});

const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

/** A server process on a port of its own, and one for its API, which it keeps over `stop` and `start`. */
export class Server {
  #program;
  #options;
  #child = null;
  #output = "";
  #folder;
  /** Where its API is. */
  api = null;
  /** The lines of its stderr. */
  log = new Inbox();
  /** The lines of its stdout. */
  said = new Inbox();

  constructor(program, options) {
    this.#program = program;
    this.#options = options;
    this.address = "127.0.0.1:0";
    if (options.config !== undefined) this.configure(options.config);
  }

  /**
   * Options: the number of `shards`, for "hailer" its `limits` by name, whether it has an `api`, and further `args`, and
   * for "hailer" and "embedded" the text of the `config`uration and the texts of `files` beside it by their names.
   */
  static async start(program, options = {}) {
    const server = new Server(program, options);
    await server.start();
    return server;
  }

  /** For the test `t` alone. */
  static async startFor(t, program, options) {
    const server = await Server.start(program, options);
    t.after(() => server.kill());
    return server;
  }

  /** Writes the configuration that holds from the next start on. */
  configure(text) {
    if (this.#folder === undefined) {
      const folder = mkdtempSync(joinPaths(tmpdir(), "hailer-js-"));
      process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
      this.#folder = folder;
    }
    for (const [name, content] of Object.entries({ ...this.#options.files, "hailer.toml": text })) {
      writeFileSync(joinPaths(this.#folder, name), content, { mode: 0o600 });
    }
  }

  get url() {
    return `http://${this.address}`;
  }

  async start() {
    const config = this.#folder && joinPaths(this.#folder, "hailer.toml");
    const api = this.api && new URL(this.api).host;
    const [path, args] = PROGRAMS[this.#program](this.address, this.#options, config, api);
    const child = spawn(path, args, { stdio: ["pipe", "pipe", "pipe"], env: environment() });
    this.#child = child;
    running.add(child);
    child.once("exit", () => running.delete(child));
    // A server that has ended takes no more lines.
    child.stdin.on("error", () => {});
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => (this.#output += text));
    }
    createInterface(child.stderr).on("line", this.log.push);
    const lines = createInterface(child.stdout);
    lines.on("line", this.said.push);
    const ended = once(child, "close").then(([code]) => [`(ended with ${code})`]);
    const [line] = await deadline(Promise.race([once(lines, "line"), ended]), `${path} listens`);
    const match = /Listening on http:\/\/(127\.0\.0\.1:\d+)/.exec(line);
    assert.ok(match, `${path} says where it listens, not "${line}"\n${this.#output.slice(-4000)}`);
    this.address = match[1];
    if (!this.#options.api) return;
    const said = await this.said.take("the API listens", (line) => line.startsWith("API on "));
    this.api = said.slice("API on ".length);
  }

  /** Says a line to the process. */
  tell(line) {
    this.#child.stdin.write(`${line}\n`);
  }

  /** Asks the process to end, and demands that it does so cleanly. */
  async stop() {
    const child = this.#child;
    const ended = once(child, "close");
    child.kill("SIGTERM");
    const [code, signal] = await deadline(ended, "the server ends after SIGTERM");
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, this.#output.slice(-4000));
    this.#expectDiscretion();
  }

  /** Ends the process without its help. */
  async kill() {
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "close");
    child.kill("SIGKILL");
    await deadline(ended, "the server is killed");
    this.#expectDiscretion();
  }

  #expectDiscretion() {
    const told = [...SECRETS].filter((secret) => this.#output.includes(secret));
    assert.deepEqual(told, [], "secrets in what the server has printed");
  }
}

// Clients

const V2 = ({ Serializer }) => ({
  vsn: "2.0.0",
  encode: (message, send) => Serializer.encode(message, send),
  decode: (data, receive) => Serializer.decode(data, receive),
});

// phoenix.js sends whatever version it is told but has lost its own code for V1, which knows no join_ref.
const V1 = () => ({
  vsn: "1.0.0",
  encode: ({ topic, event, payload, ref }, send) => send(JSON.stringify({ topic, event, payload, ref })),
  decode: (data, receive) => receive({ join_ref: null, ...JSON.parse(data) }),
});

/** Every client that has to work: two lines of phoenix.js, each with both serializers. */
export const CLIENTS = [
  ["phoenix.js 1.8, V2", phoenix18, V2],
  ["phoenix.js 1.8, V1", phoenix18, V1],
  ["phoenix.js 1.7, V2", phoenix17, V2],
  ["phoenix.js 1.7, V1", phoenix17, V1],
].map(([name, phoenix, serializer]) => {
  const { Socket, LongPoll } = phoenix;
  return { name, Socket, LongPoll, ...serializer(phoenix) };
});

/** Those that can send bytes and tell one join of a topic from another. */
export const V2_CLIENTS = CLIENTS.filter(({ vsn }) => vsn === "2.0.0");

// Transports

export const webSocket = { name: "WebSocket", longPoll: false, transport: () => WebSocket };

const longPoll = (name, Request) => ({
  name: `long-poll, ${name}`,
  longPoll: true,
  transport: ({ LongPoll }) =>
    class extends LongPoll {
      ajax(...request) {
        // phoenix.js looks for the class anew with every request.
        globalThis.XMLHttpRequest = Request;
        super.ajax(...request);
      }
    },
});

export const LONG_POLLS = [
  longPoll("kept-alive connections", KeptAlive),
  longPoll("a connection for each request", OneEach),
];

/** Every way to a server: each transport, and for long-poll with requests that reach their shard or miss it. */
export const WAYS = [
  { ...webSocket, shards: undefined },
  ...LONG_POLLS.flatMap((way) =>
    [1, 4].map((shards) => ({ ...way, name: `${way.name}, with --shards ${shards}`, shards })),
  ),
];

/** Long-poll carries bytes from the server as the characters of their numbers, which phoenix.js leaves as it is. */
const isBytes = (data) => typeof data === "string" && data.charCodeAt(0) < 0x20;
const toBytes = (text) => Uint8Array.from(text, (char) => char.charCodeAt(0)).buffer;

/**
 * A socket that connects to `server` and is disconnected at the end of the test `t`, and what it goes through:
 * `frames` as they come over the wire, decoded `messages`, `opens`, and `closes` with their codes.
 */
export function dial(t, server, client, way = webSocket, options = {}) {
  const [frames, messages, opens, closes] = [new Inbox(), new Inbox(), new Inbox(), new Inbox()];
  const socket = new client.Socket(`ws://${server.address}/socket`, {
    transport: way.transport(client),
    vsn: client.vsn,
    encode: client.encode,
    decode: (data, receive) => {
      frames.push(data);
      client.decode(isBytes(data) ? toBytes(data) : data, receive);
    },
    ...options,
  });
  socket.onOpen(() => opens.push("open"));
  socket.onClose(({ code }) => closes.push(code));
  socket.onMessage(messages.push);
  t.after(() => socket.disconnect());
  socket.connect();
  return { socket, frames, messages, opens, closes };
}

/** The same, once it is connected. */
export async function connect(t, server, client, way = webSocket, options = {}) {
  const connection = dial(t, server, client, way, options);
  await connection.opens.take(`${client.name} connects`);
  return connection;
}

/** The outcome of a push or join, `[status, response]`; joins that are made again can be taken again. */
export function outcomes(push) {
  const inbox = new Inbox();
  for (const status of ["ok", "error", "timeout"]) {
    push.receive(status, (response) => inbox.push([status, response]));
  }
  return inbox;
}

/** A channel that is joined, and its `joins`; `received(event)` gathers the payloads of an event. */
export async function join({ socket }, topic, params = {}) {
  const channel = socket.channel(topic, params);
  const joins = outcomes(channel.join());
  const [status, response] = await joins.take(`join of ${topic}`);
  assert.equal(status, "ok", `join of ${topic}: ${JSON.stringify(response)}`);
  const received = (event) => {
    const inbox = new Inbox();
    channel.on(event, inbox.push);
    return inbox;
  };
  return { channel, joins, received };
}

/** The outcome of one push. */
export function push(channel, event, payload) {
  return outcomes(channel.push(event, payload)).take(`an answer to ${event}`);
}
