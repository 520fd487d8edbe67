"""What a test has run inside its client."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, cast

from slipstream.client import Socket

from ._waiting import Waiting

__all__ = ["Errand"]

__tracebackhide__ = True  # pytest shows the line of the test

T = TypeVar("T")


class Errand(Generic[T]):
    """A function that runs in a client's process for a test; ``start_inside`` gives it.

    Attributes:
        name: of the function.
        done: whether it has ended.
    """

    def __init__(
        self, waiting: Waiting, function: Callable[[Any, Socket], Awaitable[T]], /
    ) -> None:
        self.name: str = getattr(function, "__name__", repr(function))
        self.done = False
        self._waiting = waiting
        self._function = function
        self._result: T | None = None
        self._error: BaseException | None = None

    async def run(self, client: Any, socket: Socket) -> None:
        """Run it, in the client's process. What asks the process itself to end goes on to it."""
        try:
            self._result = await self._function(client, socket)
        except Exception as error:  # noqa: BLE001 - it goes on to the test
            self._error = error
        except BaseException as error:
            self._error = error
            raise
        finally:
            self.done = True
            self._waiting.timeline.note("test", f"{self.name} ended")

    async def outcome(self, *, within: float = 60.0) -> T:
        """Wait for its end; give what it returned, or raise what it raised.

        Raises:
            AssertionError: if it has not ended *within* seconds.
        """
        await self._waiting.wait_for(
            f"the end of {self.name}, which runs inside the client",
            lambda: [self] if self.done else [],
            lambda _: [],
            within,
        )
        if self._error is not None:
            raise self._error
        return cast("T", self._result)
