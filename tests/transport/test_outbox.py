import trio
from trio.testing import wait_all_tasks_blocked

from slipstream.interfaces import Frame
from slipstream.transport._outbox import SLICE_BYTES, Batch, Outbox


def frames_of(batch: Batch) -> list[bytes]:
    return [frame.data for frame in batch.frames]


def test_control_goes_first_then_the_pong_then_urgent_frames_then_the_rest() -> None:
    outbox = Outbox(100)
    outbox.put(Frame(b"1"), token=1)
    outbox.put(Frame(b"2"))
    outbox.put(Frame(b"beat"), token=0, urgent=True)
    outbox.put_pongs([b"old"])
    outbox.put_pongs([b"new"])
    outbox.put_control(b"control")
    batch = outbox.take()
    assert (batch.control, batch.pongs) == ((b"control",), [b"old", b"new"])
    assert frames_of(batch) == [b"beat", b"1", b"2"]
    assert outbox.written(batch) == [0, 1]


def test_a_turn_takes_about_64_kib_so_that_what_is_urgent_need_not_wait_for_more() -> None:
    outbox = Outbox(1 << 20)
    for _ in range(6):
        outbox.put(Frame(b"x" * (SLICE_BYTES // 2)))
    batch = outbox.take()
    assert len(batch.frames) == 2
    outbox.put(Frame(b"beat"), urgent=True)
    outbox.written(batch)
    assert frames_of(outbox.take())[0] == b"beat"


def test_bytes_are_queued_until_they_are_written() -> None:
    outbox = Outbox(10)
    outbox.put(Frame(b"x" * 10))
    assert outbox.full
    batch = outbox.take()
    assert (outbox.queued_bytes, outbox.full, outbox.idle) == (10, True, False)
    outbox.written(batch)
    assert (outbox.queued_bytes, outbox.full, outbox.idle) == (0, False, True)
    assert (outbox.sent_messages, outbox.sent_bytes) == (1, 10)


def test_dropped_frames_are_no_longer_queued_but_control_stays() -> None:
    outbox = Outbox(10)
    outbox.put(Frame(b"frame"), token=1)
    outbox.put(Frame(b"beat"), urgent=True)
    outbox.put_control(b"close")
    outbox.drop_frames()
    assert outbox.queued_bytes == 0
    batch = outbox.take()
    assert (batch.control, batch.frames, batch.tokens) == ((b"close",), [], [])


def test_what_was_given_back_is_taken_first() -> None:
    outbox = Outbox(10)
    outbox.put(Frame(b"1"))
    batch = outbox.take()
    outbox.give_back(batch)
    outbox.put_control(b"close")
    assert outbox.take() is batch
    assert not outbox.idle
    outbox.written(batch)
    assert outbox.take().control == (b"close",)


async def test_wait_idle_waits_for_the_write_itself(nursery: trio.Nursery) -> None:
    outbox = Outbox(10)
    outbox.put(Frame(b"x"))
    batch = outbox.take()
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
