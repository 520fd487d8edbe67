from hypothesis import strategies as st
from ticker import Ticker

from slipstream.testing.contracts import client_contract

TestTicker = client_contract(
    Ticker,
    "ws://server.test/socket/websocket",
    topics=["prices"],
    events=["price"],
    payloads=st.fixed_dictionaries({"n": st.integers(1, 9), "price": st.floats(0, 100)}),
).TestCase
