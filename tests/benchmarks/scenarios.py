"""What is measured, with which libraries, and what is wanted of it."""

import enum
import importlib
import importlib.util
from typing import assert_never

import attrs

from .clients.job import CALLERS, SMALL, STATM

__all__ = [
    "LIBRARIES",
    "OURS",
    "SCENARIOS",
    "Library",
    "Limit",
    "Reading",
    "Scenario",
    "Target",
    "Unit",
    "can_measure",
]

OURS = "slipstream"
LARGE = 1 << 20
CONNECTIONS = 500


@attrs.frozen
class Library:
    """A library and how to measure it: *module* is one of ``clients``, *package* what it imports."""

    name: str
    module: str
    package: str
    loop: str = "trio"
    tuned: bool = False

    @property
    def is_there(self) -> bool:
        """Whether it is installed."""
        return importlib.util.find_spec(self.package) is not None

    @property
    def distribution(self) -> str:
        """What pip calls it."""
        return self.package.replace("_", "-")

    @property
    def version(self) -> str:
        """The version that is installed."""
        return str(importlib.import_module(self.package).__version__)


LIBRARIES = (
    Library(OURS, "ours", "slipstream"),
    Library("trio-websocket", "naive", "trio_websocket"),
    Library("trio-websocket, tuned", "naive", "trio_websocket", tuned=True),
    Library("websockets", "websockets_asyncio", "websockets", "asyncio"),
    Library("picows", "picows_listener", "picows", "asyncio"),
    Library("bare trio stream", "bare", "trio"),
    Library("bare tap", "tap", "slipstream"),
)


@attrs.frozen
class Reading:
    """What a client printed."""

    count: int
    seconds: float
    cpu_seconds: float
    resident_bytes: int


class Unit(enum.Enum):
    """What a figure is, in words."""

    MESSAGES = "messages/s"
    CALLS = "calls/s"
    MEBIBYTES = "MiB/s"
    MICROSECONDS = "µs CPU each"
    KIBIBYTES = "KiB each"

    @property
    def less_is_better(self) -> bool:
        """Whether the smaller of two figures is the better one."""
        return self in {Unit.MICROSECONDS, Unit.KIBIBYTES}

    def figure(self, reading: Reading, size: int) -> float:
        """Give the figure that *reading* means, for messages of *size* bytes."""
        match self:
            case Unit.MESSAGES | Unit.CALLS:
                return reading.count / reading.seconds
            case Unit.MEBIBYTES:
                return reading.count * size / reading.seconds / (1 << 20)
            case Unit.MICROSECONDS:
                return reading.cpu_seconds / reading.count * 1e6
            case Unit.KIBIBYTES:
                return reading.resident_bytes / reading.count / 1024
            case _:
                assert_never(self)


class Limit(enum.Enum):
    """How a target limits our figure by another's."""

    AT_LEAST_TIMES = "≥ {:g} ×"
    AT_MOST_TIMES = "≤ {:g} ×"
    AT_MOST_ABOVE = "≤ {:g} above"


@attrs.frozen
class Target:
    """Our figure against that of the library *against*, in the same round."""

    against: str
    limit: Limit
    bound: float

    def __str__(self) -> str:
        return self.limit.value.format(self.bound)

    def compare(self, ours: float, theirs: float) -> float:
        """Give how ours relates to *theirs*: as a ratio, or as a difference."""
        return ours - theirs if self.limit is Limit.AT_MOST_ABOVE else ours / theirs

    def is_met(self, value: float) -> bool:
        """Tell whether *value*, of :meth:`compare`, is as wanted."""
        at_least = self.limit is Limit.AT_LEAST_TIMES
        return value >= self.bound if at_least else value <= self.bound

    def mark(self, theirs: float) -> float:
        """Give our figure that would just do, where *theirs* is the other."""
        return theirs + self.bound if self.limit is Limit.AT_MOST_ABOVE else theirs * self.bound


