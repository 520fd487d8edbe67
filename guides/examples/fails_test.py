from ticker import Ticker


async def test_a_report_a_minute(socket_test):
    async with socket_test(Ticker) as test:
        await test.connect_and_join("prices")
        await test.push("prices", "price", {"n": 7, "price": 9.5})
        await test.assert_push("prices", "report", {"seen": 8}, within=90.0)
