"""Significant children: their end is their supervisor's."""

from typing import Any

import pytest

from slipstream.otp import (
    Supervisor,
    open_supervisor,
)
from slipstream.reasons import NORMAL, SHUTDOWN
from tests.otp.support import (
    Diary,
    crash,
    end,
    puppet,
    settle,
    stopped,
    virtual,
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
    """SUP-090 to SUP-093: by themselves, and for good."""
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
