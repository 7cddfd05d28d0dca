// How a Socket of client.js reaches the server. A transport is an object of this shape:
//
// - `name` is what people are shown;
// - `heartbeats` says whether the server has to hear from the client to know that it is there;
// - `open(endpoint, params, on)` starts a connection and returns `{ send(text), close(code) }`. It calls
//   `on.open()` once, then `on.message(text)` for each message, and `on.close(code)` once at the end, never
//   before it has returned. After `close` nothing needs to be called.

/** Close code of a connection that the client gives up on, from the range for applications. */
export const CLOSE_UNANSWERED = 4000;
/** Close code of a connection that ends without a word, as browsers have it. */
const CLOSE_ABNORMAL = 1006;

export const webSocket = {
  name: "WebSocket",
  heartbeats: true,

  open(endpoint, params, on) {
    const url = new URL(`${endpoint}/websocket`, globalThis.location?.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.search = new URLSearchParams({ ...params, vsn: "2.0.0" });
    let ws;
    try {
      ws = new WebSocket(url);
    } catch {
      // Switched off, by a policy or an extension.
      setTimeout(() => on.close(CLOSE_ABNORMAL), 0);
      return { send() {}, close() {} };
    }
    // The default, Blob, would need a task of its own to be read, out of order with text.
    ws.binaryType = "arraybuffer";
    ws.onopen = () => on.open();
    ws.onmessage = ({ data }) => on.message(data);
    ws.onclose = ({ code }) => on.close(code);
    return { send: (text) => ws.send(text), close: (code) => ws.close(code) };
  },
};

/** HTTP requests: one always waits for messages, and another brings what the client says. */
export const longPoll = {
  name: "Long-poll",
  // Every poll tells the server as much.
  heartbeats: false,
  open: (endpoint, params, on) => new LongPollConnection(endpoint, params, on),
};

/** Messages of one POST; a Phoenix server handles no more. */
const BATCH_MAX = 100;
/** Time a request may take. A server answers well before that, if only to say that there is nothing. */
const REQUEST_MS = 20_000;
/** Statuses inside an answer. */
const [STATUS_OK, STATUS_NOTHING, STATUS_GONE] = [200, 204, 410];

class LongPollConnection {
  #url;
  #on;
  #token = null;
  /** Ends every request; its signal says that the connection is over. */
  #end = new AbortController();
  #unsent = [];
  #sending = false;

  constructor(endpoint, params, on) {
    this.#url = new URL(`${endpoint}/longpoll`, globalThis.location?.href);
    this.#url.search = new URLSearchParams({ ...params, vsn: "2.0.0" });
    this.#on = on;
    this.#poll();
  }

  send(text) {
    this.#unsent.push(text);
    if (!this.#sending) this.#post();
  }

  close() {
    this.#end.abort();
  }

  async #poll() {
    while (!this.#end.signal.aborted) {
      const { status, token, messages = [] } = await this.#request({ method: "GET" });
      if (status === STATUS_OK) {
        for (const text of messages) this.#tell(() => this.#on.message(text));
      } else if (status === STATUS_GONE && token && this.#token === null) {
        this.#token = token;
        // The last parameter of a name counts, so the application may have its own token.
        this.#url.searchParams.append("token", token);
        this.#tell(() => this.#on.open());
      } else if (status !== STATUS_NOTHING) {
        // A second token means that the session is gone, and its channels with it.
        this.#fail();
        return;
      }
    }
  }

  async #post() {
    this.#sending = true;
    // What is said in the same breath goes in one request.
    await null;
    while (this.#unsent.length > 0) {
      const body = this.#unsent.splice(0, BATCH_MAX).join("\n");
      const headers = { "content-type": "application/x-ndjson" };
      const { status } = await this.#request({ method: "POST", headers, body });
      if (status !== STATUS_OK) {
        this.#fail();
        return;
      }
    }
    this.#sending = false;
  }

  /** The answer's JSON; an empty object if there is none. */
  async #request(options) {
    const timer = setTimeout(() => this.#fail(), REQUEST_MS);
    try {
      // A browser's cache would let only one of two equal requests go out at a time.
      const response = await fetch(this.#url, { ...options, cache: "no-store", signal: this.#end.signal });
      return (await response.json()) ?? {};
    } catch {
      return {};
    } finally {
      clearTimeout(timer);
    }
  }

  #fail() {
    this.#tell(() => {
      this.close();
      this.#on.close(CLOSE_ABNORMAL);
    });
  }

  /** Tells of each event in a task of its own, as a WebSocket does, and of the end after all that has come. */
  #tell(act) {
    setTimeout(() => this.#end.signal.aborted || act(), 0);
  }
}

/** WebSockets in a row that may fail before long-poll is used. */
const FAILURES_MAX = 2;

/**
 * WebSockets where they get through, and long-poll where they don't. A WebSocket that does not open in time,
 * or the second in a row that fails, is followed by long-poll at once. If that opens, later connections try
 * only one WebSocket before it. If not, it was the server that was away.
 */
export class Automatic {
  #patienceMs;
  #current = webSocket;
  #failures = 0;
  /** Whether long-poll has opened where a WebSocket last did not. */
  #blocked = false;

  constructor({ patienceMs = 2_500 } = {}) {
    this.#patienceMs = patienceMs;
  }

  get name() {
    return this.#current.name;
  }

  get heartbeats() {
    return this.#current.heartbeats;
  }

  open(endpoint, params, on) {
    let connection = null;
    let timer = null;
    const start = (transport, handlers) => {
      clearTimeout(timer);
      this.#current = transport;
      const own = transport.open(endpoint, params, {
        // A connection that has been given up on has nothing more to say.
        open: () => own === connection && handlers.open(),
        message: (text) => own === connection && on.message(text),
        close: (code) => own === connection && handlers.close(code),
      });
      connection = own;
    };
    const fallBack = () => start(longPoll, this.#polling(on));
    start(webSocket, this.#trying(on, () => clearTimeout(timer), fallBack));
    timer = setTimeout(() => {
      connection.close(CLOSE_UNANSWERED);
      fallBack();
    }, this.#patienceMs);
    return {
      send: (text) => connection.send(text),
      close: (code) => {
        clearTimeout(timer);
        connection.close(code);
      },
    };
  }

  /** What to do about a WebSocket's events. */
  #trying(on, stopWaiting, fallBack) {
    let opened = false;
    return {
      open: () => {
        stopWaiting();
        opened = true;
        this.#failures = 0;
        this.#blocked = false;
        on.open();
      },
      close: (code) => {
        stopWaiting();
        if (!opened) this.#failures += 1;
        if (!opened && (this.#blocked || this.#failures >= FAILURES_MAX)) fallBack();
        else on.close(code);
      },
    };
  }

  /** What to do about the events of the long-poll after it. */
  #polling(on) {
    return {
      open: () => {
        this.#blocked = true;
        on.open();
      },
      close: (code) => {
        this.#failures = 0;
        on.close(code);
      },
    };
  }
}