@attrs.frozen
class Scenario:
    """A function of the clients, what the server does meanwhile, and what we want to reach.

    *count* is that of the first pass; passes become longer until one takes long enough, unless
    *once*.
    """

    name: str
    title: str
    work: str
    path: str
    unit: Unit
    libraries: tuple[str, ...]
    count: int
    targets: tuple[Target, ...] = ()
    size: int = SMALL
    secure: bool = False
    once: bool = False


NAIVE, TUNED, WEBSOCKETS, PICOWS, BARE, TAP = [library.name for library in LIBRARIES[1:]]
_ALL = (OURS, NAIVE, WEBSOCKETS, PICOWS)
_RECEIVING = (OURS, NAIVE, TUNED, WEBSOCKETS, PICOWS)


def _at_least(bound: float, against: str = NAIVE) -> Target:
    return Target(against, Limit.AT_LEAST_TIMES, bound)


SCENARIOS = (
    Scenario(
        "receive-small",
        f"Receiving texts of {SMALL} bytes",
        "receive",
        f"/blast?size={SMALL}",
        Unit.MESSAGES,
        _RECEIVING,
        1000,
        (_at_least(30), _at_least(1.2, PICOWS)),
    ),
    Scenario(
        "receive-large",
        "Receiving binaries of 1 MiB",
        "receive",
        f"/blast?size={LARGE}&binary=1",
        Unit.MEBIBYTES,
        _RECEIVING,
        16,
        (_at_least(8),),
        size=LARGE,
    ),
    Scenario(
        "ping-pong",
        "One caller, who waits for each echo",
        "ping_pong",
        "/echo",
        Unit.CALLS,
        _ALL,
        500,
        (_at_least(2),),
    ),
    Scenario(
        "callers",
        f"{CALLERS} callers at the same time",
        "callers",
        "/echo",
        Unit.CALLS,
        _ALL,
        1000,
        (_at_least(10),),
    ),
    Scenario(
        "send-small",
        f"Sending texts of {SMALL} bytes",
        "send",
        "/count",
        Unit.MESSAGES,
        _ALL,
        1000,
        (_at_least(20),),
    ),
    Scenario(
        "receive-tls",
        "Receiving binaries of 64 KiB over TLS",
        "receive",
        f"/blast?size={1 << 16}&binary=1",
        Unit.MEBIBYTES,
        (*_RECEIVING, BARE),
        256,
        (_at_least(1.5, BARE),),
        size=1 << 16,
        secure=True,
    ),
    Scenario(
        "idle",
        f"Memory of an idle connection, of {CONNECTIONS}",
        "idle",
        "/echo",
        Unit.KIBIBYTES,
        (*_ALL, BARE),
        CONNECTIONS,
        (Target(BARE, Limit.AT_MOST_ABOVE, 16),),
        once=True,
    ),
    Scenario(
        "connect",
        "Connect and close",
        "connect",
        "/echo",
        Unit.MICROSECONDS,
        _ALL,
        20,
        (Target(NAIVE, Limit.AT_MOST_TIMES, 1.2),),
    ),
    Scenario(
        "client",
        "A whole client: broadcasts into handle_message",
        "client",
        "/phoenix",
        Unit.MESSAGES,
        (OURS, NAIVE, TAP),
        1000,
        (_at_least(12), _at_least(0.4, TAP)),
    ),
    Scenario(
        "client-batches",
        "A whole client: broadcasts into handle_messages",
        "client_batches",
        "/phoenix",
        Unit.MESSAGES,
        (OURS,),
        1000,
    ),
    Scenario(
        "client-typed",
        "A whole client: broadcasts into a typed on_message",
        "client_typed",
        "/phoenix",
        Unit.MESSAGES,
        (OURS,),
        1000,
    ),
)


def can_measure(scenario: Scenario) -> bool:
    """Tell whether this platform tells what *scenario* asks for."""
    return scenario.unit is not Unit.KIBIBYTES or STATM.exists()
