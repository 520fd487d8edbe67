import trio

from slipstream import Config, open_socket


async def main(path="/run/app/web.sock"):
    config = Config("ws://app.example/socket/websocket", unix_socket=path)
    async with open_socket(config) as socket:
        socket.join("rooms:lobby")
        print("joined", await socket.await_join("rooms:lobby"))


if __name__ == "__main__":
    trio.run(main)
