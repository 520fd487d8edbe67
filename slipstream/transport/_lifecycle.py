"""How a transport lives and ends: its tasks, the ways to say goodbye, and the block round it all.

The tasks of a transport are shielded from the block that they run beside: whatever is cancelled
there, they end by a goodbye, which is bounded by ``close_timeout``, or by force. A task costs some
KiB, and its turns most of what a short connection costs, so there are few.
"""

import sys
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias, cast

import attrs
import trio

from slipstream.interfaces import ConnectRequest
from slipstream.reasons import ClosedByClient, ClosedByServer, DisconnectReason, TransportFailed

from ._endpoint import Endpoint, check_close

__all__ = [
    "Abort",
    "AnswerClose",
    "Close",
    "Fail",
    "Goodbye",
    "HangUp",
    "LivingEndpoint",
    "bare",
    "beside",
]


@attrs.frozen
class Close:
    """We close in order: what is queued (code 1000 only), our Close, the peer's, the end of TCP."""

    code: int
    reason: str


@attrs.frozen
class AnswerClose:
    """The peer closes: answer its Close and leave the end of TCP to it, for a while."""

    code: int
    reason: str


@attrs.frozen
class Fail:
    """The peer broke the protocol: tell it with a Close, and read nothing more."""

    code: int
    reason: str


@attrs.frozen
class Abort:
    """There is no time: one Close, if it can go out at once."""

    code: int


@attrs.frozen
class HangUp:
    """Nothing can be said any more."""


Goodbye: TypeAlias = Close | AnswerClose | Fail | Abort | HangUp


class LivingEndpoint(Endpoint):
    """An endpoint with tasks, in the nursery of the block round it.

    While nothing happens there is one that reads, or none. One that writes is there while something
    is queued, and one says goodbye.
    """

    def __init__(self, request: ConnectRequest) -> None:
        super().__init__(request)
        self._nursery: trio.Nursery | None = None
        self._scopes: set[trio.CancelScope] = set()
        self._goodbye: Goodbye | None = None
        self._goodbye_scope = trio.CancelScope()
        self._finished = trio.Event()

    @abstractmethod
    async def read(self) -> None:
        """Read for as long as the connection is there."""

    @abstractmethod
    async def write(self) -> None:
        """Write until nothing is queued. There is never more than one that does."""

    @abstractmethod
    async def say(self, goodbye: Goodbye) -> None:
        """Say *goodbye*. Is cancelled after ``close_timeout``, or when it has become pointless."""

    @abstractmethod
    def release(self) -> None:
        """Free the network connection by force."""

    # The interface

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close in order, within ``close_timeout``, then by force; shielded from cancellation.

        Raises:
            ValueError: if *code* may not go on the wire or *reason* is over 123 bytes.
        """
        check_close(code, reason)
        self.begin(Close(code, reason), ClosedByClient())
        with trio.CancelScope(shield=True):  # it is bounded
            await self._finished.wait()

    def abort(self, code: int = 1001) -> None:
        """End at once: one non-blocking Close with *code*, then by force."""
        if self._goodbye is None:
            self.begin(Abort(code), ClosedByClient())
        else:
            self._goodbye_scope.cancel()

    # For the subclass and the block

    def start(self, nursery: trio.Nursery) -> None:
        """Start to live in *nursery*."""
        self._nursery = nursery
        self._start(self.read)

    def hasten(self) -> None:
        """Let what was just queued be written, in one piece with what others queue now."""
        self.writer_is_there = True
        self._start(self._write)

    def begin(self, goodbye: Goodbye, reason: DisconnectReason) -> None:
        """Start to end, by *goodbye* and because of *reason*. The first call decides."""
        self.settle(reason)
        if self._goodbye is None:
            self._goodbye = goodbye
            self._start(self._end)

    def closed_by_peer(self, code: int, reason: str) -> None:
        """Note that the peer sent a Close, of its own accord or in answer to ours."""
        self.begin(AnswerClose(code, reason), ClosedByServer(code, reason))

    def broke(self, error: BaseException) -> None:
        """Note that nothing can be written any more, because of *error*."""
        self.begin(HangUp(), TransportFailed(error))
        self._goodbye_scope.cancel()

    def leave(self, raised: BaseException | None) -> None:
        """Start to end as befits a block that was left with the exception *raised*, or normally."""
        if raised is None:
            self.begin(Close(1000, ""), ClosedByClient())
        elif _is_cancelled(raised):
            self.abort(1001)
        else:
            self.begin(Close(1001, ""), ClosedByClient())

    def _start(self, task: Callable[[], Awaitable[None]]) -> None:
        assert self._nursery is not None  # noqa: S101 - it lives
        self._nursery.start_soon(self._run, task)

    @trio.lowlevel.enable_ki_protection
    async def _run(self, task: Callable[[], Awaitable[None]]) -> None:
        if self._finished.is_set():
            return  # all was over before this began
        # What is beside us may be cancelled, a write may not: the goodbye alone ends a task.
        with trio.CancelScope(shield=True) as scope:
            self._scopes.add(scope)
            try:
                await task()
            finally:
                self._scopes.remove(scope)
                error = sys.exception()
                if isinstance(error, Exception):  # a crash
                    self.begin(HangUp(), TransportFailed(error))

    async def _write(self) -> None:
        try:
            await self.write()
        finally:
            self.writer_is_there = False

    async def _end(self) -> None:
        assert self._goodbye is not None  # noqa: S101 - it was begun
        try:
            with self._goodbye_scope as scope:
                scope.deadline = trio.current_time() + self.request.close_timeout
                await self.say(self._goodbye)
        finally:
            for scope in self._scopes:
                scope.cancel()
            while len(self._scopes) > 1:  # one is ours; the others may not find a closed socket
                await trio.lowlevel.cancel_shielded_checkpoint()
            self.release()
            self._finished.set()


@asynccontextmanager
@trio.lowlevel.enable_ki_protection  # an interrupted end would wait for ever; not the body
async def beside(endpoint: LivingEndpoint) -> AsyncGenerator[None]:
    """Run the tasks of *endpoint* beside the block, and end it when the block is left.

    The block's own exception leaves as it is, never in a group.
    """
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            endpoint.start(nursery)
            try:
                yield
            except BaseException as error:  # noqa: BLE001 - kept for a moment, and raised below
                raised = error
            endpoint.leave(raised)
    except BaseExceptionGroup as group:
        raise bare(group) from raised  # a task crashed: it matters more, but hides nothing
    if raised is not None:
        try:
            raise raised
        finally:
            del raised  # the exception's traceback would refer to itself


def bare(error: BaseException) -> BaseException:
    """Take *error* out of groups that hold nothing else; of several cancellations, take one."""
    leaves = _leaves(error)
    if len(leaves) == 1 or _is_cancelled(error):
        return leaves[0]
    return error


def _is_cancelled(error: BaseException) -> bool:
    return all(isinstance(leaf, trio.Cancelled) for leaf in _leaves(error))


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [leaf for each in group.exceptions for leaf in _leaves(each)]
