"""DynamicSupervisor: children that are started as the need arises, and go by their references."""

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack, cast

from slipstream.errors import ChildSpecError

from ._child_spec import ChildKeywords, ChildLike, ChildSpec
from ._children import ChildInfo
from ._dynamic_process import DYNAMIC_CHECKS, DynamicKeywords, DynamicProcess
from ._launch import PROCESS_CLASSES
from ._ref import ServerRef
from ._results import Ignore
from ._supervisor_base import SupervisorBase, SupervisorBaseRef

__all__ = ["DynamicBase", "DynamicSupervisor", "DynamicSupervisorRef", "KeyedByRef"]


class KeyedByRef(SupervisorBaseRef):
    """The address of a supervisor whose children go by their references."""

    __slots__ = ()

    async def terminate_child(self, ref: ServerRef) -> None:
        """Stop a child, or cancel its restart. It is forgotten.

        Raises:
            ChildNotFoundError: if it is no child of this supervisor (any more).
            TypeError: if *ref* is no reference.
            ServerGoneError: if the supervisor is gone, or ends first.
            DeadlockError: if the supervisor waits for the caller to start.
            Exit: if the process round the current task is being stopped.
        """
        _check_ref(ref)
        await self._request(DynamicProcess.terminate_child, ref)

    def which_child(self, ref: ServerRef) -> ChildInfo:
        """Tell how a child is.

        Raises:
            ChildNotFoundError: if it is no child of this supervisor (any more).
            TypeError: if *ref* is no reference.
            ServerGoneError: if the supervisor is gone.
        """
        _check_ref(ref)
        return self._supervisor().find(ref).info()

    def child_spec_of(self, ref: ServerRef) -> ChildSpec:
        """Give the specification of a child; that of a temporary one has lost its arguments.

        Raises:
            ChildNotFoundError: if it is no child of this supervisor (any more).
            TypeError: if *ref* is no reference.
            ServerGoneError: if the supervisor is gone.
        """
        _check_ref(ref)
        return self._supervisor().find(ref).spec


class DynamicSupervisorRef(KeyedByRef):
    """The address of a dynamic supervisor.

    Its children go by their references: the address that ``start_child`` gave, or one pinned to
    the incarnation that lives now or, while it is being restarted, to the last one.
    """

    __slots__ = ()

    async def start_child(self, child: ChildLike) -> ServerRef | None:
        """Start a new child, and wait until it has started.

        Its id says nothing: any number of children may share it. If the caller is cancelled, the
        child is started all the same.

        Returns:
            Its reference, or ``None`` if it chose to be ignored; nothing of it is left then.

        Raises:
            ChildSpecError: if the specification is wrong, whether the supervisor lives or not.
            MaxChildrenError: if there are as many children as there may be.
            StartError: if it did not start; nothing of it is left.
            AlreadyStartedError: if its name is taken.
            ServerGoneError: if the supervisor is gone, or ends first.
            DeadlockError: if the supervisor waits for the caller to start.
            Exit: if the process round the current task is being stopped.
        """
        spec = ChildSpec.of(child)
        if spec.significant:
            raise ChildSpecError(
                f"significant=True (child {spec.id!r}) does not go with a DynamicSupervisor, "
                "which no child can shut down"
            )
        return cast("ServerRef | None", await self._request(DynamicProcess.start_child, spec))


def _check_ref(ref: object) -> None:
    if not isinstance(ref, ServerRef):
        raise TypeError(f"ref={ref!r} is wrong: it takes the ServerRef of a child")


class DynamicClassKeywords(ChildKeywords, DynamicKeywords, total=False):
    """What a dynamic supervisor's class may say of itself."""


class DynamicBase(SupervisorBase):
    """A supervisor of children that go by their references, whatever may be asked of it."""

    __slots__ = ()

    _checks = DYNAMIC_CHECKS

    def __init_subclass__(cls, **keywords: Unpack[DynamicClassKeywords]) -> None:
        super().__init_subclass__(**keywords)

    @classmethod
    def child_spec(cls, *args: Any, **overrides: Unpack[DynamicClassKeywords]) -> ChildSpec:
        """Give the specification of a supervisor of this class, whose ``init`` gets *args*.

        The id of one that has no class of its own is its name, if it has one.

        Raises:
            ChildSpecError: for an unknown key or a wrong value.
        """
        options, rest = cls._divide(overrides, where=f"of {cls.__qualname__}.child_spec")
        if DynamicBase in cls.__bases__ and rest.get("name") is not None:
            rest = {"id": rest["name"], **rest}
        return cls._make_spec(args, options, rest)

    async def init(self, *args: Any, **_: Any) -> Mapping[str, Any] | Ignore | None:
        """Give options, ``None`` for those of the class, or ``Ignore()`` not to start."""
        if args and args != (None,):
            raise TypeError(
                f"{type(self).__qualname__} was given {len(args)} argument(s), but has no init"
            )
        return None


class DynamicSupervisor(DynamicBase):
    """A supervisor that begins without children, and is asked to start each of them.

    Every child is restarted on its own, and forgotten when it has ended for good. All are stopped
    at once. Class keywords, overrides of ``child_spec`` and ``init`` give its options, the latter
    in front of the former::

        class Rooms(DynamicSupervisor, max_children=1_000):
            async def init(self, server):
                return {"extra_arguments": [server]}

    Besides what a :class:`Supervisor` takes there is *max_children*, how many there may be at a
    time, those that wait for their restart included; and *extra_arguments*, which the ``init`` of
    each child gets before its own. The strategy is always ``"one_for_one"``, and *auto_shutdown*
    ``"never"``.
    """

    __slots__ = ()

    ref_class: ClassVar[type[ServerRef]] = DynamicSupervisorRef


DynamicProcess.serves = DynamicBase
PROCESS_CLASSES["dynamic"] = DynamicProcess
