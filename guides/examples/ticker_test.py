from ticker import Ticker

from slipstream.reasons import ChannelCrashed, ClosedByServer, ConnectFailed
from slipstream.testing import ANY


async def test_a_price_is_kept(socket_test):
    async with socket_test(Ticker) as test:
        await test.connect_and_join("prices")
        await test.push("prices", "price", {"n": 1, "price": 9.5})
        assert test.client.price == 9.5
        await test.assert_callback("handle_price", "prices", {"n": int})


async def test_a_report_a_minute(socket_test):
    async with socket_test(Ticker) as test:
        await test.connect_and_join("prices")
        await test.refute_push("prices", "report", within=59.0)
        report = await test.assert_push("prices", "report", {"seen": 0})
        assert report.at == 60.0
        await test.advance(3600.0)
        for _ in range(60):
            await test.assert_push("prices", "report")
        await test.refute_push()


async def test_it_asks_for_what_it_has_missed(socket_test):
    async with socket_test(Ticker) as test:
        await test.accept_connect(lambda uri: uri.startswith("ws://server.test/"))
        await test.assert_join("prices", {"since": 0})
        await test.accept_join("prices")
        await test.push("prices", "price", {"n": 7, "price": 9.5})
        await test.drop()
        await test.refuse_connect(503)
        await test.accept_connect()
        await test.assert_join("prices", {"since": 7})
        await test.assert_callback("handle_disconnect", ConnectFailed)


async def test_a_server_that_goes_silent(socket_test):
    async with socket_test(Ticker) as test:
        await test.connect_and_join("prices")
        await test.assert_heartbeat()
        await test.stall()
        await test.assert_disconnect(within=60.0)
        await test.resume()
        await test.connect_and_join("prices")


async def test_a_channel_that_crashes_is_joined_again(socket_test):
    async with socket_test(Ticker) as test:
        await test.connect_and_join("prices")
        await test.push("prices", "price", {"n": 7, "price": 9.5})
        await test.crash_topic("prices")
        await test.assert_callback("handle_topic_close", "prices", ChannelCrashed)
        await test.assert_join("prices", {"since": 7}, within=10.0)


async def test_a_join_that_is_refused(socket_test):
    async with socket_test(Ticker) as test:
        await test.accept_connect()
        await test.refuse_join("prices", {"reason": "unauthorized"})
        await test.refute_push("prices", ANY, within=120.0)


async def test_a_restart_of_the_server(socket_test):
    async with socket_test(Ticker) as test:
        await test.connect_and_join("prices")
        await test.close(1012)
        call = await test.assert_callback("handle_disconnect", ClosedByServer(1012))
        assert call.error is None
        await test.connect_and_join("prices")
