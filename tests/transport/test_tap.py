import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from slipstream.transport._frames import build_close, build_frame
from slipstream.transport._outbox import Outbox
from slipstream.transport._tap import Tap


async def test_what_is_passed_up_is_read_in_order_and_in_the_sizes_asked_for() -> None:
    tap = Tap(Outbox(100))
    tap.pass_up(b"abc")
    tap.pass_up(b"def")
    tap.pass_eof()
    assert await tap.receive_some(2) == b"ab"
    assert await tap.receive_some() == b"cdef"
    assert await tap.receive_some() == b""


async def test_what_is_written_goes_into_the_outbox_and_a_close_is_noticed() -> None:
    outbox = Outbox(100)
    tap = Tap(outbox)
    await tap.wait_send_all_might_not_block()
    noticed = []
    close = build_close(1000)
    for data in (b"GET / HTTP/1.1", close):
        await tap.send_all(data)
        noticed.append(tap.close_sent)
    assert noticed == [False, True]
    await tap.send_eof()
    assert outbox.take_nowait().control == (b"GET / HTTP/1.1", close)


@pytest.mark.parametrize("gone", [False, True])
async def test_one_may_wait_for_a_close_or_for_the_news_that_none_will_come(
    gone: bool, nursery: trio.Nursery
) -> None:
    tap = Tap(Outbox(100))
    done = trio.Event()

    async def wait() -> None:
        await tap.wait_close_sent()
        done.set()

    nursery.start_soon(wait)
    await tap.send_all(build_frame(0x1, b"no close"))
    await wait_all_tasks_blocked()
    assert not done.is_set()
    if gone:
        await tap.aclose()
    else:
        await tap.send_all(build_close(1000))
    with trio.fail_after(5):
        await done.wait()


async def test_one_may_wait_until_everything_has_been_read_and_more_is_asked_for(
    nursery: trio.Nursery,
) -> None:
    tap = Tap(Outbox(100))
    digested = trio.Event()

    async def wait() -> None:
        await tap.wait_digested()
        digested.set()

    tap.pass_up(b"abc")
    nursery.start_soon(wait)
    assert await tap.receive_some() == b"abc"
    await wait_all_tasks_blocked()
    assert not digested.is_set()
    nursery.start_soon(tap.receive_some)
    await wait_all_tasks_blocked()
    assert digested.is_set()
    tap.pass_eof()


async def test_after_its_end_it_is_closed_to_both_sides(nursery: trio.Nursery) -> None:
    tap = Tap(Outbox(100))
    with trio.fail_after(5):
        await tap.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await tap.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await tap.send_all(b"x")
        await tap.wait_digested()
