"""Which transport a connection goes through where its configuration names none."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from slipstream.interfaces import OpenTransport

from ._websocket import open_websocket_transport

__all__ = ["current_transport", "use_transport"]

_current: Final[ContextVar[OpenTransport | None]] = ContextVar("slipstream.transport", default=None)


@contextmanager
def use_transport(open_transport: OpenTransport) -> Generator[None]:
    """Have connections go through *open_transport*, where their configuration names no transport.

    For those of the processes that are started within the block: a tunnel of one's own for a whole
    program, or a network in memory for a test, of which the application need not know.
    """
    token = _current.set(open_transport)
    try:
        yield
    finally:
        _current.reset(token)


def current_transport() -> OpenTransport:
    """Give what :func:`use_transport` says; else the one over TCP and TLS."""
    return _current.get() or open_websocket_transport
