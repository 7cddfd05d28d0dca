// The client of Hailer's own pages: Phoenix Channels with V2 messages, without dependencies.
//
//   const socket = new Socket("/socket");
//   const room = socket.channel("room:lobby");
//   room.on("new_msg", ({ body }) => console.log(body));
//   room.onstate = (state) => state === "joined" && room.push("new_msg", { body: "hello" });
//   room.join();
//   socket.connect();
//
// A Socket owns one connection at a time and opens the next when it is lost; a Channel joins again whenever
// there is a connection. Both wait with exponential back-off and full jitter, so that the clients of a
// server that restarts come back spread over time.

import { Automatic, CLOSE_UNANSWERED } from "./transports.js";

export { Automatic, longPoll, webSocket } from "./transports.js";

/** Close code of a server that wants the client to stay away; after any other the client comes back. */
const CLOSE_NORMAL = 1000;

/**
 * Why a push did not succeed. `kind` is "refused" (the server answered so; `response` is its answer),
 * "timeout" (no answer came in time), or "disconnected" (there is no connection, or it was lost first).
 */
export class PushError extends Error {
  constructor(kind, message, response = null) {
    super(message);
    this.name = "PushError";
    this.kind = kind;
    this.response = response;
  }
}

/** The server's words in an error reply, by custom `{"reason": "..."}`. */
function reasonOf(response) {
  return typeof response?.reason === "string" ? response.reason : "no reason given";
}

/** Growing waits: each is drawn from zero up to a ceiling that doubles with every try. */
class Backoff {
  #tries = 0;
  #settings;

  constructor(settings) {
    this.#settings = settings;
  }

  next() {
    const { firstMs, mostMs, random } = this.#settings;
    return random() * Math.min(mostMs, firstMs * 2 ** this.#tries++);
  }

  reset() {
    this.#tries = 0;
  }
}

export class Socket {
  /** "offline", "connecting", "connected" or "waiting" (for the next try). */
  state = "offline";
  /** Called after each change of state with the state and `{ retryMs }`, the wait before the next try. */
  onstate = () => {};

  #endpoint;
  #options;
  #backoff;
  #connection = null;
  /** What the state waits for: the opening, the next try, or the next heartbeat. */
  #timer = null;
  #ref = 0;
  #replies = new Map();
  #channels = new Map();

  /**
   * `endpoint` is where the socket is mounted, for example "/socket". Options: `params` for the query, or a
   * function that gives them anew for each connection, `transport`, `heartbeatMs` between heartbeats, `timeoutMs` for every answer, `firstMs` and `mostMs` as
   * the ceilings of the first and the longest wait between tries, `random` as the source of jitter.
   */
  constructor(endpoint, options = {}) {
    this.#endpoint = endpoint;
    this.#options = {
      params: {},
      transport: new Automatic(),
      heartbeatMs: 30_000,
      timeoutMs: 10_000,
      firstMs: 1_000,
      mostMs: 30_000,
      random: Math.random,
      ...options,
    };
    this.#backoff = this.newBackoff();
  }

  /** The name of the transport in use: of those that a transport chooses from, the one of the connection. */
  get transport() {
    return this.#options.transport.name;
  }

  /** The channel of a topic, made with the params of the first call. It does nothing before `join`. */
  channel(topic, params = {}) {
    let channel = this.#channels.get(topic);
    if (!channel) {
      channel = new Channel(this, topic, params);
      this.#channels.set(topic, channel);
    }
    return channel;
  }

  /** Connects, at once even while waiting for the next try. Does nothing with a connection. */
  connect() {
    if (this.state === "offline" || this.state === "waiting") this.#open();
  }

  /** Ends the connection and stays offline until `connect`. */
  disconnect() {
    if (this.state !== "offline") this.#lose({ close: CLOSE_NORMAL, stay: true });
  }

  /** Goes over to another transport, at once unless offline. */
  use(transport) {
    this.#options.transport = transport;
    if (this.state === "offline") return;
    this.disconnect();
    this.connect();
  }

