"""What runs a dynamic supervisor: children without ids or order, each on its own."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, cast

import attrs

from slipstream.errors import ChildNotFoundError, ChildSpecError, MaxChildrenError
from slipstream.reasons import ExitReason, Shutdown

from ._child_spec import ChildSpec, Start, check_keys, one_of
from ._children import SUPERVISOR_CHECKS, Child, Flags
from ._overseer import Overseer
from ._ref import ServerRef, target_of
from ._results import StopCause
from ._shell import Shell
from ._signatures import bad_return

if TYPE_CHECKING:
    from ._dynamic_supervisor import DynamicBase

__all__ = ["DYNAMIC_CHECKS", "DynamicKeywords", "DynamicProcess"]


class DynamicKeywords(TypedDict, total=False):
    """The options of a dynamic supervisor."""

    strategy: Literal["one_for_one"]
    max_restarts: int
    max_seconds: float
    auto_shutdown: Literal["never"]
    max_children: float
    extra_arguments: tuple[Any, ...] | list[Any]


def _max_children(key: str, value: object) -> float:
    if value != math.inf and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ChildSpecError(
            f"{key}={value!r} is wrong: it takes an integer of 0 or more, or math.inf"
        )
    return cast("float", value)


def _extra_arguments(key: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ChildSpecError(f"{key}={value!r} is wrong: it takes a list or a tuple")
    return tuple(cast("tuple[Any, ...]", value))


DYNAMIC_CHECKS: Final[Mapping[str, Callable[[str, object], object]]] = {
    **SUPERVISOR_CHECKS,
    "strategy": one_of("one_for_one"),
    "auto_shutdown": one_of("never"),
    "max_children": _max_children,
    "extra_arguments": _extra_arguments,
}


class DynamicChild(Child):
    """A child that goes by its reference.

    Attributes:
        latest: the incarnation that has started last; a reference that is pinned to it leads here.
    """

    __slots__ = ("latest",)

    def __init__(self, spec: ChildSpec, *, thread: int) -> None:
        super().__init__(spec, thread=thread)
        self.latest: Shell | None = None

    @property
    def id(self) -> None:
        """It has none."""
        return


class DynamicProcess(Overseer):
    """A dynamic supervisor at work: each child is its own key."""

    __slots__ = ("_extra_arguments", "_max_children")

    server: "DynamicBase"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._max_children = math.inf
        self._extra_arguments: tuple[Any, ...] = ()

    # -- its life

    async def begin(self, start: Start, result: Any) -> ExitReason | None:
        if result is not None and not isinstance(result, Mapping):
            raise bad_return(self.server, "init", result, "a mapping of options, None, or Ignore")
        options = check_keys(
            {**self.server.options(), **start.options, **cast("Mapping[str, Any]", result or {})},
            DYNAMIC_CHECKS,
            where=f"of {type(self.server).__qualname__}",
        )
        self._max_children = options.pop("max_children", math.inf)
        self._extra_arguments = options.pop("extra_arguments", ())
        self.set_flags(Flags(**options))
        return None

    async def stop_all(self, cause: StopCause) -> None:
        """Stop the children, all at once: it takes as long as the slowest of them."""
        asked = [
            (child, child.process, self._ask_to_stop(child, child.process, cause))
            for child in self.kids.values()
            if child.process is not None
        ]
        for child, process, was_asked in asked:
            if process.live() is not None:
                await self.wait_done(process)
            self._note_stop(child, process, asked=was_asked)

    # -- its children

    def spec_for(self, child: Child) -> ChildSpec:
        """Give its specification, with the extra arguments before those of its start."""
        extra, spec = self._extra_arguments, child.spec
        if not extra:
            return spec
        if isinstance(spec.start, Start):
            return spec.starting(attrs.evolve(spec.start, args=(*extra, *spec.start.args)))
        return spec.starting(functools.partial(spec.start, *extra))

    def child_started(self, process: Shell) -> None:
        super().child_started(process)
        cast("DynamicChild", process.address).latest = process

    def keeps(self, child: Child) -> bool:
        return False

    def is_stop_fine(self, child: Child, reason: ExitReason) -> bool:
        # As in Elixir: to end with a detail is as good an answer to the shutdown.
        return isinstance(reason, Shutdown) or super().is_stop_fine(child, reason)

    def _forget(self, child: Child) -> None:
        child.settle()
        child.gone = True
        self.kids.pop(child, None)
        # Whoever has a reference need not keep the dead process.
        cast("DynamicChild", child).latest = None

    def find(self, id: object) -> Child:  # noqa: A002 - OTP's word
        """Give the child of a reference: its address, or one pinned to its latest incarnation.

        Raises:
            ChildNotFoundError: if it is no child of this supervisor (any more).
        """
        target: object = target_of(id) if isinstance(id, ServerRef) else None
        child = target.address if isinstance(target, Shell) else target
        known = self.kids.get(child)
        if not isinstance(known, DynamicChild) or target not in (known, known.latest):
            raise ChildNotFoundError(id)
        return known

    # -- requests

    def admit(self, spec: ChildSpec) -> Child:
        if len(self.kids) >= self._max_children:
            raise MaxChildrenError(
                f"supervisor {self.label} has its max_children={self._max_children:g} children"
            )
        child = DynamicChild(spec, thread=self.thread)
        self.kids[child] = child
        return child
