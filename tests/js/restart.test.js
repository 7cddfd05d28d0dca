// A server that ends and comes back, as phoenix.js sees it.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CLIENTS, LONG_POLLS, Server, connect, join, webSocket } from "./harness.js";

const TOPIC = "room:lobby";

// Where a server's end meets a request, phoenix.js makes 1011 of it; 3410 is a session that is not known any more.
const WAYS = [
  { way: webSocket, codes: { stop: [1012], kill: [1006] } },
  ...LONG_POLLS.map((way) => ({ way: { ...way, shards: 4 }, codes: { stop: [1011], kill: [1011, 3410] } })),
];

for (const { way, codes } of WAYS) for (const client of CLIENTS) {
  describe(`${client.name}, ${way.name}`, () => {
    for (const ending of ["stop", "kill"]) {
      it(`comes back by itself after the server's ${ending} and start on the same port`, async (t) => {
        const server = await Server.startFor(t, "hailer", { shards: way.shards });
        const { socket, closes, opens } = await connect(t, server, client, way);
        const { channel, joins, received } = await join({ socket }, TOPIC);
        const payloads = received("new_msg");
        channel.push("new_msg", { body: "before" });
        await payloads.take("the message before");

        await server[ending]();
        const code = await closes.take("the close");
        assert.ok(codes[ending].includes(code), `closed with ${code}`);
        await server.start();

        await opens.take("the reconnect");
        assert.deepEqual(await joins.take("the rejoin"), ["ok", {}]);
        channel.push("new_msg", { body: "after" });
        await payloads.take("the message after");
        assert.deepEqual(payloads.items, [{ body: "before" }, { body: "after" }]);
      });
    }

    it("without a channel is not told to stay away when the server ends", async (t) => {
      const server = await Server.startFor(t, "hailer", { shards: way.shards });
      const { closes } = await connect(t, server, client, way);
      await server.stop();
      assert.notEqual(await closes.take("the close"), 1000);
    });
  });
}

it("every one of many sockets is closed with 1012", async (t) => {
  const server = await Server.startFor(t, "hailer");
  const connections = [];
  for (let n = 0; n < 10; n++) {
    for (const client of CLIENTS) {
      const connection = await connect(t, server, client);
      await join(connection, TOPIC);
      connections.push(connection);
    }
  }
  await server.stop();
  for (const { closes } of connections) assert.equal(await closes.take("the close"), 1012);
});
