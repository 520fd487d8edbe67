import trio

from slipstream import open_socket


async def main(uri="ws://localhost:4000/socket/websocket"):
    async with open_socket(uri) as socket:
        socket.join("rooms:lobby")
        print(await socket.await_join("rooms:lobby"))
        reply = await socket.request("rooms:lobby", "new:msg", {"body": "from a script"})
        print(reply.status, reply.response)
        print(await socket.await_message("rooms:lobby", "new:msg"))
        socket.leave("rooms:lobby")
        await socket.await_leave("rooms:lobby")


if __name__ == "__main__":
    trio.run(main)
