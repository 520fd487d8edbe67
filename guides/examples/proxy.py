import trio

from slipstream import Config, ConnectError, open_socket


async def main(uri="ws://localhost:4000/socket/websocket", proxy="http://localhost:3128"):
    try:
        async with open_socket(Config(uri, proxy=proxy, connect_timeout=5.0)) as socket:
            socket.join("rooms:lobby")
            print("joined", await socket.await_join("rooms:lobby"))
    except ConnectError as error:
        print(f"failed in step {error.step!r} after {error.seconds:.1f} s: {error}")


if __name__ == "__main__":
    trio.run(main)