  #open() {
    const { transport, params, timeoutMs } = this.#options;
    // An event of a connection that has been given up on concerns nobody.
    const ifCurrent = (handle) => (argument) => connection === this.#connection && handle(argument);
    const given = typeof params === "function" ? params() : params;
    const connection = transport.open(this.#endpoint, given, {
      open: ifCurrent(() => this.#handleOpen()),
      message: ifCurrent((text) => this.#handleMessage(text)),
      close: ifCurrent((code) => this.#lose({ stay: code === CLOSE_NORMAL })),
    });
    this.#connection = connection;
    this.#wait(timeoutMs, () => this.#lose({ close: CLOSE_UNANSWERED }));
    this.#enter("connecting");
  }

  #handleOpen() {
    if (this.#options.transport.heartbeats) this.#beatLater();
    else clearTimeout(this.#timer);
    this.#enter("connected");
  }

  #handleMessage(text) {
    const message = decode(text);
    if (!message) return;
    // Only a server that talks has been reached: one that accepts and drops is not asked in a hurry.
    this.#backoff.reset();
    const [joinRef, ref, topic, event, payload] = message;
    if (event === "phx_reply") this.#settle(ref, (reply) => reply.resolve(payload));
    else this.#channels.get(topic)?.handleMessage(joinRef, event, payload);
  }

  #beatLater() {
    const connection = this.#connection;
    const ifCurrent = (act) => connection === this.#connection && act();
    this.#wait(this.#options.heartbeatMs, () => {
      this.request(null, this.nextRef(), "phoenix", "heartbeat", {}).then(
        () => ifCurrent(() => this.#beatLater()),
        ({ kind }) => kind === "timeout" && ifCurrent(() => this.#lose({ close: CLOSE_UNANSWERED })),
      );
    });
  }

  /** The connection is over: closes it with the code `close` if the peer has not, and plans the next. */
  #lose({ close = null, stay = false }) {
    const connection = this.#connection;
    // Forgotten first: a dead connection takes its time to report that it is closed.
    this.#connection = null;
    if (close !== null) connection?.close(close);
    clearTimeout(this.#timer);
    for (const ref of [...this.#replies.keys()]) {
      this.#settle(ref, (reply) => reply.reject(new PushError("disconnected", "the connection was lost")));
    }
    if (stay) {
      this.#backoff.reset();
      this.#enter("offline");
    } else {
      const retryMs = this.#backoff.next();
      this.#wait(retryMs, () => this.#open());
      this.#enter("waiting", { retryMs });
    }
  }

  #wait(ms, act) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(act, ms);
  }

