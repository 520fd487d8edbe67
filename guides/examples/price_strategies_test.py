import json

import trio
from hypothesis import given, settings, strategies as st
from ticker import Ticker
from trio.testing import MockClock

from slipstream.testing import open_socket_test
from slipstream.testing.strategies import topics

prices = st.fixed_dictionaries({"n": st.integers(1, 9), "price": st.floats(0, 100)})


def virtually(scenario, *args):
    trio.run(scenario, *args, clock=MockClock(autojump_threshold=0))


@settings(deadline=None)
@given(st.lists(prices))
def test_prices_only_get_newer(said):
    async def scenario():
        async with open_socket_test(Ticker) as test:
            await test.connect_and_join("prices")
            for price in said:
                await test.push("prices", "price", price)
            assert test.client.seen == max((price["n"] for price in said), default=0)

    virtually(scenario)


@settings(deadline=None)
@given(topics("prices:*"))
def test_other_topics_are_none_of_its_business(topic):
    async def scenario():
        async with open_socket_test(Ticker) as test:
            await test.connect_and_join("prices")
            await test.send(json.dumps([None, None, topic, "price", {"n": 1, "price": 9.5}]))
            await test.refute_callback("handle_price")

    virtually(scenario)
