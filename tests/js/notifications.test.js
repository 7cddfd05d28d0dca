// The guide's code for a look of one's own, with the published phoenix.js against a real server.

import assert from "node:assert/strict";
import { it } from "node:test";
import { WebSocket } from "ws";
import { KEYS, call } from "./api.js";
import { Inbox, Server } from "./harness.js";
import { snippet } from "./snippets.js";
import { guarded, mint } from "./tokens.js";

globalThis.WebSocket = WebSocket;

const module = (text) => `data:text/javascript,${encodeURIComponent(text)}`;

for (const version of ["1.7", "1.8"]) {
  it(`phoenix.js ${version} shows each message once, kept ones too, and hides what is taken back`, async (t) => {
    const server = await Server.startFor(t, "hailer", guarded({ api: true, rest: KEYS }));
    const [shown, hidden, messages] = [new Inbox(), new Inbox(), new Inbox()];
    const publish = async (target, body, options) =>
      (await call(server, "publish", { ...target, event: "new_msg", payload: { body }, ...options })).id;
    const [lobby, alice, kept] = [{ topic: "room:lobby" }, { user: "alice" }, { expires_in: 600 }];

    const missed = await publish(lobby, "missed", { with_id: true });
    const early = [await publish(alice, "early", kept), await publish(alice, "taken back early", kept)];
    await call(server, "retract", { id: early[1] });
    await publish({ user: "bob" }, "not hers", kept);

    const sockets = [];
    const watched = `
      import { Socket as Published } from ${JSON.stringify(import.meta.resolve(`phoenix-${version}`))};
      export class Socket extends Published {
        constructor(...options) {
          super(...options);
          sockets.push(this);
        }
      }
    `;
    const given = { token: await mint("alice"), userId: "alice", show: shown.push, hide: hidden.push, sockets };
    Object.assign(globalThis, given);
    t.after(() => {
      for (const socket of sockets) socket.disconnect();
      for (const name of Object.keys(given)) delete globalThis[name];
    });
    await import(module(snippet("own.js", server).replace('"phoenix"', JSON.stringify(module(watched)))));
    sockets[0].onMessage(messages.push);
    const first = await shown.take("the kept message");
    assert.deepEqual(first, { body: "early", id: early[0], expires_at: first.expires_at });
    assert.ok(first.expires_at > Date.now(), `kept until ${first.expires_at}`);

    const live = await publish(lobby, "live", { with_id: true });
    assert.deepEqual(await shown.take("the live message"), { body: "live", id: live });
    for (const body of ["without an id", "without an id"]) {
      await publish(lobby, body);
      assert.deepEqual(await shown.take("a message without an id"), { body });
    }
    await call(server, "retract", { id: live });
    assert.equal(await hidden.take("the retraction"), live);

    await call(server, "disconnect", { user: "alice" });
    const isEarly = ({ event, payload }) => event === "new_msg" && payload.id === early[0];
    await messages.take("the kept message", isEarly);
    await messages.take("the kept message comes again with the next connection", isEarly);
    const last = await publish(alice, "last", kept);
    const { expires_at, ...rest } = await shown.take("the last message");
    assert.deepEqual(rest, { body: "last", id: last });
    assert.ok(expires_at >= first.expires_at);
    assert.deepEqual(
      shown.items.map(({ body }) => body),
      ["early", "live", "without an id", "without an id", "last"],
    );
    assert.ok(!messages.items.some(({ payload }) => payload.id === missed), "nobody keeps what has no lifetime");
  });
}
