"""What is common to all classes of supervisors, and to the references to them."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, cast

from slipstream.errors import SupervisorGaveUpError
from slipstream.reasons import NOPROC

from ._calls import gone_error
from ._child_spec import CHILD_CHECKS, ChildDefaults, ChildSpec, Start, check_keys
from ._children import SUPERVISOR_CHECKS, ChildCounts, ChildInfo
from ._overseer import Method, Operation, Overseer
from ._ref import ServerRef, ask
from ._shell import Phase
from ._signatures import check_callbacks
from ._waits import check_task

__all__ = ["SupervisorBase", "SupervisorBaseRef"]


class SupervisorBaseRef(ServerRef):
    """The address of a supervisor of any class."""

    __slots__ = ()

    def which_children(self) -> list[ChildInfo]:
        """List the children, the oldest first.

        Raises:
            ServerGoneError: if the supervisor is gone.
        """
        return [child.info() for child in self._supervisor().kids.values()]

    def count_children(self) -> ChildCounts:
        """Count the children.

        Raises:
            ServerGoneError: if the supervisor is gone.
        """
        return self._supervisor().count()

    def whereis(self, name: str) -> ServerRef | None:
        """Give the process that has *name* in the supervisor's tree, or ``None``."""
        process = self._live_here()
        holder = None if process is None else process.tree.names.get(name)
        return None if holder is None else cast("ServerRef", holder.make_ref())

    @property
    def gave_up(self) -> SupervisorGaveUpError | None:
        """Why the supervisor gave up, if it did, of a reference to one incarnation."""
        target: object = self._target
        process = target if isinstance(target, Overseer) else self._target.live()
        return process.gave_up if isinstance(process, Overseer) else None

    def _supervisor(self) -> Overseer:
        process = self._live_here()
        if not isinstance(process, Overseer):
            raise gone_error(self, NOPROC)
        return process

    async def _request(self, method: Method, argument: Any) -> Any:
        check_task()
        process = self._live_here()
        refusal = None
        if not isinstance(process, Overseer) or process.stopping or process.phase is Phase.ENDING:
            refusal = gone_error(self, NOPROC)
        request = Operation(method, argument)
        caller = await ask(self, process, refusal, request, what="request")
        return caller.result(self)


ASYNC_CALLBACKS: Final[Mapping[str, str]] = {"init": "*"}


class SupervisorBase(ChildDefaults, type="supervisor"):
    """A process that starts, watches, restarts and stops children, chosen by its subclasses."""

    __slots__ = ("__dict__", "__weakref__", "_slipstream_process")

    _slipstream_process: Overseer
    _checks: ClassVar[Mapping[str, Callable[[str, object], object]]] = SUPERVISOR_CHECKS
    _options: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        mine, rest = cls._divide(keywords, where=f"of class {cls.__qualname__}")
        super().__init_subclass__(**rest)
        if mine:
            cls._options = {**cls._options, **mine}
        check_callbacks(cls, async_callbacks=ASYNC_CALLBACKS)

    @classmethod
    def _divide(
        cls, keywords: Mapping[str, Any], *, where: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Check *keywords*; divide them into a supervisor's own and those that any child has."""
        checked = check_keys(keywords, {**cls._checks, **CHILD_CHECKS}, where=where)
        mine = {key: value for key, value in checked.items() if key in cls._checks}
        return mine, {key: value for key, value in checked.items() if key not in cls._checks}

    @classmethod
    def _make_spec(
        cls, args: tuple[Any, ...], options: Mapping[str, Any], keywords: Mapping[str, Any]
    ) -> ChildSpec:
        """Give the specification of a supervisor of this class with *options* and child *keywords*."""
        given: dict[str, Any] = {"id": cls, **cls._keywords_of(), **keywords}
        return ChildSpec(start=Start(cls, args, options), **given)

    def options(self) -> Mapping[str, Any]:
        """Give the options that the class keywords say."""
        return self._options
