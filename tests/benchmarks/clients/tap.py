"""Slipstream's transport and its decoder, and nothing above them: what a whole client is held against."""

from slipstream.interfaces import ConnectRequest, Frame
from slipstream.protocol import V2Serializer
from slipstream.transport import open_websocket_transport

from .job import Job

_JOIN = b'["1","1","bench:1","phx_join",{}]'


async def client(job: Job) -> int:
    """Decode every message, and look at it no further."""
    decode, heard = V2Serializer().decode, -1  # the reply to the join is no message
    with job.watch:
        async with open_websocket_transport(
            ConnectRequest(job.uri, ssl_context=job.ssl_context), on_written=lambda _: None
        ) as transport:
            transport.send_nowait(Frame(_JOIN))
            while True:
                for frame in await transport.receive():
                    if decode(frame).event == "done":
                        return heard
                    heard += 1
