"""A client of Supabase Realtime, which speaks Phoenix with an accent.

python supabase.py PROJECT KEY TOPIC, for example: python supabase.py abcdefghijkl eyJhbGci... room-1
"""

import json
import sys
from functools import partial

import slipstream
from slipstream import Config, Message, RejoinPolicy, SlipstreamClient, on_message, open_supervisor
from slipstream.errors import DecodeError
from slipstream.protocol import V2Serializer, pack_fields, unpack_fields

BYTES, JSON = 0, 1  # how the payload of a binary frame is encoded


class BroadcastPush:
    """Kind 3, on the way to the server: a broadcast, whose payload is bytes or JSON."""

    def encode(self, message):
        if message.event != "broadcast":
            return None  # goes as any Phoenix message does
        event, payload = message.payload["event"], message.payload["payload"]
        lengths, fields = pack_fields(
            join_ref=message.join_ref,
            ref=message.ref,
            topic=message.topic,
            event=event,
            metadata=None,
        )
        if isinstance(payload, bytes):
            return lengths + bytes([BYTES]) + fields + payload
        return lengths + bytes([JSON]) + fields + json.dumps(payload).encode()

    def decode(self, body):
        raise DecodeError("a server sends no broadcast of kind 3")


class Broadcast:
    """Kind 4, on the way from the server."""

    def encode(self, message):
        return None

    def decode(self, body):
        (topic, event, metadata), data = unpack_fields(body[:3], body[4:])
        payload = {
            "type": "broadcast",
            "event": event,
            "payload": json.loads(data) if body[3] == JSON else data,
        }
        if metadata:
            payload["meta"] = json.loads(metadata)
        return Message(None, None, topic, "broadcast", payload)


class Realtime(SlipstreamClient):
    """Joins topics, tells when they are subscribed, and keeps their tokens fresh."""

    async def init(self, argument, socket):
        config, self.topics, self.fetch_token, refresh_every = argument
        self.subscribed = set()
        self.last_words = {}
        self.send_every(refresh_every, "refresh")
        socket.connect(config)

    async def handle_connect(self, socket):
        for topic in self.topics:
            socket.join(f"realtime:{topic}", self.join_params)

    async def join_params(self):
        """Ask for a token at each join: the one before may have run out meanwhile."""
        changes = [{"event": "*", "schema": "public", "table": "messages"}]
        return {
            "config": {"broadcast": {"self": True}, "postgres_changes": changes},
            "access_token": await self.fetch_token(),
        }

    async def handle_join(self, topic, response, socket):
        print("joined", topic)  # which is not subscribed: that the server tells in its own time

    async def handle_topic_close(self, topic, reason, socket):
        self.subscribed.discard(topic)
        why = self.last_words.pop(topic, "nothing was said")
        print("lost", topic, type(reason).__name__, f"({why})")

    async def handle_disconnect(self, reason, socket):
        self.subscribed.clear()

    @on_message("realtime:*", "system")
    async def system(self, topic, payload, socket):
        if payload["status"] != "ok":
            self.last_words[topic] = payload["message"]  # a close follows, which says nothing
        elif topic not in self.subscribed:
            self.subscribed.add(topic)
            print("subscribed", topic)
            hello = {"type": "broadcast", "event": "hello", "payload": {"from": "python"}}
            await socket.push(topic, "broadcast", hello)

    @on_message("realtime:*", "broadcast")
    async def broadcast(self, topic, payload, socket):
        print("broadcast", payload["event"], payload["payload"])

    @on_message("realtime:*", "postgres_changes")
    async def changed(self, topic, payload, socket):
        print("changed", payload["data"]["record"])

    async def handle_info(self, message, socket):
        token = await self.fetch_token()
        for topic in [topic for topic in socket.topics if socket.joined(topic)]:
            # Never answered: a push without a timeout is not owed an answer.
            await socket.push(topic, "access_token", {"access_token": token})


async def main(uri, key, topics, fetch_token, *, refresh_every=1800.0, rejoin_after=1.0):
    config = Config(
        uri,
        params={"apikey": key},
        serializer=V2Serializer(kinds={3: BroadcastPush(), 4: Broadcast()}),
        heartbeat_interval=25.0,
        # Realtime closes a channel whose token ran out; with a fresh one it may be joined again.
        rejoin=RejoinPolicy(first=rejoin_after, after_close=True),
    )
    argument = (config, topics, fetch_token, refresh_every)
    async with open_supervisor([(Realtime, argument)]) as supervisor:
        await supervisor.wait()


async def anonymous(key):
    """Give the key of the project itself; an application asks its session for the user's token."""
    return key


if __name__ == "__main__":
    project, key, *topics = sys.argv[1:]
    uri = f"wss://{project}.supabase.co/realtime/v1/websocket"
    slipstream.run(partial(main, uri, key, topics, partial(anonymous, key)))
