"""``slipstream listen``: a client that prints what it hears."""

import base64
import json
import os
import signal
import sys
from typing import Any

import attrs
import trio

from slipstream.client import ClientRef, SlipstreamClient, Socket
from slipstream.config import Config
from slipstream.errors import LinkError, ServerGoneError
from slipstream.otp import Caller, Stop, open_supervisor
from slipstream.reasons import (
    NORMAL,
    ConnectFailed,
    Crashed,
    DisconnectReason,
    ExitReason,
    JoinRefused,
    Shutdown,
    TopicCloseReason,
)

__all__ = ["Listening", "run_listen"]

_INTERRUPTED = 130


@attrs.frozen
class Listening:
    """What to listen to, and how to print it."""

    config: Config
    topic: str
    params: Any
    event: str | None
    as_json: bool = attrs.field(kw_only=True)


class _Listener(SlipstreamClient, restart="temporary", id="listener"):
    """Joins one topic and prints its messages."""

    async def init(self, argument: Listening, socket: Socket, /) -> None:
        """Connect, and ask for the topic."""
        self._listening = argument
        socket.connect(argument.config)
        socket.join(argument.topic, argument.params)

    async def handle_join(self, topic: str, response: Any, socket: Socket, /) -> None:
        """Say that it is joined."""
        self._say(f"joined {topic}")

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Socket, /) -> None:
        """Print a message."""
        if self._listening.event is not None and event != self._listening.event:
            return
        if self._listening.as_json:
            binary = isinstance(payload, bytes)
            shown = (
                {"binary": base64.b64encode(payload).decode()} if binary else {"payload": payload}
            )
            line = json.dumps({"topic": topic, "event": event, **shown})
        else:
            text = repr(payload) if isinstance(payload, bytes) else json.dumps(payload)
            line = f"{topic} {event} {text}"
        print(line, flush=True)

    async def handle_disconnect(self, reason: DisconnectReason, socket: Socket, /) -> None:
        """Say that the connection is gone."""
        self._say(f"disconnected: {_brief(reason)}; trying again")

    async def handle_topic_close(
        self, topic: str, reason: TopicCloseReason, socket: Socket, /
    ) -> Stop | None:
        """Say that the topic is gone; end where it is gone for good."""
        if socket.join_status(topic) == "closed":
            return Stop(Shutdown(_why_closed(topic, reason)))
        self._say(f"{_why_closed(topic, reason)}; trying again")
        return None

    async def handle_call(self, request: Any, caller: Caller, socket: Socket, /) -> Stop:
        """Leave the topic and end: the one request there is."""
        try:
            if socket.join_status(self._listening.topic) in {"joined", "requested"}:
                socket.leave(self._listening.topic)
                await socket.await_leave(self._listening.topic, 2.0)
        except LinkError:
            self._say("the server did not confirm the leave")
        return Stop(NORMAL, reply=None)

    def _say(self, text: str) -> None:
        if not self._listening.as_json:
            print(text, file=sys.stderr, flush=True)


def run_listen(listening: Listening) -> int:
    """Listen until interrupted or refused for good; give the exit code."""
    return trio.run(_listen, listening)


async def _listen(listening: Listening) -> int:
    code = 0
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            async with open_supervisor([(_Listener, listening)]) as supervisor:
                listener = supervisor.child("listener")
                assert isinstance(listener, ClientRef)  # noqa: S101 - for the type checkers
                listener = listener.pin()

                async def obey() -> None:
                    nonlocal code
                    count = 0
                    async for _ in signals:
                        count += 1
                        if count == 1:
                            nursery.start_soon(_quit, listener)
                        else:
                            code = _INTERRUPTED
                            nursery.cancel_scope.cancel()

                nursery.start_soon(obey)
                reason = await listener.wait()
                code = code or _report(reason)
            nursery.cancel_scope.cancel()
    return code


async def _quit(listener: ClientRef) -> None:
    try:
        await listener.call("quit", timeout=10.0)
    except ServerGoneError:
        return  # it ended first, which is what was wanted


def _report(reason: ExitReason) -> int:
    match reason:
        case Crashed(exception=LinkError() as error):
            print(f"slipstream: {error}", file=sys.stderr)
        case Crashed(exception=BrokenPipeError()):
            # Whoever read us has gone. Python would complain once more while flushing at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        case Crashed(exception=error):
            print(f"slipstream: {type(error).__name__}: {error}", file=sys.stderr)
        case Shutdown(detail=str(why)):
            print(f"slipstream: {why}", file=sys.stderr)
        case _:
            return 0
    return 1


def _brief(reason: DisconnectReason) -> str:
    return str(reason.error) if isinstance(reason, ConnectFailed) else str(reason)


def _why_closed(topic: str, reason: TopicCloseReason) -> str:
    if isinstance(reason, JoinRefused):
        return f"the server refused {topic}: {json.dumps(reason.response, default=repr)}"
    return f"{topic} was closed: {reason}"
