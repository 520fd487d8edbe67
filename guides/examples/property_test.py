import trio
from hypothesis import given, settings, strategies as st
from ticker import Ticker
from trio.testing import MockClock

from slipstream import Config, open_supervisor
from slipstream.testing.conversations import (
    AnswerNext,
    DropConnection,
    SendPush,
    Wait,
    open_player,
    play,
)
from slipstream.testing.strategies import conversations
from slipstream.transport import MemoryNetwork

prices = st.fixed_dictionaries({"n": st.integers(1, 9), "price": st.floats(0, 100)})
legal = conversations(["prices"], events=st.just("price"), payloads=prices)


@settings(deadline=None)
@given(legal)
def test_whatever_the_server_says_and_does(conversation):
    async def scenario():
        network = MemoryNetwork()
        config = Config("ws://server.test/websocket", transport=network.open_transport)
        async with open_supervisor([(Ticker, config)]) as supervisor:
            ticker = supervisor.child(Ticker)
            await play(conversation, network)
            said = [step.payload["n"] for step in conversation if hasattr(step, "event")]
            assert 0 <= await ticker.call("seen") <= max(said, default=0)
            assert ticker.statistics().restarts == 0

    trio.run(scenario, clock=MockClock(autojump_threshold=0))


async def test_what_was_found_once(autojump_clock):
    network = MemoryNetwork()
    config = Config("ws://server.test/websocket", transport=network.open_transport)
    async with open_supervisor([(Ticker, config)]), open_player(network) as player:
        for step in [
            AnswerNext(),
            SendPush("prices", "price", {"n": 7, "price": 9.5}),
            DropConnection(),
            Wait(5.0),
            AnswerNext(),
        ]:
            await player.do(step)
        joins = [each.payload for each in player.heard if each.event == "phx_join"]
        assert joins == [{"since": 0}, {"since": 7}]
