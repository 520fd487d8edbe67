from ticker import Ticker

from slipstream.reasons import NORMAL


async def test_a_price_without_a_number_is_a_crash(socket_test):
    async with socket_test(Ticker) as test:
        await test.connect_and_join("prices")
        await test.push("prices", "price", {"n": 7, "price": 9.5})
        await test.push("prices", "price", {"price": 9.5})
        await test.expect_crash(KeyError, "n")
        await test.assert_disconnect(1011)
        await test.assert_restarted()
        await test.accept_connect()
        await test.assert_join("prices", {"since": 0})  # a new instance, from init on


async def test_it_stops_in_order(socket_test):
    async with socket_test(Ticker, restart="transient") as test:
        await test.connect_and_join("prices")
        await test.ref.stop()
        await test.assert_disconnect(1000)
        assert await test.assert_stopped(NORMAL) == NORMAL
