"""``slipstream push`` and ``slipstream join``: do one thing at a server, say how it went, leave."""

import base64
import json
import os
import sys
from functools import partial
from typing import Any, Final

import attrs

from slipstream.client import Socket, open_socket
from slipstream.config import Config
from slipstream.errors import (
    ConfigError,
    ConnectError,
    DisconnectedError,
    JoinError,
    LinkError,
    LocalProtocolError,
    PushTimeoutError,
)
from slipstream.otp import run
from slipstream.reasons import ClosedByServer, JoinFailed, JoinRefused, JoinTimedOut

from ._text import complain, in_json, why_closed

__all__ = ["Joining", "Push", "run_once"]

DONE: Final = 0
FAILED: Final = 1
WRONG: Final = 2
REFUSED: Final = 3
UNANSWERED: Final = 4


@attrs.frozen
class Joining:
    """What to join, and how to print the answer."""

    config: Config
    topic: str
    params: Any
    as_json: bool = attrs.field(kw_only=True)


@attrs.frozen
class Push:
    """What to push, and whether a reply is waited for."""

    event: str
    payload: Any
    waits: bool = attrs.field(kw_only=True)


def run_once(joining: Joining, push: Push | None = None) -> int:
    """Join, *push* if there is something to, print the answer and leave; give the exit code."""
    try:
        code: int = run(partial(_guarded, joining, push))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has gone. Python would complain once more while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code


async def _guarded(task: Joining, push: Push | None) -> int:
    """Do it; turn what ends it into a line and a code."""
    try:
        return await _do(task, push)
    except ConnectError as error:
        complain(str(error), _advice_to_connect(error))
        return FAILED
    except JoinError as error:
        return _not_joined(task, error)
    except PushTimeoutError as error:
        complain(str(error), "where nothing answers this event, give --no-reply; else --timeout")
        return UNANSWERED
    except DisconnectedError as error:
        closed = isinstance(error.reason, ClosedByServer)
        complain(str(error), "the server's log says why" if closed else None)
        return FAILED
    except (LocalProtocolError, ConfigError) as error:
        complain(str(error))
        return WRONG
    except LinkError as error:
        complain(str(error))
        return FAILED


async def _do(task: Joining, push: Push | None) -> int:
    async with open_socket(task.config) as socket:
        socket.join(task.topic, task.params)
        response = await socket.await_join(task.topic)
        code = DONE
        if push is not None:
            code = await _push(task, push, socket)
        else:
            _tell(task, {"topic": task.topic}, response)
        socket.leave(task.topic)
        await socket.await_leave(task.topic)
    return code


async def _push(task: Joining, push: Push, socket: Socket) -> int:
    if not push.waits:
        await socket.push(task.topic, push.event, push.payload)
        return DONE  # the leave goes out behind it
    reply = await socket.request(task.topic, push.event, push.payload)
    about = {"topic": task.topic, "event": push.event, "status": reply.status}
    if not reply.ok and not task.as_json:
        complain(f"the server answered {push.event!r} with {reply.status!r}")
    _tell(task, about, reply.response)
    return DONE if reply.ok else REFUSED


def _tell(task: Joining, about: dict[str, str], response: Any) -> None:
    if task.as_json:
        binary = isinstance(response, bytes)
        shown = (
            {"binary": base64.b64encode(response).decode()} if binary else {"response": response}
        )
        line = json.dumps({**about, **shown})
    else:
        line = repr(response) if isinstance(response, bytes) else in_json(response)
    data = line.encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding)
    print(data, flush=True)


def _not_joined(task: Joining, error: JoinError) -> int:
    match error.reason:
        case JoinRefused(response={"reason": "unmatched topic"} as response):
            advice = "no channel of that socket takes this topic: compare it with its channel lines"
        case JoinRefused(response=response):
            advice = "params of the join are given with --params"
        case JoinTimedOut():
            complain(
                why_closed(task.topic, error.reason), "a longer --timeout, or the server's log"
            )
            return UNANSWERED
        case JoinFailed():
            complain(why_closed(task.topic, error.reason))
            return WRONG
        case _:
            complain(str(error))
            return FAILED
    if task.as_json:
        print(
            json.dumps({"topic": task.topic, "status": "error", "response": response}), flush=True
        )
    complain(why_closed(task.topic, error.reason), advice)
    return REFUSED


def _advice_to_connect(error: ConnectError) -> str | None:
    match error.step, error.status:
        case _, 401 | 403:
            return "give a token with --token, or params in the URI's query"
        case _, 404:
            return "does the path end in /websocket, as in ws://host:4000/socket/websocket?"
        case _, int():
            return None
        case "dns", _:
            return "is the host's name right?"
        case "tcp", _:
            return "does the server run there, on that port?"
        case "tls", _:
            return (
                "is it wss:// that the server speaks, with a certificate that this machine trusts?"
            )
        case _:
            return None
