// Bun's own publish and subscribe, which is that of uWebSockets.

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.argv[2]),
  fetch(request, server) {
    if (server.upgrade(request)) return undefined;
    return new Response("a WebSocket is expected\n", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    // The longest there is; the clients of the comparison say nothing for longer than the default.
    idleTimeout: 960,
    sendPings: false,
    // As much as a slow reader of the comparison is sent, so that nothing is dropped.
    backpressureLimit: 16 << 20,
    open(socket) {
      socket.subscribe("lobby");
    },
    message(_, text) {
      server.publish("lobby", text);
    },
  },
});

console.log(`listening ${server.port}`);
