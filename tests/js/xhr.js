// As much of a browser's XMLHttpRequest as the long-poll of phoenix.js needs, over connections of a known kind.

import http from "node:http";

// Where phoenix.js 1.7 looks for a browser's classes.
globalThis.self ??= globalThis;

const DONE = 4;

/** A class of requests that go over the connections of `agent`. */
const over = (agent) =>
  class XMLHttpRequest {
    readyState = 0;
    status = 0;
    responseText = "";
    timeout = 0;
    onreadystatechange = () => {};
    onerror = () => {};
    ontimeout = () => {};
    #request;
    #timer;

    open(method, url) {
      this.#request = http.request(url, { method, agent });
    }

    setRequestHeader(name, value) {
      this.#request.setHeader(name, value);
    }

    send(body) {
      const request = this.#request;
      if (this.timeout > 0) this.#timer = setTimeout(() => this.#fail(this.ontimeout), this.timeout);
      request.on("error", () => this.#fail(this.onerror));
      request.on("response", (response) => {
        const parts = [];
        response.on("data", (part) => parts.push(part));
        response.on("error", () => this.#fail(this.onerror));
        response.on("end", () => this.#end(response.statusCode, Buffer.concat(parts).toString()));
      });
      request.end(body ?? undefined);
    }

    abort() {
      this.#fail(() => {});
    }

    #end(status, text) {
      if (this.readyState === DONE) return;
      clearTimeout(this.#timer);
      this.status = status;
      this.responseText = text;
      this.readyState = DONE;
      this.onreadystatechange();
    }

    /** Browsers tell of the end of a request first, then of what ended it. */
    #fail(tell) {
      if (this.readyState === DONE) return;
      this.#request.destroy();
      this.#end(0, "");
      tell();
    }
  };

/** Requests over connections that stay open, and that any request of the process may use next. */
export const KeptAlive = over(new http.Agent({ keepAlive: true }));

/** Requests that each open a connection of their own. */
export const OneEach = over(new http.Agent({ keepAlive: false }));
