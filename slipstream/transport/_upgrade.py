"""From a byte stream to a WebSocket (RFC 6455, section 4): trio-websocket asks and judges the answer.

Everything that it, wsproto or h11 raise becomes a :class:`ConnectError`. Once the server has agreed it
is let go: what it keeps for each connection (15 KiB), and the turns of its tasks, would be most of what
ours costs.
"""

import base64
from typing import NoReturn, cast

import attrs
import trio
import trio_websocket

from slipstream.errors import RemoteProtocolError
from slipstream.interfaces import ConnectRequest

from ._attempt import Attempt, Target
from ._deflate import Deflater, Inflater, agree, build_offer
from ._lifecycle import bare
from ._response import ResponseReader, ResponseState
from ._stream import SocketStream
from ._tap import Tap

__all__ = ["Upgraded", "upgrade"]

REFUSAL_GRACE = 1.0
"""Seconds that the body of a refusal has to arrive, after its head."""


@attrs.frozen
class Upgraded:
    """What was agreed on; *rest* is what came behind the answer."""

    headers: tuple[tuple[str, str], ...]
    subprotocol: str | None
    inflater: Inflater | None
    deflater: Deflater | None
    rest: bytes


async def upgrade(
    stream: SocketStream, target: Target, request: ConnectRequest, attempt: Attempt
) -> Upgraded:
    """Ask the server for a WebSocket. Failed or cancelled, it leaves a stream that can only be closed.

    Raises:
        ConnectError: if it refuses, or answers what cannot be; with the cause.
    """
    tap = Tap(stream, takes_extensions=request.compression is not None)
    answer = tap.answer
    try:
        with trio.fail_at(attempt.deadline):
            async with trio.open_nursery() as nursery:
                websocket = await trio_websocket.wrap_client_stream(
                    nursery,
                    # Its annotation names trio's own streams; it needs but their interface.
                    cast("trio.SocketStream", tap),
                    target.authority,
                    target.resource,
                    subprotocols=request.subprotocols,
                    extra_headers=_extra_headers(target, request),
                )
                nursery.cancel_scope.cancel()
        inflater, deflater = _agree(request, tap.extensions)
        return Upgraded(answer.headers, websocket.subprotocol, inflater, deflater, answer.rest)
    except trio.TooSlowError as error:
        raise attempt.timed_out() from error
    except BaseExceptionGroup as group:
        ends, _ = group.split(lambda error: not isinstance(error, Exception))
        if ends is not None:
            raise bare(ends) from None
        cause = _root(bare(group))
    except RemoteProtocolError as error:
        cause = error
    if answer.state in {ResponseState.BODY, ResponseState.COMPLETE}:
        await _refuse(stream, answer, attempt)
    raise attempt.error(f"the upgrade failed: {cause}") from cause


async def _refuse(stream: SocketStream, answer: ResponseReader, attempt: Attempt) -> NoReturn:
    """Read the body, for a while, and raise what the server answered."""
    with trio.move_on_at(min(attempt.deadline, trio.current_time() + REFUSAL_GRACE)):
        while answer.state is not ResponseState.COMPLETE:
            try:
                data = await stream.receive_some()
            except OSError:
                break  # the answer is what counts, as far as it came
            answer.feed(data) if data else answer.feed_eof()
    raise attempt.error(
        answer.refusal,
        status=answer.status,
        headers=answer.headers,
        body=answer.body,
    )


def _agree(
    request: ConnectRequest, extensions: str | None
) -> tuple[Inflater | None, Deflater | None]:
    """Read which extension the server accepted.

    Raises:
        RemoteProtocolError: if it is not what was offered.
    """
    if request.compression is None or extensions is None:
        return None, None
    agreed = agree(request.compression, extensions)
    return Inflater(agreed), Deflater(request.compression, agreed)


def _extra_headers(target: Target, request: ConnectRequest) -> list[tuple[bytes, bytes]]:
    headers = [(name.encode(), value.encode()) for name, value in request.headers]
    if request.compression is not None:
        headers.append((b"Sec-WebSocket-Extensions", build_offer(request.compression).encode()))
    credentials = target.credentials
    if credentials is not None and not any(name.lower() == b"authorization" for name, _ in headers):
        headers.append((b"Authorization", b"Basic " + base64.b64encode(credentials.encode())))
    return headers


def _root(error: BaseException) -> BaseException:
    """Find what *error* is really about: the first one, which the others came of.

    trio-websocket answers a bad 101 with a rejection, which no client may send, and the refusal to
    do so hides what was wrong with the 101.
    """
    while error.__context__ is not None:
        error = error.__context__
    return error
