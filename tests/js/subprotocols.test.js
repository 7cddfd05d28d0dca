// Subprotocols of WebSockets, as clients that are no phoenix.js offer them, and beside phoenix.js's token.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { WebSocket } from "ws";
import { Socket } from "phoenix-1.8";
import { Server, deadline } from "./harness.js";
import { guarded, mint } from "./tokens.js";

const BEARER = "base64url.bearer.phx.";

let listed, plain;
before(async () => {
  listed = await Server.start("hailer", guarded({ above: 'subprotocols = ["v2.chat", "v1.chat"]' }));
  plain = await Server.start("hailer", guarded());
});
after(() => Promise.all([listed.kill(), plain.kill()]));

/** What the server chooses of what is offered: a name, "" for none, or the status of its refusal. */
async function chosen(t, server, offered) {
  const token = await mint(randomUUID());
  const url = `${server.url.replace("http", "ws")}/socket/websocket?vsn=2.0.0&token=${token}`;
  const socket = new WebSocket(url, offered);
  t.after(() => socket.terminate());
  const outcome = new Promise((resolve) => {
    socket.on("open", () => resolve(socket.protocol));
    socket.on("unexpected-response", (_, response) => resolve(response.statusCode));
    socket.on("error", (error) => resolve(error.message));
  });
  return deadline(outcome, `an answer to ${offered}`);
}

describe("a list of subprotocols", () => {
  for (const [offered, expected] of [
    [["v1.chat", "v2.chat"], "v2.chat"],
    [["v1.chat"], "v1.chat"],
    [["mqtt", "v1.chat"], "v1.chat"],
    [["v2.chat", "phoenix"], "phoenix"],
    [["mqtt"], 403],
    [[], ""],
  ]) {
    it(`answers ${JSON.stringify(offered)} with ${JSON.stringify(expected)}`, async (t) => {
      assert.equal(await chosen(t, listed, offered), expected);
    });
  }

  it("names itself in the log when nothing of it is offered", async (t) => {
    assert.equal(await chosen(t, listed, ["amqp", "secret-of-mine"]), 403);
    const line = await listed.log.take("the refusal", (line) => line.includes("no subprotocol in common"));
    assert.match(line, /phoenix, v2\.chat, v1\.chat/);
    assert.doesNotMatch(line, /secret-of-mine/);
  });
});

describe("without a list", () => {
  // ws closes a WebSocket whose offer is not answered, as nothing but the server's answer can say.
  for (const [offered, expected] of [
    [["phoenix"], "phoenix"],
    [["chat", "phoenix"], "phoenix"],
    [["chat"], "Server sent no subprotocol"],
    [[], ""],
  ]) {
    it(`${JSON.stringify(offered)} is answered with ${JSON.stringify(expected)}`, async (t) => {
      assert.equal(await chosen(t, plain, offered), expected);
    });
  }
});

for (const [what, server] of [["with a list", () => listed], ["without a list", () => plain]]) {
  it(`the authToken of phoenix.js works ${what}`, async (t) => {
    let used;
    class Transport extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols);
        used = this;
        assert.ok(protocols.some((protocol) => protocol.startsWith(BEARER)));
      }
    }
    const authToken = await mint(randomUUID());
    const socket = new Socket(`${server().url.replace("http", "ws")}/socket`, { authToken, transport: Transport });
    t.after(() => socket.disconnect());
    const opened = new Promise((resolve, reject) => {
      socket.onOpen(resolve);
      socket.onError(reject);
    });
    socket.connect();
    await deadline(opened, "it is connected");
    assert.equal(used.protocol, "phoenix");
  });
}
