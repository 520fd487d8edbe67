"""Supervisor: the class that applications subclass, and the reference to one."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Unpack, cast

from slipstream.errors import ChildSpecError

from ._child_spec import ChildKeywords, ChildLike, ChildSpec
from ._children import SupervisorKeywords, check_children, flags_of
from ._launch import PROCESS_CLASSES
from ._ref import ServerRef
from ._results import Ignore
from ._supervisor_base import SupervisorBase, SupervisorBaseRef
from ._supervisor_process import SupervisorProcess

__all__ = ["Supervisor", "SupervisorRef"]


class SupervisorRef(SupervisorBaseRef):
    """The address of a supervisor."""

    __slots__ = ()

    async def start_child(self, child: ChildLike) -> ServerRef | None:
        """Start a new child, the last in the order, and wait until it has started.

        If the caller is cancelled, the child is started all the same.

        Returns:
            Its reference, or ``None`` if it chose to be ignored.

        Raises:
            ChildSpecError: if the specification is wrong.
            StartError: if it did not start; nothing of it is left.
            AlreadyStartedError: if a child of that id runs, or its name is taken.
            AlreadyPresentError: if a child of that id is there, but does not run.
            ServerGoneError: if the supervisor is gone, or ends first.
            DeadlockError: if the supervisor waits for the caller to start.
            Exit: if the process round the current task is being stopped.
        """
        spec = ChildSpec.of(child)
        return cast("ServerRef | None", await self._request(SupervisorProcess.start_child, spec))

    async def terminate_child(self, id: object) -> None:  # noqa: A002 - OTP's word
        """Stop a child, or cancel its restart. A temporary one is forgotten.

        Raises:
            ChildNotFoundError: if there is no child of that id.
            ServerGoneError: if the supervisor is gone, or ends first.
            DeadlockError: if the supervisor waits for the caller to start.
            Exit: if the process round the current task is being stopped.
        """
        await self._request(SupervisorProcess.terminate_child, id)

    async def restart_child(self, id: object) -> ServerRef | None:  # noqa: A002 - OTP's word
        """Start a child that does not run.

        Returns:
            Its reference, or ``None`` if it chose to be ignored.

        Raises:
            ChildNotFoundError: if there is no child of that id.
            ChildRunningError: if it runs.
            ChildRestartingError: if it waits for its restart.
            StartError: if it did not start.
            ServerGoneError: if the supervisor is gone, or ends first.
            DeadlockError: if the supervisor waits for the caller to start.
            Exit: if the process round the current task is being stopped.
        """
        return cast("ServerRef | None", await self._request(SupervisorProcess.restart_child, id))

    async def delete_child(self, id: object) -> None:  # noqa: A002 - OTP's word
        """Forget a child that does not run.

        Raises:
            ChildNotFoundError: if there is no child of that id.
            ChildRunningError: if it runs.
            ChildRestartingError: if it waits for its restart.
            ServerGoneError: if the supervisor is gone, or ends first.
            DeadlockError: if the supervisor waits for the caller to start.
            Exit: if the process round the current task is being stopped.
        """
        await self._request(SupervisorProcess.delete_child, id)

    def child(self, id: object) -> ServerRef:  # noqa: A002 - OTP's word
        """Give the address of a child, whether it runs or not.

        Raises:
            ChildNotFoundError: if there is no child of that id.
            ServerGoneError: if the supervisor is gone.
        """
        return self._supervisor().find(id).ref

    def child_spec_of(self, id: object) -> ChildSpec:  # noqa: A002 - OTP's word
        """Give the specification of a child.

        Raises:
            ChildNotFoundError: if there is no child of that id.
            ServerGoneError: if the supervisor is gone.
        """
        return self._supervisor().find(id).spec


class SupervisorClassKeywords(ChildKeywords, SupervisorKeywords, total=False):
    """What a supervisor's class may say of itself."""


class Supervisor(SupervisorBase):
    """A process that starts, watches, restarts and stops children.

    ``Supervisor.child_spec(children, strategy=...)`` nests one without a class of its own.
    Subclass it to decide on the children when it starts::

        class App(Supervisor, strategy="rest_for_one"):
            async def init(self, config):
                return [(Store, config.path), Server]
    """

    __slots__ = ()

    ref_class: ClassVar[type[ServerRef]] = SupervisorRef

    def __init_subclass__(cls, **keywords: Unpack[SupervisorClassKeywords]) -> None:
        super().__init_subclass__(**keywords)

    @classmethod
    def child_spec(cls, *args: Any, **overrides: Unpack[SupervisorClassKeywords]) -> ChildSpec:
        """Give the specification of a supervisor of this class, whose ``init`` gets *args*.

        Of ``Supervisor`` itself: give it the list of children.

        Raises:
            ChildSpecError: for an unknown key or a wrong value, those of the children included.
        """
        options, rest = cls._divide(overrides, where=f"of {cls.__qualname__}.child_spec")
        if cls is Supervisor:
            if len(args) > 1:
                raise ChildSpecError(
                    f"Supervisor.child_spec takes a list of children, not {args!r}"
                )
            args = (check_list(args[0] if args else [], {**cls._options, **options}),)
        return cls._make_spec(args, options, rest)

    async def init(self, *args: Any, **_: Any) -> Iterable[ChildLike] | Ignore:
        """Give the children, in the order of their start, or ``Ignore()``."""
        return cast("Iterable[ChildLike]", args[0]) if args and args[0] is not None else []


def check_list(children: object, options: Mapping[str, Any]) -> list[ChildSpec]:
    """Check a list of *children*, for a supervisor with *options*.

    Raises:
        ChildSpecError: if something is wrong.
    """
    if not isinstance(children, Iterable) or isinstance(children, str | bytes | Mapping):
        raise ChildSpecError(f"children={children!r} is wrong: it takes a list of children")
    specs = [ChildSpec.of(child) for child in cast("Iterable[ChildLike]", children)]
    check_children(specs, flags_of(options))
    return specs


SupervisorProcess.serves = Supervisor
PROCESS_CLASSES["supervisor"] = SupervisorProcess
