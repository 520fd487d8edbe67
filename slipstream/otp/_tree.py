"""A tree of processes: what one ``open_…`` block opens. It has names, and ends as a whole."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from slipstream.errors import AlreadyStartedError
from slipstream.reasons import NORMAL

from ._names import Name, Via, find_via, register_via
from ._timers import Timers

if TYPE_CHECKING:
    from ._shell import Shell
    from ._table import Table

__all__ = ["Tree", "open_trees"]


class Tree:
    """The names of one tree, the tables of its registries, and the exception that ends all of it, if one does.

    *on_abort* is called when a process was hit by an exception that is no ``Exception``, such as
    ``KeyboardInterrupt``: the whole tree stops, and the block raises it.
    """

    __slots__ = ("fatal", "forced", "names", "on_abort", "root", "tables", "thread", "timers")

    def __init__(self, timers: Timers) -> None:
        self.timers = timers
        self.thread = threading.get_ident()
        self.names: dict[str, Shell] = {}
        self.tables: dict[Shell, Table] = {}
        self.fatal: BaseException | None = None
        self.forced = False
        self.root: Shell | None = None
        self.on_abort: Callable[[], None] | None = None

    def register(self, name: Name, process: "Shell") -> None:
        """Give *process* its *name*.

        Raises:
            AlreadyStartedError: if another process has it.
            StartError: if it is a registry's to give, and there is no such registry.
        """
        if isinstance(name, Via):
            register_via(name, self, process)
            return
        holder = self.names.get(name)
        if holder is not None:
            ref = holder.make_ref()
            raise AlreadyStartedError(
                f"the name {name!r} is taken by {ref}", reason=NORMAL, ref=ref
            )
        self.names[name] = process

    def unregister(self, name: Name, process: "Shell") -> None:
        """Take the *name* from *process*; one that a registry gave goes with its other entries."""
        if isinstance(name, str) and self.names.get(name) is process:
            del self.names[name]

    def find(self, name: Name) -> "Shell | None":
        """Give the process that has *name*.

        Raises:
            ServerGoneError: if it is a registry's to give, and that is gone.
        """
        return find_via(name, self) if isinstance(name, Via) else self.names.get(name)

    def force(self) -> None:
        """Kill the tree; it was asked to stop before, and its end is no failure of its own."""
        self.forced = True
        if self.root is not None:
            self.root.kill("cancelled")

    def abort(self, error: BaseException) -> None:
        """End the tree because of *error*: in order the first time, by force the second."""
        if self.fatal is None:
            self.fatal = error
            if self.on_abort is not None:
                self.on_abort()
        elif self.root is not None:
            self.root.kill()


def open_trees() -> set[Tree]:
    """Give the set of the trees that are open in this trio run."""
    trees = _open.get()
    if trees is None:
        trees = set[Tree]()
        _open.set(trees)
    return trees


_open: Final[trio.lowlevel.RunVar[set[Tree] | None]] = trio.lowlevel.RunVar(
    "slipstream.otp trees", None
)
