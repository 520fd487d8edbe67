"""A server that speaks as Supabase Realtime does, as far as the example needs it."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    serve_websocket,
)

__all__ = ["RealtimeServer", "serving_realtime"]


class RealtimeServer:
    """One server: what it was told, and what a test lets it say."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._changed = trio.Event()
        self.joins: list[tuple[str, dict[str, Any]]] = []  # join_ref and payload
        self.tokens: list[str] = []  # pushed by the client
        self.broadcasts: list[tuple[str, str, int, bytes]] = []  # topic, event, encoding, payload
        self.refused = 0
        self._connection: WebSocketConnection | None = None

    async def handle(self, request: WebSocketRequest) -> None:
        """Serve one connection."""
        query = request.path.partition("?")[2].split("&")
        if f"apikey={self._key}" not in query or "vsn=2.0.0" not in query:
            self.refused += 1
            await request.reject(401)
            return
        self._connection = await request.accept()
        try:
            while True:
                await self._heard(await self._connection.get_message())
                self._changed.set()
                self._changed = trio.Event()
        except ConnectionClosed:
            return

    async def _heard(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            assert message[0] == 3, message
            sizes, encoding = message[1:6], message[6]
            parts: list[str] = []
            start = 7
            for size in sizes:
                parts.append(message[start : start + size].decode())
                start += size
            join_ref, _, topic, event, _ = parts
            assert join_ref == self.joins[-1][0]
            self.broadcasts.append((topic, event, encoding, message[start:]))
            return
        join_ref, ref, topic, event, payload = json.loads(message)
        match event:
            case "heartbeat" | "phx_leave":
                await self._reply(join_ref, ref, topic, {})
            case "phx_join":
                self.joins.append((join_ref, payload))
                await self._reply(join_ref, ref, topic, {"postgres_changes": [{"id": 1}]})
            case "access_token":
                self.tokens.append(payload["access_token"])  # and no answer
            case _:
                raise AssertionError(f"{event} should be a binary frame, or is unknown")

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds; it is looked at after each message of the client."""
        while not condition():
            await self._changed.wait()

    async def _reply(self, join_ref: str, ref: str, topic: str, response: Any) -> None:
        reply = {"status": "ok", "response": response}
        await self.say(join_ref, ref, topic, "phx_reply", reply)

    async def say(
        self, join_ref: str | None, ref: str | None, topic: str, event: str, payload: Any
    ) -> None:
        """Send one message as JSON."""
        assert self._connection is not None
        await self._connection.send_message(json.dumps([join_ref, ref, topic, event, payload]))

    async def system(self, topic: str, status: str, text: str) -> None:
        """Say how the subscription of *topic* is doing."""
        payload = {
            "channel": topic.removeprefix("realtime:"),
            "extension": "postgres_changes" if status == "ok" else "system",
            "message": text,
            "status": status,
        }
        await self.say(None, None, topic, "system", payload)

    async def broadcast(self, topic: str, event: str, payload: Any, meta: Any = None) -> None:
        """Send a frame of kind 4."""
        assert self._connection is not None
        is_json = not isinstance(payload, bytes)
        data = json.dumps(payload).encode() if is_json else payload
        fields = [topic.encode(), event.encode(), json.dumps(meta).encode() if meta else b""]
        head = bytes([4, *map(len, fields), is_json])
        await self._connection.send_message(head + b"".join(fields) + data)

    async def close(self, topic: str, why: str) -> None:
        """Do what Realtime does to a channel whose token ran out."""
        await self.system(topic, "error", why)
        await self.say(self.joins[-1][0], None, topic, "phx_close", {})


@asynccontextmanager
async def serving_realtime(key: str) -> AsyncGenerator[tuple[RealtimeServer, str]]:
    """Run a server on a free port; give it, and its URI."""
    server = RealtimeServer(key)
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(serve_websocket, server.handle, "127.0.0.1", 0, None)
        yield server, f"ws://127.0.0.1:{bound.port}/realtime/v1/websocket"
        nursery.cancel_scope.cancel()
