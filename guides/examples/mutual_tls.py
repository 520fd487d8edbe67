"""Both sides show a certificate of a private authority: python mutual_tls.py"""

import contextlib
import ssl
import tempfile
from functools import partial
from pathlib import Path

import trio
import trustme

from slipstream import Config, open_socket
from slipstream.testing import Channel, Ok, PhoenixServer


def client_context(files):
    context = ssl.create_default_context(cafile=files / "authority.pem")  # it, and no other
    context.load_cert_chain(files / "client.pem")  # our certificate and its key
    return context


def server_context(files):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files / "authority.pem")
    context.load_cert_chain(files / "server.pem")
    context.verify_mode = ssl.CERT_REQUIRED  # a client without a certificate is refused
    return context


def make_certificates(files):
    """Do what the authority of a company does."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(files / "authority.pem")
    for name, host in {"server.pem": "localhost", "client.pem": "client.example"}.items():
        certificate = authority.issue_cert(host)
        certificate.private_key_and_cert_chain_pem.write_to_path(files / name)


class Room(Channel):
    async def join(self, topic, payload, socket):
        return Ok({"welcome": topic})


async def end_tls(port, client):
    """Do what nginx does before a Phoenix server: TLS outside, plain TCP to *port* inside."""

    async def carry(source, sink):
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in source:
                await sink.send_all(data)
        nursery.cancel_scope.cancel()

    await client.do_handshake()
    print("the client is", client.getpeercert()["subjectAltName"])
    server = await trio.open_tcp_stream("127.0.0.1", port)
    async with server, trio.open_nursery() as nursery:
        nursery.start_soon(carry, client, server)
        nursery.start_soon(carry, server, client)


async def main():
    with tempfile.TemporaryDirectory() as directory:
        files = Path(directory)
        make_certificates(files)
        async with PhoenixServer({"rooms:*": Room}) as phoenix, trio.open_nursery() as nursery:
            front = partial(
                trio.serve_ssl_over_tcp,
                partial(end_tls, phoenix.port),
                port=0,
                ssl_context=server_context(files),
                host="127.0.0.1",
                https_compatible=True,
            )
            [listener] = await nursery.start(front)
            port = listener.transport_listener.socket.getsockname()[1]

            config = Config(
                f"wss://localhost:{port}/socket/websocket", ssl_context=client_context(files)
            )
            async with open_socket(config) as socket:
                socket.join("rooms:lobby")
                print("joined", await socket.await_join("rooms:lobby"))
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
