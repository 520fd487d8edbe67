"""A program that sends itself SIGINT at every Nth opcode of a transport's life.

A program of its own, since a tracer and the measuring of coverage exclude each other. Its argument
is N: 1 takes every opcode. It prints how often it struck. The server is a thread with plain
sockets, which no tracer and no signal reaches.
"""

import base64
import contextlib
import hashlib
import socket
import sys
import threading
import warnings

import trio

from slipstream.interfaces import ConnectRequest, Frame
from tests.striking import Strike
from tests.transport.support import connect, open_sockets_to

PATIENCE = 10


class Server(threading.Thread):
    """Accepts one connection after the other, greets, and reads each to its end."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]

    def run(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            connection.settimeout(PATIENCE)
            seen = b""
            with connection, contextlib.suppress(OSError):
                while data := connection.recv(65536):
                    before, seen = seen, seen + data
                    if b"\r\n\r\n" in seen and b"\r\n\r\n" not in before:
                        connection.sendall(self.switching(seen) + b"\x81\x02go")

    @staticmethod
    def switching(request: bytes) -> bytes:
        [key] = [x[19:] for x in request.split(b"\r\n") if x.startswith(b"Sec-WebSocket-Key: ")]
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()  # noqa: S324 - RFC 6455 asks for it
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )


async def live(port: int) -> None:
    request = ConnectRequest(uri=f"ws://127.0.0.1:{port}/", close_timeout=0.05)
    async with connect(request) as transport:
        transport.send_nowait(Frame(b"hello"))
        await transport.wait_room()
        assert await transport.receive() == ["go"]


def check(strike: Strike, port: int) -> bool:
    """Live, and judge the end; tell whether it came as far as the target."""
    error = strike.live(lambda: trio.run(live, port), patience=PATIENCE)
    told = f"strike {strike.count} in {strike.struck_in}: {error!r}"
    assert open_sockets_to(port) == [], told  # though the error still holds its frames
    if not strike.struck_in:
        assert error is None, told
        return False
    assert type(error) is KeyboardInterrupt, told  # bare, and not Trio's internal error
    return True


def main(stride: int) -> int:
    warnings.simplefilter("ignore", RuntimeWarning)  # a coroutine that was made and never begun
    server = Server()
    server.start()
    check(Strike("transport", 0), server.port)  # whatever is made once is made
    whole = Strike("transport", 0)
    check(whole, server.port)
    targets = range(1, whole.count, stride)
    return sum(check(Strike("transport", target), server.port) for target in targets)


if __name__ == "__main__":
    print(main(int(sys.argv[1])))
