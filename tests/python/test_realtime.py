"""realtime, Supabase's client: V1 over WebSocket, asyncio, with the token in `apikey` and Supabase's broadcasts."""

import asyncio
import logging

import pytest
from realtime import AsyncRealtimeClient

TOPIC = "realtime:lobby"


@pytest.fixture
def token_param():
    return "apikey"


@pytest.fixture(autouse=True)
def understood(caplog):
    """All that the server sends has the shape that the client demands."""
    caplog.set_level(logging.ERROR)
    yield
    unread = [line for line in caplog.messages if "Unrecognized" in line and "token_expiring" not in line]
    assert unread == []


async def deadline(inbox, what, wanted=lambda item: True):
    return await asyncio.to_thread(inbox.take, what, wanted)


def says(body):
    return lambda message: message["payload"] == {"body": body}


class Member:
    """A client in the lobby, and what it hears."""

    def __init__(self, inbox, client):
        self.client, self.states, self.heard = client, inbox(), inbox()

    async def subscribe(self, topic="lobby"):
        channel = self.client.channel(topic)
        channel.on_broadcast("notice", self.heard.push)
        await channel.subscribe(lambda state, error: self.states.push((state.value, str(error))))
        return channel

    async def expect_state(self, state, what):
        return await deadline(self.states, what, lambda entry: entry[0] == state)


def publish(server, body):
    message = {"type": "broadcast", "event": "notice", "payload": {"body": body}}
    return asyncio.to_thread(server.publish, TOPIC, "broadcast", message)


def play(conversation):
    asyncio.run(asyncio.wait_for(conversation, 60))


def test_a_conversation(server, inbox):
    async def conversation():
        alice = Member(inbox, AsyncRealtimeClient(server.url("http"), server.token("alice")))
        bob = Member(inbox, AsyncRealtimeClient(server.url(), server.token("bob")))
        channels = [await member.subscribe() for member in (alice, bob)]
        for member in (alice, bob):
            await member.expect_state("SUBSCRIBED", "the join")
        await publish(server, "hello")
        for member in (alice, bob):
            await deadline(member.heard, "what is published", says("hello"))
        for number in range(20):
            await channels[0].send_broadcast("notice", {"body": number})
        for number in range(20):
            message = await deadline(bob.heard, "alice's messages, in order")
            assert message["payload"] == {"body": number}

        answers = inbox()
        for event, payload in [("nonsense", {}), ("access_token", {"access_token": server.token("alice")})]:
            push = await channels[0].push(event, payload)
            push.receive("ok", lambda _: answers.push("ok")).receive("error", answers.push)
            expected = "ok" if event == "access_token" else {"reason": "unauthorized"}
            assert await deadline(answers, f"the answer to {event}") == expected
        stranger = Member(inbox, alice.client)
        refused = await stranger.subscribe("elsewhere")
        _, why = await stranger.expect_state("CHANNEL_ERROR", "the refusal")
        assert "unauthorized" in why
        await refused.unsubscribe()

        await channels[0].unsubscribe()
        await alice.expect_state("CLOSED", "the leave")
        await publish(server, "while away")
        await deadline(bob.heard, "what is published meanwhile", says("while away"))
        await alice.subscribe()
        await publish(server, "welcome back")
        await deadline(alice.heard, "what is published after joining again", says("welcome back"))
        assert not any(map(says("while away"), alice.heard.items))
        for member in (alice, bob):
            await member.client.close()

    play(conversation())


def test_it_comes_back(server, inbox):
    async def conversation():
        # Parameters are asked for with each connection, where a token of its own is given once and for all.
        client = AsyncRealtimeClient(server.url(), params={"apikey": server.token("alice", ttl="3s")})
        alice = Member(inbox, client)
        await alice.subscribe()
        await alice.expect_state("SUBSCRIBED", "the join")
        client.params["apikey"] = server.token("alice")

        async def expect_return(why):
            await alice.expect_state("CHANNEL_ERROR", f"the close: {why}")
            await alice.expect_state("SUBSCRIBED", f"the join again: {why}")
            await publish(server, why)
            await deadline(alice.heard, "what is published", says(why))

        await expect_return("its token has run out")
        await asyncio.to_thread(server.disconnect, "alice")
        await expect_return("its user was disconnected")
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        await expect_return("the server has been restarted")
        await client.close()

    play(conversation())


def test_a_token_is_needed(server):
    async def conversation():
        with pytest.raises(Exception, match="403"):
            await AsyncRealtimeClient(server.url(), max_retries=1).connect()

    play(conversation())
