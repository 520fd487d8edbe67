"""Calling a client's callback: the span round it, what it may return, and what an error of it means."""

import inspect
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, Final

import trio

from slipstream import telemetry
from slipstream.connection import Link
from slipstream.errors import BadReturnError, LinkError
from slipstream.otp import GenServer, Ignore, NoReply, Reply, Stop
from slipstream.reasons import ClosedByClient

from ._health import without_payload
from ._socket import Socket

if TYPE_CHECKING:  # a cycle by nature, as in the module of the process itself
    from ._client import SlipstreamClient

__all__ = ["EVENTS", "CallbackRunner"]

logger: Final = logging.getLogger("slipstream.client")

_ACCEPTED: Final[dict[str, tuple[type[Any], ...]]] = {
    "init": (NoReply, Stop, Ignore),
    "handle_call": (Reply, NoReply, Stop),
}


class _Events(dict[str, str]):
    """The telemetry event of each callback, by its name."""

    def __missing__(self, name: str) -> str:
        event = self[name] = f"slipstream.client.{name}"
        return event


EVENTS: Final = _Events()
_NO_TOPIC: Final = frozenset({
    "init", "handle_connect", "handle_disconnect", "handle_reply", "handle_push_failed",
    "handle_call", "handle_cast", "handle_info", "handle_continue", "handle_messages",
    "handle_gave_up", "terminate",
})  # fmt: skip
"""Callbacks whose first argument is no topic; a method of ``@on_message`` gets one, too."""


class CallbackRunner(GenServer):
    """The part of a client's process that calls callbacks."""

    client: "SlipstreamClient"
    socket: Socket
    uplink: Link
    is_watched: ClassVar[bool] = False
    """Whether :meth:`told` is wanted where nobody has attached to telemetry, too."""

    @property
    def shows_payloads(self) -> bool:
        """Whether payloads may stand in log lines and reports."""
        return self.uplink.config is not None and self.uplink.config.log_payloads

    def call_back(self, name: str, *args: Any, raises: bool = False) -> Coroutine[Any, Any, Any]:
        """Call the callback *name*, to be awaited."""
        topic = None if name in _NO_TOPIC else args[0]
        return self._guard(name, getattr(self.client, name)(*args), topic, raises=raises)

    async def _guard(
        self,
        name: str,
        callback: Coroutine[Any, Any, Any],
        topic: str | None,
        *,
        raises: bool = False,
    ) -> Any:
        """Await *callback*, and give what it returned; a ``LinkError`` ends it only, unless *raises*."""
        try:
            if self.is_watched or telemetry.attached(EVENTS[name]):
                callback = self.told(name, callback, topic)
            return self.checked(name, await callback)
        except (LinkError, BaseExceptionGroup) as error:
            return self.ended_early(name, error, raises=raises)

    async def told(self, name: str, callback: Coroutine[Any, Any, Any], topic: str | None) -> Any:
        """Await *callback* within the span that tells of it."""
        about = {} if topic is None else {"topic": topic}
        with telemetry.span(
            EVENTS[name], clock=trio.current_time, client=self.uplink.client, **about
        ):
            return self.checked(name, await callback)

    def ended_early(
        self, name: str, error: LinkError | BaseExceptionGroup[Any], *, raises: bool = False
    ) -> None:
        """Note that a ``LinkError`` ended a callback; raise what is more than that, or all if *raises*."""
        if isinstance(error, BaseExceptionGroup):
            links, rest = error.split(LinkError)
            if rest is not None:
                # Beside an Exit the Exit wins; beside a bug the bug is what is told.
                raise (rest if links is not None else error) from None
        if raises:
            raise error
        self._ended_by(name, error)

    def checked(self, name: str, result: Any) -> Any:
        """Give *result* on, if the callback *name* may return it."""
        if result is None and name != "handle_call":
            return None
        accepted = _ACCEPTED.get(name, (NoReply, Stop))
        if isinstance(result, accepted):
            return result
        # It may well be a payload.
        what = f"{result!r}" if self.shows_payloads else f"a value of type {type(result).__name__}"
        if inspect.iscoroutine(result):
            what = f"the coroutine {result.__qualname__}: did you forget await?"
            result.close()
        names = [] if name == "handle_call" else ["None"]
        names += [kind.__name__ for kind in accepted]
        raise BadReturnError(
            f"{type(self.client).__qualname__}.{name} returned {what} (it takes {', '.join(names)})",
            value=result,
        )

    def _ended_by(self, name: str, error: BaseException) -> None:
        shown = error if self.shows_payloads else without_payload(error)
        logger.warning("%s: %s ended early: %s", self.ref, name, shown)
        self.execute("slipstream.client.link_error", callback=name, error=error)

    async def or_gave_up(self, result: Any) -> Any:
        """Give *result*, or what the client wants now that the policy gave up."""
        link = self.uplink
        if link.fatal is None or link.gave_up_told or isinstance(result, Stop):
            return result
        link.gave_up_told = True
        reason = link.last_end.reason if link.last_end is not None else ClosedByClient()
        wanted = await self.call_back("handle_gave_up", reason, self.socket)
        return result if wanted is None else wanted

    def execute(self, event: str, /, **metadata: Any) -> None:
        if telemetry.attached(event):
            telemetry.execute(event, client=self.uplink.client, **metadata)
