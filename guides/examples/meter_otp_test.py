from meter import Meter

from slipstream.otp import open_supervisor
from slipstream.reasons import KILLED, Shutdown
from slipstream.testing.otp import Recorder, advance, assert_exits, check_leaks, wait_until


async def test_old_hits_are_forgotten(autojump_clock):
    async with check_leaks(), open_supervisor([(Meter, 60.0)]) as supervisor:
        meter = supervisor.child(Meter)
        meter.cast("hit")
        await advance(59.5)
        assert await meter.call("count") == 1
        await advance(2.0)
        assert await meter.call("count") == 0


async def test_a_meter_that_is_killed_comes_back(autojump_clock):
    async with open_supervisor([(Meter, 60.0)]) as supervisor:
        meter = supervisor.child(Meter)
        incarnation = meter.pin()
        meter.kill()
        await assert_exits(incarnation, KILLED)
        await wait_until(meter)
        assert await meter.call("count") == 0


async def test_what_a_process_is_told(autojump_clock):
    diary = []
    async with open_supervisor([(Recorder, diary)]) as supervisor:
        supervisor.child(Recorder).cast("hit")
        await wait_until(lambda: bool(diary))
    assert diary == [("cast", "hit"), ("terminate", Shutdown())]
