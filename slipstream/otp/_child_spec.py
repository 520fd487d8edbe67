"""Child specifications: what a supervisor has to know to start, restart and stop a child."""

import copy
import difflib
import math
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import (
    Any,
    ClassVar,
    Final,
    Literal,
    Never,
    Protocol,
    TypeAlias,
    TypedDict,
    Unpack,
    cast,
)

import attrs

from slipstream.errors import ChildSpecError
from slipstream.reasons import ExitReason

from ._names import Name, Via
from ._reports import show
from ._results import Ignore, check_duration

__all__ = [
    "CHILD_CHECKS",
    "BackoffFunction",
    "ChildDefaults",
    "ChildKeywords",
    "ChildLike",
    "ChildSpec",
    "ChildType",
    "Restart",
    "Start",
    "Starter",
    "check_keys",
    "child_keywords",
    "label_of",
    "one_of",
    "start_of",
]

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
ChildType: TypeAlias = Literal["worker", "supervisor"]
BackoffFunction: TypeAlias = Callable[[ExitReason, int], float | None]

DEFAULT_SHUTDOWN: Final[Mapping[str, float]] = {"worker": 5.0, "supervisor": math.inf}


@attrs.frozen
class Start:
    """What a child is made from: an instance of *cls*, whose ``init`` gets *args*.

    The arguments are the same objects for every incarnation. Where one must be fresh each time,
    give a :class:`ChildSpec` a function as its ``start``.

    *bound* comes before them: arguments of the class's own, which are nobody else's business.
    """

    cls: type[Any]
    args: tuple[Any, ...] = attrs.field(default=(), repr=False)
    options: Mapping[str, Any] = attrs.field(factory=lambda: _NOTHING, repr=False)
    bound: tuple[Any, ...] = attrs.field(default=(), repr=False)


_NOTHING: Final[Mapping[str, Any]] = {}

Starter: TypeAlias = Start | Callable[[], Start | Ignore | Awaitable[Start | Ignore]]
"""A :class:`Start`, or a sync or async function that gives one, called for each incarnation."""


def start_of(cls: type[Any], *args: Any) -> Start:
    """Give what starts a process of *cls*, whose ``init`` gets *args*."""
    return Start(cls, args)


class ChildKeywords(TypedDict, total=False):
    """What a class may say of itself as a child, and a caller of ``child_spec`` may override."""

    id: Hashable
    restart: Restart
    shutdown: float | Literal["brutal_kill"] | None
    type: ChildType
    significant: bool
    name: Name | None
    backoff: BackoffFunction | None
    start_timeout: float
    drain: bool
    interrupt_after: float | None
    kill_grace: float
    slow_after: float | None


def _wrong(key: str, value: object, accepted: str) -> ChildSpecError:
    return ChildSpecError(f"{key}={value!r} is wrong: it takes {accepted}")


