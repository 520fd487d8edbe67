"""The client under test: what it did, and what became of it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

import trio

from slipstream.client import ANY, ClientRef, ClientServer, SlipstreamClient, Socket
from slipstream.errors import ServerGoneError
from slipstream.otp import ChildStatus, Ignore, SupervisorRef, process_of
from slipstream.reasons import Crashed, ExitReason

from ._errand import Errand
from ._patterns import describe, differences
from ._script import Script
from ._time import Patience, advance, settle, time_passing, wait_until
from ._timeline import Call, End, Timeline
from ._waiting import Waiting, differ_in_arguments, shown

__all__ = ["CLIENT", "Subject"]

__tracebackhide__ = True  # pytest shows the line of the test

T = TypeVar("T")

CLIENT: Final = "client"
"""The id of the client in its supervisor."""


class Subject(Waiting):
    """A client under test.

    Attributes:
        supervisor: what it, and the children beside it, run under.
        calls: the callbacks so far, with arguments, results and times.
        telemetry: the events so far, as (name, data).
    """

    def __init__(
        self,
        script: Script,
        timeline: Timeline,
        calls: list[Call],
        events: Sequence[tuple[str, Mapping[str, Any]]],
        ends: list[End],
        supervisor: SupervisorRef,
    ) -> None:
        super().__init__(timeline, ends)
        self._script = script
        self._called: set[Call] = set()  # asserted
        self._ended: set[End] = set()  # asserted
        self._ref = supervisor.child(CLIENT)
        self.supervisor = supervisor
        self.calls = calls
        self.telemetry = events

    # -- what there is to look at

    @property
    def ref(self) -> ClientRef:
        """The client's address."""
        return cast("ClientRef", self._ref)

    @property
    def client(self) -> SlipstreamClient:
        """The present instance of the client's class.

        Raises:
            AssertionError: if it has ended.
        """
        return self._server().client

    @property
    def socket(self) -> Socket:
        """The present socket of the client; its actions work from a test, too."""
        return self._server().socket

    @property
    def assigns(self) -> dict[str, Any]:
        """What the client keeps in ``socket.assigns``."""
        return self.socket.assigns

    @property
    def callbacks(self) -> list[str]:
        """The names of the callbacks so far, in order."""
        return [call.name for call in self.calls]

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """Give the arguments of each call of the callback *name* so far, without the socket."""
        return [call.args for call in self.calls if call.name == name]

    def events(self, name: str) -> list[Mapping[str, Any]]:
        """Give the data of each telemetry event *name* so far."""
        return [data for each, data in self.telemetry if each == name]

    @property
    def story(self) -> str:
        """What has happened so far, a line each."""
        return self.timeline.render()

    # -- time

    async def advance(self, seconds: float) -> None:
        """Let *seconds* of virtual time pass, with everything that is due meanwhile, in order.

        Raises:
            WrongTaskError: on a real clock.
        """
        with self.patience.suspended():
            await advance(seconds)

    # -- callbacks

    async def assert_callback(self, name: str, *args: Any, within: float = 1.0) -> Call:
        """Assert that the callback *name* is called with *args*, and give the call, once it has ended.

        *args* are patterns, without the socket; those left out fit anything.
        """
        what = f"{name}({', '.join(map(describe, args))})"
        deadline = trio.current_time() + within
        call = await self.wait_for(
            what, lambda: self._calls(name), lambda each: differ_in_arguments(each, args), within
        )
        self._called.add(call)
        while not call.done:
            if trio.current_time() >= deadline:
                raise self.failed(f"expected {what} to end within {within:g} s; it has not")
            await wait_until(self.timeline.changed, deadline)
        return call

    async def refute_callback(self, name: str, *args: Any, within: float = 1.0) -> None:
        """Assert that *name* is not called with *args*, beside the asserted calls, now or *within*."""
        await self.refute(
            f"{name}({', '.join(map(describe, args))})",
            lambda: self._calls(name),
            lambda call: differ_in_arguments(call, args),
            within,
        )

    def _calls(self, name: str) -> list[Call]:
        return [call for call in self.calls if call.name == name and call not in self._called]

    # -- inside

    async def inside(
        self,
        function: Callable[[Any, Socket], Awaitable[T]],
        *,
        within: float = 60.0,
    ) -> T:
        """Run *function* in the client's process as a callback, and give its result or its error.

        It gets the client and its socket, and may do what a callback may, waiting included. An error
        of its own is raised here, and is none of the client's.

        Raises:
            AssertionError: if it has not ended *within* seconds.
        """
        errand = await self.start_inside(function)
        return await errand.outcome(within=within)

    async def start_inside(self, function: Callable[[Any, Socket], Awaitable[T]]) -> "Errand[T]":
        """As :meth:`inside`, but return where *function* has ended, or waits for something.

        What it waits for is then the test's to do; ``await errand.outcome()`` gives the result.
        """
        self._server()
        errand = Errand(self, function)
        self.timeline.note("test", f"runs {errand.name} inside the client")
        self._ref.send(errand)
        await self.settle()
        return errand

    # -- its end

    async def expect_crash(
        self,
        error: Any = BaseException,
        match: str | None = None,
        *,
        within: float = 1.0,
    ) -> BaseException:
        """Assert that the client has crashed, or does, and give the exception.

        That crash does not fail the test any more. *error* is a pattern, most often a class; *match*
        has to occur in the exception's text.
        """
        wanted = BaseException if error is ANY else error

        def judge(end: End) -> list[str]:
            crash = cast("Crashed", end.reason).exception
            found = differences(wanted, crash, "the exception")
            if match is not None and match not in str(crash):
                found.append(f"expected {match!r} in {str(crash)!r}")
            return found

        end = await self.wait_for(
            f"a crash with {describe(wanted)}", lambda: self.crashes, judge, within, crashes=True
        )
        end.forgiven = True
        return cast("Crashed", end.reason).exception

    async def assert_restarted(self, reason: Any = ANY, *, within: float = 60.0) -> ExitReason:
        """Assert that the client has ended for *reason* and runs again, and give the reason.

        Each end is asserted once. A crash does not fail the test any more if *reason* is given.
        """

        def judge(end: End) -> list[str]:
            wrong = differences(reason, end.reason, "reason")
            later = self._ends.index(end) + 1
            if len(self._ends) == later and not self._runs():
                wrong.append("it has not been started again")
            return wrong

        end = await self.wait_for(
            "a restart of the client"
            if reason is ANY
            else f"a restart of the client after {describe(reason)}",
            lambda: [end for end in self._ends if end not in self._ended],
            judge,
            within,
            crashes=True,
        )
        self._ended.add(end)
        end.forgiven = end.forgiven or reason is not ANY
        await settle()
        return end.reason

    async def assert_stopped(self, reason: Any = ANY, *, within: float = 60.0) -> ExitReason:
        """Assert that the client has ended for good, and give its exit reason.

        Crashes, the last and those before it, do not fail the test any more if *reason* is given.
        That of a client whose ``init`` chose not to start is ``NORMAL``.
        """
        found = await self.wait_for(
            "the end of the client"
            if reason is ANY
            else f"the end of the client: {describe(reason)}",
            lambda: [self.last_exit] if self.has_stopped() else [],
            lambda exit_reason: differences(reason, exit_reason, "reason"),
            within,
            crashes=True,
        )
        if reason is not ANY:
            for end in self._ends:
                end.forgiven = True
        return found

    async def kill(self) -> None:
        """Kill the client's process; its supervisor decides what follows.

        Raises:
            AssertionError: if it does not run.
        """
        self._server()
        self._ref.kill()
        await self.settle()

    async def restart(self) -> None:
        """Stop the client in order, and start it again, as its supervisor does.

        Raises:
            StartError: if its ``init`` fails.
        """
        with time_passing():
            await self.supervisor.terminate_child(CLIENT)
            await self.supervisor.restart_child(CLIENT)
        await self.settle()

    def has_stopped(self) -> bool:
        """Tell whether the client does not run, and will not again."""
        try:
            children = self.supervisor.which_children()
        except ServerGoneError:
            return True
        return all(info.status is ChildStatus.DOWN for info in children if info.id == CLIENT)

    def _runs(self) -> bool:
        process = process_of(self._ref)
        return process is not None and not process.is_starting

    def _server(self) -> ClientServer:
        process = process_of(self._ref)
        if process is None and self.calls and isinstance(self.calls[-1].result, Ignore):
            raise self.failed("the client chose not to start: its init returned Ignore()")
        if process is None:
            raise self.failed(f"the client has ended: {self.last_exit}")
        return cast("ClientServer", process.server)

    # -- for the block round it

    def finish(self, *, strict: bool) -> None:
        """Fail for a crash that nobody expected, and, if *strict*, for pushes nobody asserted."""
        self.check_crashes()
        left = [each for each in self._script.heard if each.kind == "push"]
        if strict and left:
            lines = "\n".join(f"    {shown(each)}" for each in left)
            raise self.failed(f"the test ends with pushes that it did not assert:\n{lines}")

    def check_patience(self) -> None:
        """Fail if the block has waited for ever."""
        if self.patience.scope.cancelled_caught:
            self.check_crashes()
            raise self.failed(
                f"the test waited for {Patience.LIMIT:,.0f} s, and nothing came of it"
            )

    def explain(self, error: Exception) -> None:
        """Add to an *error* of the block's own what had happened."""
        if error is self.failure:
            return
        notes = [f"the client had crashed: {end.reason}" for end in self.crashes]
        error.add_note("\n".join([*notes, "what had happened:", self.story]))

    def release(self) -> None:
        """Let the client end as it will."""
        self._script.resume()
