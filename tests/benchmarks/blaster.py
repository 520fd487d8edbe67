"""A server that does nothing but send: one connection, so many messages, as fast as TCP takes them."""

import base64
import hashlib
import json
import socket
import sys

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


def frame(text: str) -> bytes:
    """Build an unmasked text frame."""
    data = text.encode()
    if len(data) < 126:
        return bytes([0x81, len(data)]) + data
    return bytes([0x81, 126]) + len(data).to_bytes(2, "big") + data


def message(number: int) -> str:
    """Build a broadcast of about 150 bytes."""
    payload = {"n": number, "user": "someone", "body": "x" * 70, "at": 1700000000.5}
    return json.dumps([None, None, "bench:1", "tick", payload], separators=(",", ":"))


def serve(connection: socket.socket, count: int) -> None:
    """Shake hands, wait for the client's join, and send everything."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65536)
    key = next(
        line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
    )
    accept = base64.b64encode(hashlib.sha1(key.split(b":")[1].strip() + _GUID).digest())  # noqa: S324 - as the RFC says
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    connection.recv(65536)
    joined = '["1","1","bench:1","phx_reply",{"response":{},"status":"ok"}]'
    block = b"".join(frame(message(number)) for number in range(100))
    connection.sendall(frame(joined))
    for _ in range(count // 100):
        connection.sendall(block)
    connection.sendall(b"".join(frame(message(number)) for number in range(count % 100)))
    connection.sendall(frame('[null,null,"bench:1","done",{}]'))
    while connection.recv(65536):
        pass


def main() -> None:
    """Serve one connection after the other, until killed."""
    count = int(sys.argv[1])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                try:
                    serve(connection, count)
                except ConnectionError:
                    continue  # the client had enough


if __name__ == "__main__":
    main()
