"""phxsocket: V1 over WebSocket, with threads and callbacks, and refs that are numbers."""

import time

import phxsocket
import pytest
from websockets.exceptions import InvalidHandshake

LOBBY = "room:lobby"


def hears(body):
    return lambda payload: payload == {"body": body}


class Member:
    """A client in the lobby that comes back by itself, as its README has it."""

    def __init__(self, inbox, server, user):
        self.joins, self.closes, self.messages, self.heard = inbox(), inbox(), inbox(), inbox()
        self._staying = True
        self.socket = phxsocket.Client(f"{server.url()}/websocket", {"token": server.token(user)})
        self.channel = self.socket.channel(LOBBY)
        self.channel.on("new_msg", self.heard.push)
        self.socket.on_message = self.messages.push
        self.socket.on_open = lambda _: self.joins.push(self.channel.join())
        self.socket.on_close = self._come_back

    def _come_back(self, socket):
        self.closes.push("closed")
        if self._staying:
            time.sleep(0.05)  # The client itself does not wait between its tries.
            try:
                socket.connect()
            except (OSError, InvalidHandshake):
                pass  # Which has called this once more.

    def connect(self):
        assert self.socket.connect()
        assert self.joins.take("the join") == {}

    def close(self):
        self._staying = False
        self.socket.close()


@pytest.fixture
def alice(server, inbox):
    alice = Member(inbox, server, "alice")
    alice.connect()
    yield alice
    alice.close()


def test_a_conversation(server, alice):
    channel = alice.channel
    server.publish(LOBBY, "new_msg", {"body": "hello"})
    alice.heard.take("what is published", hears("hello"))
    for number in range(20):
        channel.push("new_msg", {"body": number})
    for number in range(20):
        assert alice.heard.take("its own messages, in order") == {"body": number}

    refused = channel.push("nonsense", {}, reply=True).wait_for_response()
    assert refused == {"status": "error", "response": {"reason": "unauthorized"}}
    renewed = channel.push("access_token", {"access_token": server.token("alice")}, reply=True).wait_for_response()
    assert renewed["status"] == "ok"
    with pytest.raises(phxsocket.channel.ChannelConnectError, match="unauthorized"):
        alice.socket.channel("user:bob").join()
    beat = alice.messages.take("a heartbeat's answer", lambda message: message.topic == "phoenix")
    assert (beat.event, beat.payload) == ("phx_reply", {"status": "ok", "response": {}})

    # Its result is of no use in 0.1.5, whatever the server answers.
    channel.leave()
    alice.messages.take("the channel's end", lambda message: message.event == "phx_close")
    server.publish(LOBBY, "new_msg", {"body": "while away"})
    assert channel.join() == {}
    server.publish(LOBBY, "new_msg", {"body": "welcome back"})
    alice.heard.take("what is published after joining again", hears("welcome back"))
    assert {"body": "while away"} not in alice.heard.items
    assert alice.closes.items == []


def test_a_token_is_needed(server):
    with pytest.raises(Exception, match="403"):
        phxsocket.Client(f"{server.url()}/websocket").connect()


def test_it_comes_back(server, alice):
    server.disconnect("alice")
    alice.closes.take("the disconnect")
    alice.joins.take("the join after the disconnect")
    server.publish(LOBBY, "new_msg", {"body": "after the disconnect"})
    alice.heard.take("what is published", hears("after the disconnect"))
    server.stop()
    alice.closes.take("the close")
    server.start()
    alice.joins.take("the join after the restart")
    server.publish(LOBBY, "new_msg", {"body": "after the restart"})
    alice.heard.take("what is published", hears("after the restart"))


def test_it_comes_back_with_a_fresh_token(server, alice):
    alice.socket.set_params({"token": server.token("alice", ttl="3s")})
    server.disconnect("alice")
    alice.closes.take("the disconnect")
    alice.joins.take("the join with the short token")
    alice.socket.set_params({"token": server.token("alice")})
    alice.closes.take("the close as the token has run out")
    alice.joins.take("the join with a fresh token")
