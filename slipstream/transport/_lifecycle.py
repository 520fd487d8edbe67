"""How a transport lives and ends: its tasks, the ways to say goodbye, and the block round it all.

The tasks of a transport are shielded from the block that they run beside: whatever is cancelled
there, they end by a goodbye, which is bounded by ``close_timeout``, or by force.
"""

import sys
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias, cast

import attrs
import trio
from trio.lowlevel import enable_ki_protection

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
    """An endpoint with tasks. They run in :meth:`run`, from the first to the forced end."""

    def __init__(self, request: ConnectRequest) -> None:
        super().__init__(request)
        self._goodbye: Goodbye = HangUp()
        self._goodbye_asked = trio.Event()
        self._goodbye_scope = trio.CancelScope()
        self._finished = trio.Event()

    @property
    @abstractmethod
    def tasks(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """What runs for as long as the connection is there."""

    @abstractmethod
    async def say(self, goodbye: Goodbye) -> None:
        """Say *goodbye*. Is cancelled after ``close_timeout``, or when it has become pointless."""

    @abstractmethod
    async def release(self) -> None:
        """Free the network connection by force. Never blocks."""

    # The interface

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close in order, within ``close_timeout``, then by force; shielded from cancellation.

        Raises:
            ValueError: if *code* may not go on the wire or *reason* is over 123 bytes.
        """
        check_close(code, reason)
        self.begin(Close(code, reason), ClosedByClient())
        await self.wait_finished()

    def abort(self, code: int = 1001) -> None:
        """End at once: one non-blocking Close with *code*, then by force."""
        if not self._goodbye_asked.is_set():
            self.begin(Abort(code), ClosedByClient())
        else:
            self._goodbye_scope.cancel()

    # For the subclass and the block

    def begin(self, goodbye: Goodbye, reason: DisconnectReason) -> None:
        """Start to end, by *goodbye* and because of *reason*. The first call decides."""
        self.settle(reason)
        if not self._goodbye_asked.is_set():
            self._goodbye = goodbye
            self._goodbye_asked.set()

    def closed_by_peer(self, code: int, reason: str) -> None:
        """Note that the peer sent a Close, of its own accord or in answer to ours."""
        self.begin(AnswerClose(code, reason), ClosedByServer(code, reason))

    def broke(self, error: BaseException) -> None:
        """Note that nothing can be written any more, because of *error*."""
        self.begin(HangUp(), TransportFailed(error))
        self._goodbye_scope.cancel()

    def give_up(self) -> None:
        """End without a word: there is nobody to say it to."""
        self.begin(HangUp(), ClosedByClient())
        self._goodbye_scope.cancel()

    async def wait_finished(self) -> None:
        """Wait until everything is over. Shielded from cancellation, since it is bounded."""
        with trio.CancelScope(shield=True):
            await self._finished.wait()

    async def leave(self, raised: BaseException | None) -> None:
        """End as befits a block that was left with the exception *raised*, or normally."""
        if raised is None:
            self.begin(Close(1000, ""), ClosedByClient())
        elif _is_cancelled(raised):
            self.abort(1001)
        else:
            self.begin(Close(1001, ""), ClosedByClient())
        await self.wait_finished()

    @enable_ki_protection  # a Ctrl-C is for the block to judge: it is not to strike in here
    async def run(self) -> None:
        """Run the tasks until the goodbye has been said, then free everything."""
        try:
            # The scope is a shield only: what is beside us may be cancelled, a write may not.
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    for task in self.tasks:
                        nursery.start_soon(_run_protected, task)
                    await self._goodbye_asked.wait()
                    with self._goodbye_scope as scope:
                        scope.deadline = trio.current_time() + self.request.close_timeout
                        await self.say(self._goodbye)
                    nursery.cancel_scope.cancel()
        finally:
            # A reason is missing only where one of the tasks crashed.
            self.settle(TransportFailed(sys.exception() or EOFError("the transport ended")))
            with trio.CancelScope(shield=True):
                await self.release()
            self._finished.set()


@enable_ki_protection
async def _run_protected(task: Callable[[], Awaitable[None]]) -> None:
    await task()


@asynccontextmanager
@enable_ki_protection  # an interrupted end would leave the nursery waiting for ever; not the body
async def beside(endpoint: LivingEndpoint) -> AsyncGenerator[None]:
    """Run the tasks of *endpoint* beside the block, and end it when the block is left.

    The block's own exception leaves as it is, never in a group.
    """
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(endpoint.run)
            try:
                yield
            except BaseException as error:  # noqa: BLE001 - kept for a moment, and raised below
                raised = error
            await endpoint.leave(raised)
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
