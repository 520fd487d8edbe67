import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from slipstream.interfaces import Frame
from slipstream.transport._outbox import SLICE_BYTES, Batch, Outbox


def frames_of(batch: Batch) -> list[bytes]:
    return [frame.data for frame in batch.frames]


async def test_control_goes_first_then_the_pong_then_urgent_frames_then_the_rest() -> None:
    outbox = Outbox(100)
    outbox.put(Frame(b"1"), token=1)
    outbox.put(Frame(b"2"))
    outbox.put(Frame(b"beat"), token=0, urgent=True)
    outbox.put_pong(b"old")
    outbox.put_pong(b"new")
    outbox.put_control(b"control")
    batch = await outbox.take()
    assert (batch.control, batch.pong) == ((b"control",), b"new")
    assert frames_of(batch) == [b"beat", b"1", b"2"]
    assert outbox.written(batch) == [0, 1]


async def test_a_turn_takes_about_64_kib_so_that_what_is_urgent_need_not_wait_for_more() -> None:
    outbox = Outbox(1 << 20)
    for _ in range(6):
        outbox.put(Frame(b"x" * (SLICE_BYTES // 2)))
    batch = await outbox.take()
    assert len(batch.frames) == 2
    outbox.put(Frame(b"beat"), urgent=True)
    outbox.written(batch)
    assert frames_of(await outbox.take())[0] == b"beat"


async def test_bytes_are_queued_until_they_are_written() -> None:
    outbox = Outbox(10)
    outbox.put(Frame(b"x" * 10))
    assert outbox.full
    batch = await outbox.take()
    assert (outbox.queued_bytes, outbox.full, outbox.idle) == (10, True, False)
    outbox.written(batch)
    assert (outbox.queued_bytes, outbox.full, outbox.idle) == (0, False, True)
    assert (outbox.sent_messages, outbox.sent_bytes) == (1, 10)


async def test_dropped_frames_are_no_longer_queued_but_control_stays() -> None:
    outbox = Outbox(10)
    outbox.put(Frame(b"frame"), token=1)
    outbox.put(Frame(b"beat"), urgent=True)
    outbox.put_control(b"close")
    outbox.drop_frames()
    assert outbox.queued_bytes == 0
    batch = await outbox.take()
    assert (batch.control, batch.frames, batch.tokens) == ((b"close",), [], [])


async def test_a_cancelled_take_takes_nothing(autojump_clock: MockClock) -> None:
    outbox = Outbox(10)
    with trio.move_on_after(1) as scope:
        await outbox.take()
    assert scope.cancelled_caught
    outbox.put(Frame(b"x"))
    assert frames_of(await outbox.take()) == [b"x"]


async def test_wait_idle_waits_for_the_write_itself(nursery: trio.Nursery) -> None:
    outbox = Outbox(10)
    outbox.put(Frame(b"x"))
    batch = await outbox.take()
    done = trio.Event()

    async def wait() -> None:
        await outbox.wait_idle()
        done.set()

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert not done.is_set()
    outbox.written(batch)
    await wait_all_tasks_blocked()
    assert done.is_set()
