"""``slipstream serve``: a Phoenix server of one's own, for a browser or another language."""

import importlib
import os
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any, Final, TextIO, cast

import trio

from slipstream.errors import ConfigError
from slipstream.interfaces import Payload
from slipstream.testing import Answer, Channel, Ok, PhoenixServer, ServerSocket, Traffic

from ._output import write_line
from ._text import complain, printable

__all__ = ["find_server", "make_echo_server", "run_serve"]

_LINES_KEPT: Final = 1000
_ARROWS: Final = {"received": "<-", "sent": "->"}


class _Echo(Channel):
    """Lets everybody in, and answers a push with its payload; some events do more."""

    async def join(self, topic: str, payload: Payload, socket: ServerSocket, /) -> Ok:
        """Let in; who gives a name is present under it."""
        if isinstance(payload, dict):
            self.assigns.update(cast("dict[str, Any]", payload))
        return Ok(payload)

    async def handle_info(self, message: Any, /) -> None:
        """Track whoever has a name."""
        name = self.assigns.get("name")
        if isinstance(name, str):
            self.presence.track(name, {})
            self.push("presence_state", self.presence.list())

    async def handle_in(
        self, event: str, payload: Payload, socket: ServerSocket, /
    ) -> Answer | None:
        """Answer with *payload*."""
        match event:
            case "shout":
                self.broadcast(event, payload)
            case "push":
                self.push(event, payload)
            case "silence":
                return None
            case "stop":
                self.stop()
            case "crash":
                raise RuntimeError("as the client asked")
            case _:
                pass
        return Ok(payload)


def make_echo_server() -> PhoenixServer:
    """Make the server of ``--echo``: its channel takes every topic."""
    return PhoenixServer({"*": _Echo}, port=4000)


def find_server(app: str) -> PhoenixServer:
    """Find the server that *app* names: ``module:server``, or ``module:function`` that makes one.

    Raises:
        ConfigError: if there is none. What the module raises is let through.
    """
    module_name, _, attribute = app.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"it is {app!r}; accepted is 'module:server'")
    if "" not in sys.path:  # as with python -m, the module may lie where one stands
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # one that it imports in turn
        raise ConfigError(f"there is no module {error.name!r}") from None
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ConfigError(f"{module_name} has no {attribute!r}")
        found = getattr(found, name)
    if callable(found):
        found = found()
    if not isinstance(found, PhoenixServer):
        raise ConfigError(f"{app} is {found!r}; accepted is a PhoenixServer")
    return found


def run_serve(server: PhoenixServer) -> int:
    """Serve until interrupted; print the address, and what goes over the connections."""
    return trio.run(_serve, server)


async def _serve(server: PhoenixServer) -> int:
    printer = _Printer(sys.stdout)
    server.on_traffic = printer.show
    status = 0
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            # Its end is printed, too.
            stack.callback(printer.end)
            nursery.start_soon(printer.run, nursery.cancel_scope)
            try:
                await stack.enter_async_context(server)
            except OSError as error:
                complain(str(error))
                status = 1
            else:
                printer.put(f"listening on {server.url}")
                async for _ in signals:
                    break
    return status


class _Printer:
    """Prints lines without keeping the server waiting; where they are too many, it says how many."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._missed = 0
        self._in, self._out = trio.open_memory_channel[str](_LINES_KEPT)

    def show(self, traffic: Traffic) -> None:
        """Put what happened."""
        detail = traffic.detail if isinstance(traffic.detail, str) else repr(traffic.detail)
        what = _ARROWS.get(traffic.what, traffic.what)
        self.put(f"#{traffic.connection} {what} {printable(detail)}")

    def put(self, line: str) -> None:
        """Have *line* printed."""
        try:
            self._in.send_nowait(line)
        except trio.WouldBlock:
            self._missed += 1

    def end(self) -> None:
        """Print what is there, and no more."""
        self._in.close()

    async def run(self, everything: trio.CancelScope) -> None:
        """Print until :meth:`end`; where whoever read has gone, cancel *everything*."""
        try:
            async for line in self._out:
                await write_line(self._file, line)
                if self._missed and not self._out.statistics().current_buffer_used:
                    missed, self._missed = self._missed, 0
                    await write_line(self._file, f"({missed} lines left out: they came too fast)")
        except BrokenPipeError:
            # Python would complain once more while flushing at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())
            everything.cancel()
