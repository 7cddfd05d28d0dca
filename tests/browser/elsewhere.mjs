// Web pages of an application that is not served by Hailer, with phoenix.js in them.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { deadline } from "../js/harness.js";
import { path } from "./tabs.mjs";

const VERSIONS = ["1.7", "1.8"];
const PAGE = "<!doctype html><title>An application</title>";

/** A server of empty pages, one for each version of phoenix.js, until `close`. */
export async function serveElsewhere() {
  const answers = new Map();
  for (const version of VERSIONS) {
    const script = await readFile(path(`../js/node_modules/phoenix-${version}/priv/static/phoenix.js`));
    answers.set(`/${version}`, ["text/html", `${PAGE}<script src="/${version}.js"></script>`]);
    answers.set(`/${version}.js`, ["text/javascript", script]);
  }
  const server = createServer((request, response) => {
    const [type, body] = answers.get(request.url) ?? ["text/html", PAGE];
    response.setHeader("content-type", `${type}; charset=utf-8`).end(body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  const close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { origin: `http://127.0.0.1:${port}`, port, close };
}

/** A tab on a page, until the test `t` ends. */
export async function openPage(t, browser, url) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  await page.goto(url);
  return page;
}

/**
 * Has phoenix.js in the page connect to `server` and join the lobby, each time with the next of the `params` (the
 * last for all further times), until it has joined or was closed `attempts` times: the `outcome`, the `closes`,
 * and how often it has made up its mind to come back.
 */
export function joinFrom(page, server, options) {
  const url = `ws://${server.address}/socket`;
  const joined = page.evaluate(
    ({ url, longPoll, params = [{}], authToken, attempts = 1 }) =>
      new Promise((resolve) => {
        const { Socket, LongPoll } = globalThis.Phoenix;
        const [closes, retries] = [[], []];
        const socket = new Socket(url, {
          params: () => (params.length > 1 ? params.shift() : params[0]),
          ...(authToken === undefined ? {} : { authToken }),
          ...(longPoll ? { transport: LongPoll } : {}),
          reconnectAfterMs: (tries) => {
            retries.push(tries);
            return [10, 100, 1000][tries - 1] ?? 5000;
          },
        });
        const end = (outcome) => {
          resolve({ outcome, closes: [...closes], retries: retries.length });
          socket.disconnect();
        };
        socket.onClose(({ code, reason }) => {
          closes.push({ code, reason });
          if (closes.length === attempts) end("closed");
        });
        socket.channel("room:lobby").join().receive("ok", () => end("joined"));
        socket.connect();
      }),
    { url, ...options },
  );
  return deadline(joined, "the socket of the page is joined or closed");
}

/** Has the page open a WebSocket without phoenix.js: whether it opened, and how it was closed. */
export function closeOf(page, server, params, protocols = []) {
  const query = new URLSearchParams({ ...params, vsn: "2.0.0" });
  const closed = page.evaluate(
    ([url, protocols]) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url, protocols);
        let opened = false;
        socket.onopen = () => (opened = true);
        socket.onclose = ({ code, reason, wasClean }) => resolve({ opened, code, reason, wasClean });
      }),
    [`ws://${server.address}/socket/websocket?${query}`, protocols],
  );
  return deadline(closed, "the WebSocket of the page is closed");
}
