"""phoenix-channels-python-client, which listens: asyncio over WebSocket, with the token in `api_key`."""

import asyncio

import pytest
from phoenix_channels_python_client import PHXChannelsClient, PhoenixChannelsProtocolVersion, ReconnectPolicy
from phoenix_channels_python_client.exceptions import PHXConnectionError, PHXTopicError

LOBBY = "room:lobby"

# Its own waits for seconds, so that many clients don't come back at once.
AT_ONCE = ReconnectPolicy(
    base_delay_s=0.05,
    max_delay_s=0.2,
    service_restart_min_delay_s=0.05,
    service_restart_max_delay_s=0.1,
    rapid_first_min_delay_s=0.05,
    rapid_second_min_delay_s=0.05,
    rapid_cooldown_base_s=0.05,
    rapid_cooldown_step_s=0,
)


@pytest.fixture
def token_param():
    return "api_key"


async def deadline(inbox, what, wanted=lambda item: True):
    return await asyncio.to_thread(inbox.take, what, wanted)


def publish(server, body):
    return asyncio.to_thread(server.publish, LOBBY, "new_msg", {"body": body})


def play(conversation):
    asyncio.run(asyncio.wait_for(conversation, 60))


def test_a_conversation(server, inbox):
    heard, beats, returns = inbox(), inbox(), inbox()

    async def hear(payload):
        heard.push(payload["body"])

    async def come_back():
        returns.push("back")

    async def subscribe(client):
        await client.subscribe_to_topic(LOBBY)
        client.add_event_handler(LOBBY, "new_msg", hear)

    async def conversation():
        async with PHXChannelsClient(
            f"{server.url()}/websocket",
            server.token("alice"),
            protocol_version=PhoenixChannelsProtocolVersion.V1,
            reconnect_policy=AT_ONCE,
            heartbeat_interval_s=0.2,
            on_heartbeat_ack=lambda: beats.push("beat"),
            on_reconnect=come_back,
        ) as client:
            await subscribe(client)
            await publish(server, "hello")
            assert await deadline(heard, "what is published") == "hello"
            await deadline(beats, "a heartbeat's answer")
            with pytest.raises(PHXTopicError, match="unauthorized"):
                await client.subscribe_to_topic("user:bob")

            await client.unsubscribe_from_topic(LOBBY)
            await publish(server, "while away")
            await subscribe(client)
            await publish(server, "welcome back")
            assert await deadline(heard, "what is published after joining again") == "welcome back"

            await asyncio.to_thread(server.disconnect, "alice")
            await deadline(returns, "the return after the disconnect")
            await publish(server, "after the disconnect")
            assert await deadline(heard, "what is published") == "after the disconnect"
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            await deadline(returns, "the return after the restart")
            await publish(server, "after the restart")
            assert await deadline(heard, "what is published") == "after the restart"

    play(conversation())


def test_v2_hears_no_broadcast(server, inbox):
    """Its own choice: it passes over what carries no join_ref. docs/clients.md says so."""
    heard, beats = inbox(), inbox()

    async def hear(message):
        heard.push(message)

    async def conversation():
        async with PHXChannelsClient(
            f"{server.url()}/websocket",
            server.token("alice"),
            protocol_version=PhoenixChannelsProtocolVersion.V2,
            heartbeat_interval_s=0.2,
            on_heartbeat_ack=lambda: beats.push("beat"),
        ) as client:
            await client.subscribe_to_topic(LOBBY, hear)
            await publish(server, "hello")
            for _ in range(3):
                await deadline(beats, "an answer to a heartbeat that was sent afterwards")
            assert heard.items == []
            await client.unsubscribe_from_topic(LOBBY)

    play(conversation())


def test_a_token_is_needed(server):
    async def conversation():
        with pytest.raises(PHXConnectionError, match="403"):
            async with PHXChannelsClient(f"{server.url()}/websocket", "nonsense"):
                pass

    play(conversation())
