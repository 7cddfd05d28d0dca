// The publish and subscribe of uWebSockets: everyone is in one topic, and what anyone sends goes to all of it.

#include <cstdio>
#include <cstdlib>

#include "App.h"

struct Nothing {};

int main(int count, char **arguments) {
    if (count != 2) {
        std::fprintf(stderr, "usage: uws PORT\n");
        return 2;
    }
    int port = std::atoi(arguments[1]);
    uWS::App app;
    app.ws<Nothing>("/*", {
        .compression = uWS::DISABLED,
        .maxPayloadLength = 1 << 20,
        // No time-out: the clients of the comparison may be silent.
        .idleTimeout = 0,
        // No bound, so that nothing is dropped.
        .maxBackpressure = 0,
        .sendPingsAutomatically = false,
        .open = [](auto *socket) { socket->subscribe("lobby"); },
        .message = [&app](auto *, std::string_view text, uWS::OpCode opcode) { app.publish("lobby", text, opcode); },
    });
    app.listen("127.0.0.1", port, [port](auto *listener) {
        if (!listener) {
            std::fprintf(stderr, "uws: can't listen on port %d\n", port);
            std::exit(1);
        }
        std::printf("listening %d\n", port);
        std::fflush(stdout);
    });
    app.run();
}
