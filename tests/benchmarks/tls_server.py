"""What the C server's ``/blast`` does, over TLS: ``python -m tests.benchmarks.tls_server CERTIFICATE``.

OpenSSL does the work, and one ``sendall`` gives it a hundred records, so C would be no faster. It
prints its port, and ends when its stdin does.
"""

import base64
import hashlib
import os
import socket
import ssl
import sys
import threading
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

from .frames import frame_head

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_BLOCK_BYTES = 1024 * 1024


def serve(connection: ssl.SSLSocket) -> None:
    """Shake hands, wait for a message, send everything and a Close."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65536)
    lines = head.split(b"\r\n")
    key = next(line for line in lines if line.lower().startswith(b"sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key.split(b":")[1].strip() + _GUID).digest())  # noqa: S324 - as the RFC says
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    query = parse_qs(urlsplit(lines[0].split()[1].decode()).query)
    size, count = int(query["size"][0]), int(query["count"][0])
    frame = frame_head(size, binary="binary" in query) + b"x" * size
    together = max(1, _BLOCK_BYTES // len(frame))
    block = memoryview(frame * together)
    connection.recv(65536)
    for at in range(0, count, together):
        connection.sendall(block[: len(frame) * min(together, count - at)])
    connection.sendall(b"\x88\x02\x03\xe8")  # 1000
    connection.recv(65536)


def main() -> None:
    """Serve one connection after the other."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[1])
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            plain, _ = listener.accept()
            # A client that has enough leaves.
            with suppress(OSError, StopIteration), plain:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with context.wrap_socket(plain, server_side=True) as connection:
                    serve(connection)


if __name__ == "__main__":
    main()
