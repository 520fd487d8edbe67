"""From whatever left a callback to one exit reason."""

from typing import Any

import pytest
import trio
from hypothesis import given, strategies as st

from slipstream.otp import Exit, Reply, open_supervisor
from slipstream.otp._exits import fatal_of, leaves, normalise, without
from slipstream.reasons import KILLED, NORMAL, SHUTDOWN, Crashed, ExitReason, Shutdown
from tests.otp.support import Boom, Puppet, puppet, records, settle, virtual

REASONS: list[ExitReason] = [NORMAL, SHUTDOWN, Shutdown("x"), KILLED]


def _cancelled() -> trio.Cancelled:
    return trio.Cancelled._create(source="explicit")


LEAVES = st.one_of(
    st.sampled_from(REASONS).map(Exit),
    st.integers(0, 3).map(ValueError),
    st.builds(KeyboardInterrupt),
    st.deferred(lambda: st.builds(_cancelled)),
)
ERRORS: st.SearchStrategy[BaseException] = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(
        lambda errors: BaseExceptionGroup("", errors)
    ),
    max_leaves=8,
)


@given(ERRORS)
def test_normalise_says_what_the_leaves_say(error: BaseException) -> None:
    """Section 4.5: idempotent; abnormal iff an error is in it; nothing fatal is absorbed."""
    simple = normalise(error)
    assert normalise(simple) is simple or list(leaves(normalise(simple))) == list(leaves(simple))
    found = list(leaves(error))
    others = [leaf for leaf in found if not isinstance(leaf, Exit)]
    if others:
        assert not isinstance(simple, Exit)
        assert list(leaves(simple)) == others
        if len(others) == 1:
            assert simple is others[0]
    else:
        assert isinstance(simple, Exit)
        assert simple in found
        abnormal = [leaf for leaf in found if isinstance(leaf, Exit) and leaf.reason.abnormal]
        assert simple.reason.abnormal == bool(abnormal)
    fatal: list[object] = [leaf for leaf in found if isinstance(leaf, KeyboardInterrupt)]
    assert fatal_of(error) in (fatal or [None])


@given(ERRORS)
def test_without_takes_out_every_leaf_of_a_type_and_no_other(error: BaseException) -> None:
    rest = without(error, KeyboardInterrupt, trio.Cancelled)
    kept = [
        leaf for leaf in leaves(error) if not isinstance(leaf, KeyboardInterrupt | trio.Cancelled)
    ]
    assert (list(leaves(rest)) if rest is not None else []) == kept


async def _in_nurseries(depth: int, *errors: BaseException) -> None:
    async def fail(error: BaseException) -> None:
        raise error

    if depth == 0:
        (error,) = errors
        raise error
    async with trio.open_nursery() as nursery:
        if depth > 1:
            nursery.start_soon(_in_nurseries, depth - 1, *errors)
            return
        for error in errors:
            nursery.start_soon(fail, error)


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, Shutdown({"a": 1})], ids=repr)
@virtual
async def test_an_exit_through_the_users_nurseries_is_as_if_raised_directly(
    depth: int, reason: ExitReason, caplog: pytest.LogCaptureFixture
) -> None:
    """TRI-030: no crash, no restart of a transient child, no report."""
    async with open_supervisor([puppet("a", restart="transient")]) as supervisor:
        pinned = supervisor.child("a").pin()
        pinned.send(lambda _: _in_nurseries(depth, Exit(reason)))
        assert await pinned.wait() == reason
        await settle()
        assert not supervisor.child("a").alive
    assert records(caplog) == []


@virtual
async def test_an_exit_that_a_broad_except_cannot_swallow() -> None:
    """Exit is no Exception."""

    async def act(_: Puppet) -> None:
        try:
            raise Exit(SHUTDOWN)
        except Exception:  # noqa: BLE001 - a user's own, which must not matter
            pytest.fail("swallowed")

    async with open_supervisor([puppet("a", restart="transient")]) as supervisor:
        pinned = supervisor.child("a").pin()
        pinned.send(act)
        assert await pinned.wait() == SHUTDOWN


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([Exit(SHUTDOWN), Exit(SHUTDOWN)], SHUTDOWN),
        ([Exit(NORMAL), Exit(NORMAL), Exit(NORMAL)], NORMAL),
        ([Exit(SHUTDOWN), ValueError("x")], ValueError),
        ([ValueError("x"), Exit(NORMAL)], ValueError),
        ([ValueError("x"), KeyError("y")], ExceptionGroup),
        ([ValueError("x"), KeyError("y"), Exit(NORMAL)], ExceptionGroup),
        ([Exit(SHUTDOWN), Exit(Crashed(Boom("b")))], Boom),
    ],
    ids=repr,
)
@virtual
async def test_what_several_leaves_say_together(errors: Any, expected: Any) -> None:
    """TRI-031: identical exits are one; an error wins over an exit beside it."""
    async with open_supervisor([puppet("a", restart="temporary")]) as supervisor:
        pinned = supervisor.child("a").pin()
        pinned.send(lambda _: _in_nurseries(2, *errors))
        reason = await pinned.wait()
    if isinstance(expected, ExitReason):
        assert reason == expected
    else:
        assert isinstance(reason, Crashed)
        assert isinstance(reason.exception, expected)


@virtual
async def test_a_crash_in_several_tasks_keeps_all_of_it(caplog: pytest.LogCaptureFixture) -> None:
    """TRI-033: the reason keeps all leaves, the report shows all tracebacks."""
    async with open_supervisor([puppet("a", restart="temporary")]) as supervisor:
        pinned = supervisor.child("a").pin()
        pinned.send(lambda _: _in_nurseries(1, ValueError("first"), KeyError("second")))
        reason = await pinned.wait()
        await settle()
    assert isinstance(reason, Crashed)
    assert {type(leaf) for leaf in leaves(reason.exception)} == {ValueError, KeyError}
    (record,) = [record for record in records(caplog) if record.exc_info]
    shown = caplog.text
    assert "first" in shown
    assert "second" in shown
    assert record.exc_info is not None


@virtual
async def test_an_exit_of_a_callers_own_process_leaves_the_call() -> None:
    """A reply given beside a group of exits is of no use; the process ends, once."""

    async def act(_: Puppet, __: Any) -> Reply:
        await _in_nurseries(1, Exit(Shutdown(1)))
        return Reply("never")

    async with open_supervisor([puppet("a", restart="temporary")]) as supervisor:
        pinned = supervisor.child("a").pin()
        pending = pinned.send_request(act)
        assert await pinned.wait() == Shutdown(1)
        assert pending.done


@virtual
async def test_a_cancelled_that_belongs_to_nobody_is_a_bug_and_no_shutdown() -> None:
    """TRI-023: raised by hand, or leaked from a foreign scope."""
    async with open_supervisor([puppet("a", restart="transient")]) as supervisor:
        pinned = supervisor.child("a").pin()

        def act(_: Puppet) -> None:
            raise _cancelled()

        pinned.send(act)
        reason = await pinned.wait()
        assert isinstance(reason, Crashed)
        assert isinstance(reason.exception, Exception)
        await settle()
        assert supervisor.child("a").alive
