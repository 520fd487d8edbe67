import trio
from ticker import Ticker

from slipstream import Config, open_supervisor
from slipstream.testing import Channel, Ok, PhoenixServer, Refuse


class Prices(Channel):
    async def join(self, topic, payload, socket):
        if payload["since"] > 100:
            return Refuse({"reason": "from the future"})
        return Ok({"since": payload["since"]})

    async def handle_info(self, message):
        if message == "after_join":
            self.push("price", {"n": 7, "price": 9.5})


async def test_the_ticker_over_tcp():
    with trio.fail_after(10):
        async with PhoenixServer({"prices": Prices}) as server:
            config = Config(server.url, reconnect=[0.05], rejoin=[0.05])
            async with open_supervisor([(Ticker, config)]):
                await server.wait_joined("prices")
                server.broadcast("prices", "price", {"n": 8, "price": 9.6})
                await server.restart(down_for=0.2)
                await server.wait_joined("prices")
                joins = [each for each in server.frames if each.event == "phx_join"]
                assert [join.payload for join in joins] == [{"since": 0}, {"since": 8}]
                server.crash("prices")
                await server.wait_joined("prices")


async def test_a_server_that_refuses():
    with trio.fail_after(10):
        async with PhoenixServer({"prices": Prices}) as server:
            server.refuse_connects(503, headers={"retry-after": "0"})
            config = Config(server.url, reconnect=[0.05])
            async with open_supervisor([(Ticker, config)]) as supervisor:
                await trio.sleep(0.2)
                assert not supervisor.child(Ticker).health().connected
                server.accept_connects()
                await server.wait_joined("prices")
