from first_client import Lobby


async def test_the_lobby_says_hello(socket_test):
    async with socket_test(Lobby) as test:
        await test.connect_and_join("rooms:lobby", {"welcome": "you"})
        hello = await test.assert_push("rooms:lobby", "new:msg", {"body": "hello"})
        await test.reply(hello, {"seen": True})
