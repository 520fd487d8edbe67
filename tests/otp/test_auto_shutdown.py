"""Significant children: their end is their supervisor's."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from slipstream.otp import (
    Supervisor,
    SupervisorRef,
    open_supervisor,
)
from slipstream.reasons import NORMAL, SHUTDOWN
from tests.otp.support import (
    Diary,
    crash,
    end,
    puppet,
    settle,
    started,
    stopped,
    virtual,
    which,
)


@pytest.mark.parametrize(
    ("mode", "ends", "over"),
    [
        ("any_significant", ["s1"], True),
        ("any_significant", ["plain"], False),
        ("all_significant", ["s1"], False),
        ("all_significant", ["s1", "s2"], True),
        ("all_significant", ["s1", "plain"], False),
    ],
)
@virtual
async def test_the_end_of_significant_children_ends_the_supervisor(
    mode: Any, ends: list[str], over: bool
) -> None:
    """SUP-092, SUP-093: by themselves, and for good."""
    diary = Diary()
    children = [
        puppet("s1", diary, restart="transient", significant=True),
        puppet("plain", diary, restart="transient"),
        puppet("s2", diary, restart="temporary", significant=True),
        puppet("last", diary),
    ]
    async with open_supervisor(children, auto_shutdown=mode) as supervisor:
        supervisor.child("s1").cast(crash())  # restarted: that is no end
        await settle()
        assert bool(supervisor.alive)
        for name in ends:
            supervisor.child(name).cast(end(NORMAL))
        await settle()
        assert supervisor.alive is not over
        if over:
            assert await supervisor.wait() == SHUTDOWN
            rest = [name for name in ("last", "s2", "plain", "s1") if name not in ends]
            assert stopped(diary)[-len(rest) :] == rest


@virtual
async def test_a_significant_child_that_is_terminated_ends_nothing() -> None:
    """SUP-092, SUP-093, SUP-095: nor one that a sibling's restart stops."""
    children = [
        puppet("s1", restart="transient", significant=True),
        puppet("t", restart="temporary", significant=True),
        puppet("p"),
    ]
    async with open_supervisor(
        children, auto_shutdown="any_significant", strategy="one_for_all"
    ) as supervisor:
        supervisor.child("p").cast(crash())
        await settle()
        assert supervisor.alive
        await supervisor.terminate_child("s1")
        assert supervisor.alive


@virtual
async def test_an_automatic_end_cascades_through_significant_supervisors_only() -> None:
    """SUP-096."""

    def nested(id_: str, *, significant: bool) -> Any:
        return Supervisor.child_spec(
            [puppet("leaf", name=id_, significant=True, restart="transient")],
            id=id_,
            auto_shutdown="any_significant",
            restart="transient",
            significant=significant,
        )

    children = [nested("quiet", significant=False), nested("loud", significant=True)]
    async with open_supervisor(children, auto_shutdown="any_significant") as supervisor:
        for name, alive in (("quiet", True), ("loud", False)):
            leaf = supervisor.whereis(name)
            assert leaf
            leaf.cast(end(NORMAL))
            await settle()
            assert supervisor.alive is alive


HOW: dict[str, Callable[[SupervisorRef], Any]] = {
    "terminate": lambda supervisor: supervisor.terminate_child("x"),
    "kill": lambda supervisor: supervisor.child("x").kill(),
    "crash": lambda supervisor: supervisor.child("x").cast(crash()),
    "normal": lambda supervisor: supervisor.child("x").cast(end(NORMAL)),
}
MODES = ["never", "any_significant", "all_significant"]


async def end_it(supervisor: SupervisorRef, how: str) -> None:
    """End the child "x" in one way."""
    done = HOW[how](supervisor)
    if done is not None:
        await done
    await settle()


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("restart", ["temporary", "transient"])
@virtual
async def test_the_end_of_a_child_that_is_not_significant_ends_nothing(
    restart: Any, mode: Any, how: str
) -> None:
    """SUP-090, SUP-091: in no mode, however it ends; a transient one is restarted as ever."""
    diary = Diary()
    children = [puppet("x", diary, restart=restart), puppet("other")]
    async with open_supervisor(children, auto_shutdown=mode) as supervisor:
        await end_it(supervisor, how)
        assert supervisor.alive
        if restart == "temporary":
            assert which(supervisor) == [("other", "running")]
            assert started(diary) == ["x"]
        else:
            again = how in {"kill", "crash"}
            assert which(supervisor) == [
                ("x", "running" if again else "down"),
                ("other", "running"),
            ]
            assert started(diary) == ["x", "x"] if again else ["x"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize("restart", ["temporary", "transient"])
@virtual
async def test_the_end_of_a_significant_child_by_itself_ends_its_supervisor(
    restart: Any, mode: Any, how: str
) -> None:
    """SUP-092, SUP-093: any one of them, or the last; the others, significant or not, with it."""
    diary = Diary()
    children = [
        puppet("x", diary, restart=restart, significant=True),
        puppet("y", diary, restart="transient", significant=True),
        puppet("plain", diary),
    ]
    over = how == "normal" or (restart == "temporary" and how in {"kill", "crash"})
    async with open_supervisor(children, auto_shutdown=mode) as supervisor:
        await end_it(supervisor, how)
        assert supervisor.alive is not (over and mode == "any_significant")
        if supervisor.alive:
            supervisor.child("y").cast(end(NORMAL))
            await settle()
            # A child that was terminated is no significant child that still lives.
            last = over or how == "terminate" or mode == "any_significant"
            assert supervisor.alive is not last
        if not supervisor.alive:
            assert await supervisor.wait() == SHUTDOWN
            assert "plain" in stopped(diary)


@virtual
async def test_a_significant_child_that_waits_for_its_restart_has_not_ended() -> None:
    """SUP-097: the normal end of another is not the last one then, but its own would be."""
    children = [
        puppet("s1", restart="transient", significant=True, backoff=lambda *_: 10.0),
        puppet("s2", restart="transient", significant=True),
    ]
    async with open_supervisor(children, auto_shutdown="all_significant") as supervisor:
        supervisor.child("s1").cast(crash())
        await settle()
        supervisor.child("s2").cast(end(NORMAL))
        await settle()
        assert which(supervisor) == [("s1", "restarting"), ("s2", "down")]
        await trio.sleep(11.0)
        assert which(supervisor) == [("s1", "running"), ("s2", "down")]
        supervisor.child("s1").cast(end(NORMAL))
        assert await supervisor.wait() == SHUTDOWN