  #enter(state, detail = {}) {
    this.state = state;
    // The channels go first, so that whoever hears of the socket's state finds theirs to match.
    for (const channel of this.#channels.values()) {
      if (state === "connected") channel.handleOpen();
      else channel.handleLost();
    }
    // What a channel's owner did about it may have led on to another state, which has been told.
    if (this.state === state) this.onstate(state, detail);
  }

  #settle(ref, settle) {
    const reply = this.#replies.get(ref);
    if (!reply) return;
    this.#replies.delete(ref);
    clearTimeout(reply.timer);
    settle(reply);
  }

  /** For channels: a ref that no other message of this socket has. */
  nextRef() {
    return String(++this.#ref);
  }

  /** For channels: back-off with this socket's settings. */
  newBackoff() {
    return new Backoff(this.#options);
  }

  /** For channels: sends a message; the promise is its reply, `{ status, response }`, or a PushError. */
  request(joinRef, ref, topic, event, payload) {
    return new Promise((resolve, reject) => {
      if (this.state !== "connected") {
        reject(new PushError("disconnected", "there is no connection"));
        return;
      }
      const expire = () => {
        this.#replies.delete(ref);
        reject(new PushError("timeout", "no answer came in time"));
      };
      this.#replies.set(ref, { resolve, reject, timer: setTimeout(expire, this.#options.timeoutMs) });
      this.#connection.send(JSON.stringify([joinRef, ref, topic, event, payload]));
    });
  }
}

class Channel {
  /** "closed", "joining" (or about to, with the next connection), "joined" or "waiting" (to join again). */
  state = "closed";
  /** Called after each change of state with the state and, for "waiting", `{ reason }`. */
  onstate = () => {};

  #socket;
  #topic;
  #params;
  #handlers = new Map();
  #backoff;
  #timer = null;
  /** The ref of the join that counts; null while there is none. */
  #joinRef = null;

  constructor(socket, topic, params) {
    this.#socket = socket;
    this.#topic = topic;
    this.#params = params;
    this.#backoff = socket.newBackoff();
  }

  /** Calls `handler(payload)` for each message of this event, in place of an earlier handler. */
  on(event, handler) {
    this.#handlers.set(event, handler);
  }

  /** Joins, and joins again after each loss of the connection, until `leave` or the server's close. */
  join() {
    if (this.state !== "closed") return;
    this.#enter("joining");
    this.handleOpen();
  }

  /** Sends an event; the promise is the response of an "ok" reply, or a PushError. */
  async push(event, payload = {}) {
    if (this.state !== "joined") throw new PushError("disconnected", "the channel is not joined");
    const { status, response } = await this.#request(this.#joinRef, this.#socket.nextRef(), event, payload);
    if (status !== "ok") throw new PushError("refused", reasonOf(response), response);
    return response;
  }

  /** Leaves; nothing is received any more. The promise ends when the server knows, or can't be told. */
  async leave() {
    const joinRef = this.#joinRef;
    this.#forget();
    this.#enter("closed");
    if (joinRef !== null) await this.#tellLeave(joinRef);
  }

  /** Called by the socket when there is a connection. */
  handleOpen() {
    if (this.state !== "closed" && this.#socket.state === "connected") this.#tryJoin();
  }

  /** Called by the socket in every state without a connection. */
  handleLost() {
    if (this.state === "closed") return;
    this.#forget();
    this.#enter("joining");
  }

  /** Called by the socket with a message of this topic that is no reply. */
  handleMessage(joinRef, event, payload) {
    // A message with another join's ref belongs to an earlier life of this channel.
    if (this.#joinRef === null || (joinRef !== null && joinRef !== this.#joinRef)) return;
    if (event === "phx_close") {
      this.#forget();
      this.#enter("closed");
    } else if (event === "phx_error") {
      this.#tryLater(reasonOf(payload));
    } else {
      this.#handlers.get(event)?.(payload);
    }
  }

  async #tryJoin() {
    this.#forget();
    const ref = this.#socket.nextRef();
    this.#joinRef = ref;
    this.#enter("joining");
    let reply;
    try {
      reply = await this.#request(ref, ref, "phx_join", this.#params);
    } catch (error) {
      if (ref !== this.#joinRef || error.kind !== "timeout") return;
      // The server may have joined us all the same, unheard.
      this.#tellLeave(ref);
      this.#tryLater(error.message);
      return;
    }
    if (ref !== this.#joinRef) return;
    if (reply.status === "ok") {
      this.#backoff.reset();
      this.#enter("joined");
    } else {
      this.#tryLater(reasonOf(reply.response));
    }
  }

  #tryLater(reason) {
    this.#forget();
    this.#timer = setTimeout(() => this.#tryJoin(), this.#backoff.next());
    this.#enter("waiting", { reason });
  }

  #forget() {
    clearTimeout(this.#timer);
    this.#joinRef = null;
  }

  #tellLeave(joinRef) {
    return this.#request(joinRef, this.#socket.nextRef(), "phx_leave", {}).catch(() => {});
  }

  #request(joinRef, ref, event, payload) {
    return this.#socket.request(joinRef, ref, this.#topic, event, payload);
  }

  #enter(state, detail = {}) {
    if (state === this.state) return;
    this.state = state;
    this.onstate(state, detail);
  }
}

/** The five fields of a text message; null for anything else, also binary, which no page here uses. */
function decode(text) {
  if (typeof text !== "string") return null;
  try {
    const message = JSON.parse(text);
    return Array.isArray(message) && message.length >= 5 ? message : null;
  } catch {
    return null;
  }
}
