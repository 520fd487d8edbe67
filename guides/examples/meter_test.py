import pytest
import trio
from meter import Meter
from trio.testing import wait_all_tasks_blocked

from slipstream.errors import SupervisorGaveUpError
from slipstream.otp import Crashed, open_server, open_supervisor


async def test_old_hits_are_forgotten(autojump_clock):
    async with open_server(Meter, 60.0) as meter:
        meter.cast("hit")
        await trio.sleep(59.5)  # takes no time
        assert await meter.call("count") == 1
        await trio.sleep(2.0)
        assert await meter.call("count") == 0


class Clumsy(Meter):
    async def handle_cast(self, message):
        if message == "a bug":
            raise RuntimeError(message)
        await super().handle_cast(message)


async def test_a_crash_costs_the_hits_and_nothing_else(autojump_clock):
    with trio.fail_after(600.0):
        async with open_supervisor([(Clumsy, 60.0)]) as supervisor:
            meter = supervisor.child(Clumsy)
            meter.cast("hit")
            incarnation = meter.pin()
            meter.cast("a bug")
            assert isinstance(await incarnation.wait(), Crashed)
            await wait_all_tasks_blocked()  # until all that is to follow has followed
            assert await meter.call("count") == 0
            assert meter.statistics().restarts == 1


async def test_four_crashes_are_too_many(autojump_clock):
    async def crash_for_ever():
        async with open_supervisor([(Clumsy, 60.0)]) as supervisor:
            while True:
                supervisor.child(Clumsy).cast("a bug")
                await wait_all_tasks_blocked()

    with pytest.raises(SupervisorGaveUpError) as gave_up:
        await crash_for_ever()
    assert gave_up.value.child is Clumsy