def one_of(*choices: str) -> Callable[[str, object], Any]:
    """Give a check that a value is one of *choices*."""

    def check(key: str, value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise _wrong(key, value, ", ".join(repr(choice) for choice in choices))
        return value

    return check


def _boolean(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(key, value, "True or False")
    return value


def _seconds(key: str, value: object) -> float:
    return check_duration(key, value, error=ChildSpecError)


def _seconds_or_none(key: str, value: object) -> float | None:
    if value is None:
        return None
    return check_duration(
        key,
        value,
        error=ChildSpecError,
        accepted="seconds as a number of 0 or more, math.inf, or None for the default",
    )


def _slow_after(key: str, value: object) -> float | None:
    if value is None:
        return None
    accepted = "seconds as a number above 0, math.inf, or None for what the process above says"
    seconds = check_duration(key, value, error=ChildSpecError, accepted=accepted)
    if seconds == 0.0:
        raise _wrong(key, value, accepted)
    return seconds


def _shutdown(key: str, value: object) -> object:
    if value is None or value == "brutal_kill":
        return value
    return check_duration(
        key,
        value,
        error=ChildSpecError,
        accepted="seconds as a number of 0 or more, math.inf, 'brutal_kill', or None for the default",
    )


def _name(key: str, value: object) -> object:
    if value is not None and not isinstance(value, Via) and not (isinstance(value, str) and value):
        raise _wrong(key, value, "a name as a string that is not empty, a Via, or None")
    return value


def _backoff(key: str, value: object) -> object:
    if value is not None and not callable(value):
        raise _wrong(key, value, "a function of an exit reason and a count, or None")
    return value


def _id(key: str, value: object) -> object:
    try:
        hash(value)
    except TypeError:
        raise _wrong(key, value, "anything that is hashable") from None
    return value


CHILD_CHECKS: Final[Mapping[str, Callable[[str, object], object]]] = {
    "id": _id,
    "restart": one_of("permanent", "transient", "temporary"),
    "shutdown": _shutdown,
    "type": one_of("worker", "supervisor"),
    "significant": _boolean,
    "name": _name,
    "backoff": _backoff,
    "start_timeout": _seconds,
    "drain": _boolean,
    "interrupt_after": _seconds_or_none,
    "kill_grace": _seconds,
    "slow_after": _slow_after,
}


def check_keys(
    given: Mapping[str, Any],
    checks: Mapping[str, Callable[[str, object], object]],
    *,
    where: str,
) -> dict[str, Any]:
    """Check the options *given*, and give them as they are to be used.

    Raises:
        ChildSpecError: for an unknown key or a wrong value.
    """
    checked: dict[str, Any] = {}
    for key, value in given.items():
        check = checks.get(key)
        if check is None:
            guesses = difflib.get_close_matches(str(key), checks, n=1)
            hint = f"; did you mean {guesses[0]!r}?" if guesses else ""
            raise ChildSpecError(
                f"unknown key {key!r} (={value!r}) {where}: it takes {', '.join(checks)}{hint}"
            )
        checked[key] = check(key, value)
    return checked


@attrs.frozen(init=False)
class ChildSpec:
    """How a supervisor starts, restarts and stops a child.

    Attributes:
        id: what the supervisor's calls name it by; unique within the supervisor.
        start: a :class:`Start`, or a sync or async function that gives one, or ``Ignore()``.
        restart: ``"permanent"`` (always), ``"transient"`` (after an abnormal exit) or
            ``"temporary"`` (never, and the specification goes with the child).
        shutdown: the seconds it has to stop, ``math.inf``, or ``"brutal_kill"``. ``None`` gives 5 s
            to a worker, infinity to a supervisor.
        type: ``"worker"`` or ``"supervisor"``.
        significant: whether its end may end the supervisor (``auto_shutdown``).
        name: its name in the tree, if it has one, or a :class:`Via`.
        backoff: gets the exit reason and how often the child was restarted since it last lived
            ``max_seconds``; gives the seconds by which to delay a restart that does not count
            against ``max_restarts``, or ``None`` to count it and restart at once.
        start_timeout: the seconds that ``init`` may take.
        drain: whether what lies in the mailbox is handled before it stops.
        interrupt_after: after how many seconds of stopping the callback that runs is cancelled;
            ``None`` is half of *shutdown*.
        kill_grace: after how many seconds of being killed and not ending it is reported.
        slow_after: after how many seconds a callback that still runs is reported, once, with its
            stack; ``init`` and ``terminate`` have limits of their own. ``None`` is what the process
            above says, and of the root ``math.inf``, which is never.

    Raises:
        ChildSpecError: for an unknown key, a wrong value, or two that do not go together.
    """

    id: Any
    start: Starter
    restart: Restart
    shutdown: float | Literal["brutal_kill"]
    type: ChildType
    significant: bool
    name: Name | None
    backoff: BackoffFunction | None
    start_timeout: float
    drain: bool
    interrupt_after: float | None
    kill_grace: float
    slow_after: float | None

    def __init__(
        self,
        id: Hashable,  # noqa: A002 - OTP's word
        start: Starter,
        *,
        restart: Restart = "permanent",
        shutdown: float | Literal["brutal_kill"] | None = None,
        type: ChildType = "worker",  # noqa: A002 - OTP's word
        significant: bool = False,
        name: Name | None = None,
        backoff: BackoffFunction | None = None,
        start_timeout: float = math.inf,
        drain: bool = False,
        interrupt_after: float | None = None,
        kill_grace: float = 5.0,
        slow_after: float | None = None,
        **unknown: Never,
    ) -> None:
        values = check_keys(
            {
                "id": id,
                "restart": restart,
                "shutdown": shutdown,
                "type": type,
                "significant": significant,
                "name": name,
                "backoff": backoff,
                "start_timeout": start_timeout,
                "drain": drain,
                "interrupt_after": interrupt_after,
                "kill_grace": kill_grace,
                "slow_after": slow_after,
                **unknown,
            },
            CHILD_CHECKS,
            where="in a child specification",
        )
        if not isinstance(start, Start) and not callable(start):
            raise _wrong("start", start, "what start_of(cls, *args) gives, or a function that does")
        if values["shutdown"] is None:
            values["shutdown"] = DEFAULT_SHUTDOWN[type]
        if significant and restart == "permanent":
            raise ChildSpecError(
                f"significant=True does not go with restart='permanent' (child {id!r}): "
                "a child that is always restarted never ends by itself"
            )
        for key, value in {**values, "start": start}.items():
            object.__setattr__(self, key, value)

    @property
    def interrupt_seconds(self) -> float:
        """After how many seconds of stopping the callback that runs is cancelled."""
        if self.interrupt_after is not None:
            return self.interrupt_after
        return 0.0 if self.shutdown == "brutal_kill" else self.shutdown / 2

    @property
    def label(self) -> str:
        """What reports call the child."""
        return label_of(self.id) if self.name is None else str(self.name)

    def starting(self, start: Starter) -> "ChildSpec":
        """Give the same with another *start*."""
        spec = copy.copy(self)  # all else has been checked
        object.__setattr__(spec, "start", start)
        return spec

    @staticmethod
    def of(child: "ChildLike", **overrides: Unpack[ChildKeywords]) -> "ChildSpec":
        """Make a specification of whatever stands in a list of children.

        That is a specification, a mapping of its keys, a class with ``child_spec``, or a pair of
        such a class and its argument. *overrides* replace what these say.

        Raises:
            ChildSpecError: if it is none of these, or says something wrong.
        """
        spec = _specify(child)
        if overrides:
            given: dict[str, Any] = {**attrs.asdict(spec, recurse=False), **overrides}
            spec = ChildSpec(**given)
        return spec


def _specify(child: object) -> ChildSpec:
    if isinstance(child, ChildSpec):
        return child
    if isinstance(child, Mapping):
        given = {str(key): value for key, value in cast("Mapping[object, Any]", child).items()}
        for key in ("id", "start"):
            if key not in given:
                raise ChildSpecError(f"a child specification needs the key {key!r}: {given!r}")
        return ChildSpec(**given)
    cls: object = child
    args: tuple[object, ...] = ()
    if isinstance(child, tuple) and len(cast("tuple[object, ...]", child)) == 2:
        cls, *rest = cast("tuple[object, ...]", child)
        args = tuple(rest)
    if not isinstance(cls, type):
        raise ChildSpecError(
            f"{child!r} cannot be a child: it takes a ChildSpec, a class, a pair of a class "
            "and its argument, or a mapping with the keys of ChildSpec"
        )
    if not hasattr(cls, "child_spec"):
        raise ChildSpecError(
            f"{child!r} cannot be a child: the class has no child_spec; take a subclass of "
            "GenServer, Supervisor or SlipstreamClient, or a ChildSpec"
        )
    made = cast("object", cast("type[HasChildSpec]", cls).child_spec(*args))
    if not isinstance(made, ChildSpec):
        raise ChildSpecError(f"child_spec of {child!r} gave {made!r}, not a ChildSpec")
    return made


def label_of(id: object) -> str:  # noqa: A002 - OTP's word
    """Give what reports call a child of that *id*."""
    if isinstance(id, type):
        return id.__qualname__
    return id if isinstance(id, str) else show(id)


class HasChildSpec(Protocol):
    """A class that can stand in a list of children."""

    @classmethod
    def child_spec(cls, *args: Any) -> ChildSpec:
        """Give the specification of a child of this class, with what its start gets."""
        ...


ChildLike: TypeAlias = (
    ChildSpec | type[HasChildSpec] | tuple[type[HasChildSpec], Any] | Mapping[str, Any]
)
"""What may stand in a list of children."""


class ChildDefaults:
    """The base of classes whose keywords say what they are as a child.

    ``class Counter(GenServer, restart="transient")``: only those given are stored, so that a class
    that is built a second time without them, as ``attrs`` and ``dataclass(slots=True)`` do, keeps
    them.
    """

    __slots__ = ()

    _child_keywords: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, **keywords: Unpack[ChildKeywords]) -> None:
        super().__init_subclass__()
        if keywords:
            checked = check_keys(keywords, CHILD_CHECKS, where=f"of class {cls.__qualname__}")
            cls._child_keywords = {**cls._child_keywords, **checked}

    @classmethod
    def _keywords_of(cls) -> Mapping[str, Any]:
        return cls._child_keywords


def child_keywords(cls: type[ChildDefaults]) -> Mapping[str, Any]:
    """Give the class keywords of *cls*, its bases' included."""
    return cls._keywords_of()  # pyright: ignore[reportPrivateUsage]  # of this module
