"""How four real servers refuse an upgrade, byte for byte, and what a client is told."""

import json
from pathlib import Path

import pytest
import trio

from slipstream.errors import ConnectError
from tests.transport.support import Connection, connect, serving

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts"


def refusals(server: str) -> list[str]:
    """Give the responses that a server sent instead of a 101."""
    lines = (TRANSCRIPTS / server / "rejects.jsonl").read_text().splitlines()
    received = [record for record in map(json.loads, lines) if record["dir"] == "recv"]
    texts = [record["text"] for record in received if record.get("status", 101) != 101]
    return [text for text in texts if text.startswith("HTTP/1.1 ")]


@pytest.mark.parametrize(
    "server", sorted(path.name for path in TRANSCRIPTS.iterdir() if path.is_dir())
)
async def test_a_recorded_refusal_gives_its_status_headers_and_body(server: str) -> None:
    """Row 14, h02: connect refused (403), custom (429), raised (500), wrong vsn or path."""
    seen: set[int] = set()
    for response in refusals(server):
        head, _, body = response.partition("\r\n\r\n")

        async def script(connection: Connection, response: str = response) -> None:
            await connection.read_request()
            await connection.send(response.encode())

        with trio.fail_after(10):
            async with serving(script) as raw:
                with pytest.raises(ConnectError) as caught:
                    async with connect(raw.request()):
                        raise AssertionError("it must not open")
        error = caught.value
        assert error.status == int(head.split()[1])
        names = {line.partition(":")[0].lower() for line in head.split("\r\n")[1:]}
        assert {name for name, _ in error.headers} == names
        assert error.body == body.encode()
        seen.add(error.status)
    assert seen >= {403, 404, 429, 500}
