from hypothesis import strategies as st
from steady_ticker import SteadyTicker

from slipstream import Config, RejoinPolicy
from slipstream.testing.contracts import (
    bounded,
    check_cancellation,
    check_no_blocking,
    client_contract,
    only_while_joined,
    recovers,
)

prices = st.fixed_dictionaries({"n": st.integers(1, 9), "price": st.floats(0, 100)})

ticker = client_contract(
    SteadyTicker,
    Config("ws://server.test/socket/websocket", rejoin=RejoinPolicy(after_close=True)),
    topics=["prices"],
    events=["price"],
    payloads=prices,
    requests=st.just("seen"),
    invariants=[recovers("prices"), only_while_joined("report"), bounded(10)],
)


@ticker.invariant
def only_newer_prices(test):
    assert test.client.seen == 0 or test.client.price is not None


@ticker.after("handle_call")
def calls_give_what_was_seen(test, call):
    assert call.result.value == test.client.seen


@ticker.sent("phx_join")
def asks_for_what_it_has_missed(test, message):
    assert message.payload == {"since": test.client.seen}


TestSteadyTicker = ticker.TestCase


def test_a_report_can_be_stopped_anywhere():
    assert check_cancellation(SteadyTicker, "handle_info", "report", joined=["prices"]) == 1


def test_a_price_does_not_block():
    check_no_blocking(SteadyTicker, "handle_price", "prices", {"n": 1, "price": 9.5})
