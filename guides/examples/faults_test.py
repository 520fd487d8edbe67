import trio
from ticker import Ticker
from ticker_server_test import Prices

from slipstream import Config, open_supervisor
from slipstream.testing import PhoenixServer
from slipstream.testing.faults import after, close, duplicate_frames, half_open, refuse, reorder


async def test_a_bad_day(autojump_clock):
    async with PhoenixServer({"prices": Prices}, memory=True) as server:
        server.inject(refuse(503, retry_after=2), to="next")
        server.inject(after("phx_join", half_open()), to="next")
        server.inject(after(3600.0, close(1012)), to="next")
        config = Config(server.url, transport=server.open_transport)
        async with open_supervisor([(Ticker, config)]):
            await server.wait_until(lambda: len(server.requests) == 2)
            assert trio.current_time() >= 2.0  # as Retry-After said
            await server.wait_until(lambda: len(server.requests) == 3, within=60.0)
            assert trio.current_time() >= 32.0  # a heartbeat without an answer
            await server.wait_until(lambda: len(server.requests) == 4, within=7200.0)
            await server.wait_joined("prices")


async def test_prices_twice_and_out_of_order(autojump_clock):
    async with PhoenixServer({"prices": Prices}, memory=True) as server:
        noise = server.inject(duplicate_frames("price"), reorder("price", seed=7))
        config = Config(server.url, transport=server.open_transport)
        async with open_supervisor([(Ticker, config)]) as supervisor:
            await server.wait_joined("prices")
            for n in range(1, 9):
                server.broadcast("prices", "price", {"n": n, "price": 9.5})
            await trio.sleep(1.0)
            assert await supervisor.child(Ticker).call("seen") == 8
            noise.lift()
