"""A program that sends itself SIGINT at every Nth opcode of a transport's life.

A program of its own, since a tracer and the measuring of coverage exclude each other. Its argument
is N: 1 takes every opcode. It prints how often it struck. The server is a thread with plain
sockets, which no tracer and no signal reaches.
"""

import base64
import contextlib
import hashlib
import os
import signal
import socket
import sys
import threading
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import trio

from slipstream.interfaces import ConnectRequest, Frame
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


class Strike:
    """One life, with a signal at the opcode number *target*."""

    def __init__(self, target: int, port: int) -> None:
        self.target = target
        self.port = port
        self.count = 0
        self.struck_in = ""

    def trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if f"{os.sep}slipstream{os.sep}transport{os.sep}" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.trace_opcode

    def trace_opcode(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            self.count += 1
            if self.count == self.target:
                code = frame.f_code
                self.struck_in = f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}"
                os.kill(os.getpid(), signal.SIGINT)
        return self.trace_opcode

    def check(self) -> bool:
        """Live, and judge the end; tell whether it came as far as the target."""
        signal.alarm(PATIENCE)  # a life that hangs ends the program
        error: BaseException | None = None
        sys._getframe().f_trace_opcodes = True  # Python 3.12 wants to know it before settrace
        sys.settrace(self.trace)
        try:
            trio.run(live, self.port)
        except BaseException as caught:  # noqa: BLE001 - whatever it is, it is compared
            error = caught
        finally:
            sys.settrace(None)
            signal.alarm(0)
        told = f"strike {self.target} in {self.struck_in}: {error!r}"
        assert open_sockets_to(self.port) == [], told  # though the error still holds its frames
        if not self.struck_in:
            assert error is None, told
            return False
        assert type(error) is KeyboardInterrupt, told  # bare, and not Trio's internal error
        return True


def main(stride: int) -> int:
    warnings.simplefilter("ignore", RuntimeWarning)  # a coroutine that was made and never begun
    server = Server()
    server.start()
    Strike(0, server.port).check()  # whatever is made once is made
    whole = Strike(0, server.port)
    whole.check()
    return sum(Strike(target, server.port).check() for target in range(1, whole.count, stride))


if __name__ == "__main__":
    print(main(int(sys.argv[1])))
