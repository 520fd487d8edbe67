"""How assertions wait, and what a failed one says."""

from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar, cast

import trio

from slipstream.client import ANY
from slipstream.reasons import NORMAL, Crashed, ExitReason

from ._patterns import describe, differences
from ._script import Attempt, Heard, Wire
from ._time import Patience, check_virtual, settle, wait_until
from ._timeline import Call, End, Timeline

__all__ = ["Waiting", "differ", "differ_in_arguments", "expected", "shown"]

__tracebackhide__ = True  # pytest shows the line of the test

T = TypeVar("T")


class Waiting:
    """Waits for what a test asserts, and tells the story where it does not come.

    Attributes:
        timeline: everything that happened, for messages.
    """

    def __init__(self, timeline: Timeline, ends: list[End]) -> None:
        self.timeline = timeline
        self._ends = ends
        self.failure: BaseException | None = None
        self.patience = Patience()

    @property
    def ends(self) -> list[ExitReason]:
        """Why each incarnation of the client has ended, so far."""
        return [end.reason for end in self._ends]

    @property
    def last_exit(self) -> ExitReason:
        """How the client's last incarnation has ended; ``NORMAL`` if none has."""
        return self._ends[-1].reason if self._ends else NORMAL

    @property
    def crashes(self) -> list[End]:
        """Those of the client that nobody expected."""
        return [end for end in self._ends if isinstance(end.reason, Crashed) and not end.forgiven]

    def has_stopped(self) -> bool:
        """Tell whether there is no client that could do anything any more."""
        raise NotImplementedError

    async def settle(self) -> None:
        """Let everything happen that can happen now."""
        await settle()

    def failed(self, text: str, *, told: bool = True) -> AssertionError:
        """Make the failure of an assertion; *told* adds what happened."""
        lines = [text, "  what happened:", self.timeline.render()] if told else [text]
        self.failure = AssertionError("\n".join(lines))
        return self.failure

    async def wait_for(
        self,
        what: str,
        candidates: Callable[[], Iterable[T]],
        judge: Callable[[T], list[str]],
        within: float,
        *,
        crashes: bool = False,
        hint: Callable[[], str | None] = lambda: None,
    ) -> T:
        """Wait for the oldest of the *candidates* that *judge* finds nothing wrong with.

        Not for longer than there is a client that could bring it about; and, unless the wait is for
        *crashes*, not once it has crashed. The *hint* may know why it did not come.
        """
        with self.patience.suspended():
            return await self._found(what, candidates, judge, within, crashes=crashes, hint=hint)

    async def _found(
        self,
        what: str,
        candidates: Callable[[], Iterable[T]],
        judge: Callable[[T], list[str]],
        within: float,
        *,
        crashes: bool,
        hint: Callable[[], str | None],
    ) -> T:
        deadline = trio.current_time() + within
        while True:
            await settle()
            changed = self.timeline.changed
            for candidate in candidates():
                if not judge(candidate):
                    return candidate
            if self.crashes and not crashes:
                self._fail_by_crash(f"expected {what}, but the client crashed")
            if self.has_stopped():
                stopped = f"but the client has stopped ({self.last_exit})"
                raise self._story(what, candidates(), judge, stopped)
            if trio.current_time() >= deadline:
                raise self._story(
                    what, candidates(), judge, f"within {within:g} s; {hint() or 'it did not come'}"
                )
            await wait_until(changed, deadline)

    async def refute(
        self,
        what: str,
        candidates: Callable[[], Iterable[T]],
        judge: Callable[[T], list[str]],
        within: float,
    ) -> None:
        """Let *within* seconds pass, and find nothing wrong with none of the *candidates*."""
        check_virtual(f"to see that there is no such thing as {what}")
        with self.patience.suspended():
            await self._not_found(what, candidates, judge, within)

    async def _not_found(
        self,
        what: str,
        candidates: Callable[[], Iterable[T]],
        judge: Callable[[T], list[str]],
        within: float,
    ) -> None:
        deadline = trio.current_time() + within
        while True:
            await settle()
            changed = self.timeline.changed
            self.check_crashes()
            for candidate in candidates():
                if not judge(candidate):
                    raise self.failed(
                        f"expected no such thing within {within:g} s: {what}\n"
                        f"  what came: {shown(candidate)}"
                    )
            if trio.current_time() >= deadline:
                return
            await wait_until(changed, deadline)

    def _story(
        self,
        what: str,
        candidates: Iterable[T],
        judge: Callable[[T], list[str]],
        instead: str,
    ) -> AssertionError:
        lines = [f"expected {what}, {instead}"]
        judged = sorted(((judge(each), each) for each in candidates), key=lambda pair: len(pair[0]))
        if judged:
            wrong, nearest = judged[0]
            lines += [f"  nearest: {shown(nearest)}", *(f"    {line}" for line in wrong)]
        return self.failed("\n".join(lines))

    def check_crashes(self) -> None:
        """Fail if the client has crashed, and nobody expected it."""
        if self.crashes:
            self._fail_by_crash("the client crashed")

    def _fail_by_crash(self, what: str) -> NoReturn:
        crash = cast("Crashed", self.crashes[0].reason).exception
        raise self.failed(
            f"{what}: {crash!r} (expect_crash() says so where a crash is meant)"
        ) from crash


def differ(heard: Heard, topic: Any, event: Any, payload: Any) -> list[str]:
    """Tell where a message of the client's differs from what is expected of it."""
    told = heard.message
    return [
        *differences(topic, told.topic, "topic"),
        *differences(event, told.event, "event"),
        *differences(payload, told.payload, "payload"),
    ]


def differ_in_arguments(call: Call, patterns: tuple[Any, ...]) -> list[str]:
    """Tell where the arguments of *call* differ from *patterns*; those left out fit."""
    if len(patterns) > len(call.args):
        return [f"expected {len(patterns)} arguments, got {len(call.args)}"]
    return [
        line
        for place, (pattern, value) in enumerate(zip(patterns, call.args, strict=False))
        for line in differences(pattern, value, f"argument {place}")
    ]


def expected(kind: str, topic: Any, event: Any, payload: Any) -> str:
    """Say what message is expected."""
    text = {"join": "a join", "leave": "a leave", "push": "a push", "heartbeat": "a heartbeat"}[
        kind
    ]
    if event is not ANY:
        text += f" of {describe(event)}"
    if topic is not ANY:
        text += f" to {describe(topic)}" if kind == "push" else f" of {describe(topic)}"
    if payload is not ANY:
        text += f" with {'params' if kind == 'join' else 'payload'} {describe(payload)}"
    return text


def shown(candidate: Any) -> str:
    """Write what came."""
    if isinstance(candidate, Heard):
        told, kind = candidate.message, candidate.kind
        if kind == "push":
            return expected(kind, told.topic, told.event, told.payload)
        topic = ANY if kind == "heartbeat" else told.topic
        return expected(kind, topic, ANY, told.payload if kind == "join" else ANY)
    if isinstance(candidate, Wire):
        return f"the end of a connection: {candidate.peer.closed}"
    if isinstance(candidate, End):
        return f"the end of the client: {candidate.reason}"
    if isinstance(candidate, Call):
        return f"{candidate.name}({', '.join(map(repr, candidate.args))})"
    if isinstance(candidate, Attempt):
        return f"a connect to {candidate.request.uri.split('?')[0]}"
    return repr(candidate)
