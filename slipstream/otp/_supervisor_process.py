"""What runs a supervisor whose children have ids and an order."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from slipstream.errors import (
    AlreadyPresentError,
    AlreadyStartedError,
    ChildRestartingError,
    ChildRunningError,
    StartError,
)
from slipstream.reasons import NORMAL, ExitReason, Shutdown

from ._child_spec import ChildSpec, Start
from ._children import Child, check_children, check_significant, flags_of
from ._overseer import Overseer
from ._ref import ServerRef
from ._results import FailedToStart, StopCause
from ._signatures import bad_return

if TYPE_CHECKING:
    from ._supervisor import Supervisor

__all__ = ["SupervisorProcess"]


class SupervisorProcess(Overseer):
    """A supervisor at work, whose children have ids and an order."""

    __slots__ = ()

    server: "Supervisor"

    # -- its life

    async def begin(self, start: Start, result: Any) -> ExitReason | None:
        for spec in self._check(start, result):
            self.kids[spec.id] = Child(spec, thread=self.thread)
        for child in list(self.kids.values()):
            try:
                await self._start(child)
            except StartError as error:
                self.start_cause = error.__cause__ if error.__cause__ is not None else error
                return Shutdown(FailedToStart(child.spec.id, error.reason))
            self.drop_if_down(child)
        return None

    def _check(self, start: Start, children: Any) -> list[ChildSpec]:
        """Check everything before any start."""
        if not isinstance(cast("object", children), Iterable) or isinstance(children, str | bytes):
            raise bad_return(self.server, "init", children, "a list of children, or Ignore")
        specs = [ChildSpec.of(child) for child in children]
        self.set_flags(flags_of({**self.server.options(), **start.options}))
        check_children(specs, self.flags)
        return specs

    async def stop_all(self, cause: StopCause) -> None:
        """Stop the children, last first."""
        for child in reversed(list(self.kids.values())):
            await self._stop(child, cause)

    # -- the end of a child

    def keeps(self, child: Child) -> bool:
        return child.spec.restart != "temporary"

    def child_over(self, child: Child) -> None:
        if child.spec.significant and self.tree.fatal is None and self._is_over():
            self.ending = "asked"

    def _is_over(self) -> bool:
        match self.flags.auto_shutdown:
            case "never":
                return False
            case "any_significant":
                return True
            case "all_significant":
                return not any(
                    kid.spec.significant and (kid.live() is not None or kid.restarting)
                    for kid in self.kids.values()
                )

    async def start_again(self, child: Child) -> tuple[Child, StartError] | None:
        """Stop and start the children that go with *child*; give the one that did not start."""
        if self.flags.strategy == "one_for_one":
            return await super().start_again(child)
        group = list(self.kids.values())
        if self.flags.strategy == "rest_for_one":
            group = group[group.index(child) :]
        for kid in group:
            if kid is not child:
                kid.settle()
                kid.awaited = True
        for kid in reversed(group):
            await self._stop(kid, "failed")
            self.drop_if_down(kid)
        for kid in group:
            if not kid.gone:
                try:
                    await self._start(kid)
                except StartError as error:
                    return kid, error
        return None

    # -- requests

    def admit(self, spec: ChildSpec) -> Child:
        """Take in a new child, the last in the order."""
        check_significant(spec, self.flags)
        known = self.kids.get(spec.id)
        if known is not None:
            if known.live() is None:
                raise AlreadyPresentError(spec.id)
            message = f"child {spec.id!r} runs already"
            raise AlreadyStartedError(message, reason=NORMAL, ref=known.ref)
        child = self.kids[spec.id] = Child(spec, thread=self.thread)
        return child

    async def restart_child(self, id: object) -> ServerRef | None:  # noqa: A002 - OTP's word
        """Start a child that does not run."""
        child = self._find_down(id)
        await self._start(child)
        return self.started_child(child)

    async def delete_child(self, id: object) -> None:  # noqa: A002 - OTP's word
        """Forget a child that does not run."""
        self._forget(self._find_down(id))

    def _find_down(self, id: object) -> Child:  # noqa: A002 - OTP's word
        child = self.find(id)
        if child.live() is not None:
            raise ChildRunningError(id)
        if child.restarting:
            raise ChildRestartingError(id)
        return child
