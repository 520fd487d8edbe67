"""``slipstream listen``: a client that prints what it hears."""

import base64
import json
import os
import signal
import sys
from typing import Any

import attrs
import trio

from slipstream.client import SlipstreamClient, Socket
from slipstream.config import Config
from slipstream.errors import (
    CallTimeoutError,
    ConfigError,
    LinkError,
    LocalProtocolError,
    ServerGoneError,
    StartError,
)
from slipstream.interfaces import Fatal
from slipstream.otp import Caller, Stop, open_supervisor
from slipstream.reasons import (
    NORMAL,
    ClosedByServer,
    ConnectFailed,
    Crashed,
    DisconnectReason,
    ExitReason,
    HeartbeatTimeout,
    Shutdown,
    TopicCloseReason,
    TransportFailed,
)

from ._output import write_line
from ._text import complain, in_json, printable, why_closed

__all__ = ["Listening", "run_listen"]

_INTERRUPTED = 130
_PATIENCE = 5.0  # with a request to quit, while a reader of ours pauses


@attrs.frozen
class Listening:
    """What to listen to, and how to print it."""

    config: Config
    topic: str
    params: Any
    event: str | None
    as_json: bool = attrs.field(kw_only=True)


class _Listener(SlipstreamClient, restart="temporary", id="listener", interrupt_after=0.0):
    """Joins one topic and prints its messages. A stop does not wait for a reader that pauses."""

    async def init(self, argument: Listening, socket: Socket, /) -> None:
        """Connect, and ask for the topic."""
        self._listening = argument
        socket.connect(argument.config)
        socket.join(argument.topic, argument.params)

    async def handle_join(self, topic: str, response: Any, socket: Socket, /) -> None:
        """Say that it is joined."""
        await self._say(f"joined {topic}")

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
            text = repr(payload) if isinstance(payload, bytes) else in_json(payload)
            line = f"{topic} {printable(event)} {text}"
        await write_line(sys.stdout, line)

    async def handle_disconnect(self, reason: DisconnectReason, socket: Socket, /) -> Stop | None:
        """Say that the connection is gone; end where it is gone for good."""
        why = _why_disconnected(reason)
        # The policy, asked once more: whether it gives up does not depend on the attempt.
        if isinstance(self._listening.config.reconnect.verdict(reason, 0), Fatal):
            return Stop(Shutdown(why))
        await self._say(f"{why}; trying again")
        return None

    async def handle_topic_close(
        self, topic: str, reason: TopicCloseReason, socket: Socket, /
    ) -> Stop | None:
        """Say that the topic is gone; end where it is gone for good."""
        why = why_closed(topic, reason)
        if socket.join_status(topic) == "closed":
            return Stop(Shutdown(why))
        await self._say(f"{why}; trying again")
        return None

    async def handle_call(self, request: Any, caller: Caller, socket: Socket, /) -> Stop:
        """Leave the topic and end: the one request there is."""
        try:
            if socket.join_status(self._listening.topic) in {"joined", "requested"}:
                socket.leave(self._listening.topic)
                await socket.await_leave(self._listening.topic, 2.0)
        except LinkError:
            await self._say("the server did not confirm the leave")
        return Stop(NORMAL, reply=None)

    async def _say(self, text: str) -> None:
        await write_line(sys.stderr, text)


def run_listen(listening: Listening) -> int:
    """Listen until interrupted or refused for good; give the exit code."""
    return trio.run(_listen, listening)


async def _listen(listening: Listening) -> int:
    code = 0
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            try:
                async with open_supervisor([(_Listener, listening)]) as supervisor:
                    listener = supervisor.child("listener").pin()

                    async def obey() -> None:
                        nonlocal code
                        count = 0
                        async for _ in signals:
                            count += 1
                            if count == 1:
                                nursery.start_soon(quit_)
                            else:
                                code = _INTERRUPTED
                                nursery.cancel_scope.cancel()

                    async def quit_() -> None:
                        nonlocal code
                        try:
                            await listener.call("quit", timeout=_PATIENCE)
                        except ServerGoneError:
                            return  # it ended first, which is what was wanted
                        except CallTimeoutError:
                            code = 1
                            nursery.cancel_scope.cancel()

                    nursery.start_soon(obey)
                    reason = await listener.wait()
                    code = code or _report(reason)
            except StartError as error:
                code = _report(Crashed(error.__cause__ or error))
            except ServerGoneError as error:  # it ended before anybody could wait for that
                code = _report(error.reason)
            nursery.cancel_scope.cancel()
    return code


def _report(reason: ExitReason) -> int:
    match reason:
        case Shutdown(detail=str(why)):
            complain(why)
        case Crashed(exception=BrokenPipeError()):
            # Whoever read us has gone. Python would complain once more while flushing at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        case Crashed(exception=LocalProtocolError() | ConfigError() as error):
            complain(str(error))
            return 2  # topic or params are such that no server could take them
        case Crashed(exception=LinkError() as error):
            complain(str(error))
        case Crashed(exception=error):
            complain(f"{type(error).__name__}: {error}")
        case _ if reason == NORMAL:
            return 0
        case _:
            complain(f"the client ended: {reason}")
    return 1


def _why_disconnected(reason: DisconnectReason) -> str:
    match reason:
        case ConnectFailed(error=error):
            return str(error)
        case ClosedByServer(code=code, reason=text):
            why = f"the server closed the connection with code {code} {printable(text)}"
            return why.rstrip()
        case TransportFailed(error=error):
            return f"the connection broke: {error}"
        case HeartbeatTimeout():
            return "the server no longer answers"
        case _:
            return f"disconnected: {reason}"
