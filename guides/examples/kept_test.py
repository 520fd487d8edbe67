from ticker import Ticker


async def test_ticker_keeps_its_contract(socket_test):
    async with socket_test(Ticker, contract=True) as test:
        await test.connect_and_join("prices")
        await test.push("prices", "price", {"n": 7, "price": 9.5}, times=3)
        assert test.client.seen == 7
