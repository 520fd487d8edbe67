"""What real servers were recorded to say, the embedded one says byte for byte.

The client's half of each conversation is sent as it was recorded; the frames that come back have to
be the recorded ones. What is left out is named below, each with its reason.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from slipstream.reasons import NORMAL, SHUTDOWN, Crashed, ExitReason, Shutdown
from slipstream.testing import (
    Answer,
    Channel,
    Error,
    Ok,
    PhoenixServer,
    Refuse,
    ReplyWith,
    ServerSocket,
)

from .support import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawClient, frame

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts"
# The older version, 1.8.3, has other payloads and codes.
SERVERS = ["phoenix-1.8.12-bandit", "phoenix-1.8.12-cowboy"]
SCENARIOS = [
    "basic",
    "binary",
    "broadcasts",
    "channel_ends",
    "join_failures",
    "max_channels",
    "sigterm",
    "transport_ends",
    "v1_serializer",
]
OPCODES = {
    "text": TEXT,
    "binary": BINARY,
    "cont": CONTINUATION,
    "ping": PING,
    "pong": PONG,
    "close": CLOSE,
}
SECTIONS_LEFT_OUT = {
    "# idle timeout (2 s on /socket_short)": "there is no idle time-out yet",
    "# frame larger than max_frame_size (64 KiB on /socket_smallframe)": "another test has it",
}
FRAMES_LEFT_OUT = {
    '["1","10","room:lobby","info",{}]': "an application's own, with addresses and ports",
    '[1,99,"room:lobby","echo",{"int":1}]': "refs are strings here; an integer is a 1011",
    '["1",99,"room:lobby","echo",{"int":1}]': "refs are strings here; an integer is a 1011",
    '["1","9","room:e","echo",{"x":1},"extra"]': "five elements are accepted, and no sixth",
}
"""Each with its reply, where it had one."""


STOPS: dict[str, ExitReason] = {
    "stop": NORMAL,
    "stop_shutdown": SHUTDOWN,
    "stop_shutdown_reason": Shutdown("as recorded"),
    "stop_error": Crashed(RuntimeError("as recorded")),
}


class Recorded(Channel):
    """The channel that the recordings were made with, as far as they show it."""

    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Ok | Error | None:
        match topic:
            case "test:bad":
                return Refuse({"bad": "join"})
            case "test:auth":
                return Refuse({"reason": "unauthorized"})
            case "test:crash":
                raise RuntimeError("as recorded")
            case "test:slow":
                await trio.sleep(0.05)
            case _:
                pass
        return Ok(payload)

    async def handle_info(self, message: Any, /) -> None:
        match self.topic, message:
            case "test:crash_after_join", _:
                raise RuntimeError("as recorded")
            case "test:stop_after_join", _:
                self.stop()
            case "test:push_after_join", _:
                self.push("welcome", {"hello": "world"})
            case _:
                pass

    async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> Answer | None:
        binary = isinstance(payload, bytes)
        match event:
            case "echo":
                return Ok(payload)
            case "ack":
                return Ok()
            case "error":
                return Error(payload)
            case "error_atom":
                return Error()
            case "custom_status":
                return ReplyWith(payload.pop("status"), payload)
            case "push":
                self.push(payload.get("event", "pushed"), payload)
            case "push_many":
                for number in range(1, payload["n"] + 1):
                    self.push("tick", {"data": "x" * payload["size"], "i": number})
                return Ok({"n": payload["n"]})
            case "push_binary":
                self.push("pushed_binary", payload)
            case "double_reply":
                self.reply(self.reply_ref, Ok({"n": 1, **payload}))
                return Ok({"n": 2, **payload})
            case "delay_echo":
                ordered = dict(sorted(payload.items()))
                self.socket.start_soon(self.echo_later, self.reply_ref, ordered)
            case "size":
                return Ok({"binary": binary, "size": len(payload)})
            case "big":
                return Ok({"data": "x" * payload["size"]})
            case "big_binary":
                return Ok(b"\xab" * payload["size"])
            case "broadcast" | "broadcast_from" | "broadcast_binary":
                send = self.broadcast_from if event == "broadcast_from" else self.broadcast
                named = "broadcasted_binary" if binary else payload.get("event", "broadcasted")
                send(named, payload)
                return Ok()
            case "disconnect_me":
                socket.disconnect()
            case "drain_me":
                socket.close(1012)
            case "kill_transport":
                socket.drop()
            case "stop" | "stop_shutdown" | "stop_shutdown_reason" | "stop_error":
                self.stop(STOPS[event])
            case "stop_reply":
                self.stop()
                return Ok(payload)
            case "raise" | "exit_kill":
                raise RuntimeError("as recorded")
            case _:
                assert event == "noreply"
        return None

    async def echo_later(self, ref: Any, response: Any) -> None:
        await trio.sleep(response["ms"] / 1000)
        self.reply(ref, Ok(response))


class Replay:
    """Says what the client said, and compares what comes."""

    def __init__(self, server: PhoenixServer) -> None:
        self.server = server
        self.clients: dict[str, RawClient] = {}
        self.compared = 0
        self.line: dict[str, Any] = {}

    async def client(self, name: str, target: str = "/socket/websocket?vsn=2.0.0") -> RawClient:
        """Give the client of this *name*, connected."""
        if name not in self.clients:
            stream = await trio.open_tcp_stream("127.0.0.1", self.server.port)
            self.clients[name] = client = RawClient(stream)
            assert (await client.request(target)).status == 101
        return self.clients[name]

    async def forget(self, name: str) -> None:
        client = self.clients.pop(name, None)
        if client is not None:
            await client.stream.aclose()

    async def step(self, line: dict[str, Any], following: list[dict[str, Any]]) -> None:
        """Do, or expect, what *line* recorded."""
        match line:
            case {"dir": "send", "opcode": "http", "conn": name, "text": text}:
                await self.client(name, text.split()[1])
            case {"dir": "recv", "opcode": "http"}:
                pass
            case {"dir": "send", "conn": name}:
                fin = not _is_cut(line, following)
                data = frame(OPCODES[line["opcode"]], _payload(line), fin=fin)
                await (await self.client(name)).stream.send_all(data)
            case {"dir": "recv", "conn": name}:
                await self.compare(await self.client(name), line, following)
            case {"line": "TCP closed by server: EOFError", "conn": name}:
                await self.clients[name].ended()
                await self.forget(name)
            case {"line": "# unmasked client frame"}:
                await self.forget("A")  # the recorder took a new connection
            case {"line": "# POST /ctl/broadcast"}:
                self.server.broadcast("room:b", "ctl", {"y": 1})
            case {"line": "# SIGTERM to the server"}:
                self.server.close(1012)
            case {"line": "stats websockets=0 channels=0"}:
                await self.forget("A")
                await self.server.wait_connections(0)
            case _:
                assert line["line"].startswith("#")

    async def compare(
        self, client: RawClient, line: dict[str, Any], following: list[dict[str, Any]]
    ) -> None:
        if line.get("code") == 1002:  # the recorder wrote bytes that it noted nowhere
            await client.stream.send_all(frame(TEXT, b"[]", masked=False))
        seen = await client.receive()
        assert seen.opcode == OPCODES[line["opcode"]], (seen, line)
        if line.get("truncated"):
            assert len(seen.payload) == line["len"]
            assert seen.payload.startswith(_recorded(line).removesuffix(b"..."))
        else:
            assert seen.payload == _payload(line)
        self.compared += 1
        if seen.opcode == CLOSE and not any(_is_close(each, line["conn"]) for each in following):
            await client.close(seen.code)  # the recorder did not, nor did Bandit wait for it


def _is_cut(line: dict[str, Any], following: list[dict[str, Any]]) -> bool:
    """Tell whether the message goes on in another frame."""
    data = [each for each in following if each["dir"] == "send" and each["opcode"] != "ping"]
    return line["opcode"] == "text" and bool(data) and data[0]["opcode"] == "cont"


def _is_close(line: dict[str, Any], name: str) -> bool:
    return line.get("conn") == name and line["dir"] == "send" and line["opcode"] == "close"


def _recorded(line: dict[str, Any]) -> bytes:
    if "hex" in line:
        return bytes.fromhex(line["hex"].removesuffix("..."))
    text: str = line["text"]
    return text.encode()


def _payload(line: dict[str, Any]) -> bytes:
    if line["opcode"] == "close":
        code, reason = int(line["code"]), str(line["reason"])
        return code.to_bytes(2, "big") + reason.encode()
    data = _recorded(line)
    # A long message was cut in the recording; it went on like this.
    return data + data[-1:] * (line["len"] - len(data)) if line.get("truncated") else data


def replayable(server: str, scenario: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Give each line that is not left out, with the lines of its section after it."""
    path = TRANSCRIPTS / server / f"{scenario}.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    section, reply_left_out = "", False
    for index, line in enumerate(lines):
        if line["dir"] == "event" and line["line"].startswith("#"):
            section, reply_left_out = line["line"], False
        if section in SECTIONS_LEFT_OUT:
            continue
        if line["dir"] == "send":
            reply_left_out = line.get("text") in FRAMES_LEFT_OUT
        if not reply_left_out:
            until = index + 1
            while until < len(lines) and not str(lines[until].get("line", "")).startswith("#"):
                until += 1
            yield line, lines[index + 1 : until]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("recorded", SERVERS)
async def test_the_server_says_what_a_real_one_said(recorded: str, scenario: str) -> None:
    with trio.fail_after(30):
        channels = {"room:*": Recorded, "test:*": Recorded}
        async with PhoenixServer(channels) as server:
            replay = Replay(server)
            if scenario == "max_channels":  # the first 98 joins were not kept
                client = await replay.client("A")
                for number in range(1, 99):
                    topic = f"room:m{number - 1}"
                    await client.send(f'["{number}","{number}","{topic}","phx_join",{{}}]')
                    assert (await client.receive()).opcode == TEXT
            try:
                for line, following in replayable(recorded, scenario):
                    replay.line = line
                    await replay.step(line, following)
            except BaseException as error:
                error.add_note(f"at the line {replay.line}")
                raise
            finally:
                for client in replay.clients.values():
                    client.stream.socket.close()
            assert replay.compared >= 2


def test_what_is_left_out_is_really_there() -> None:
    for server in SERVERS:
        text = "".join(path.read_text("utf-8") for path in (TRANSCRIPTS / server).glob("*.jsonl"))
        lines = [json.loads(line) for line in text.splitlines()]
        assert SECTIONS_LEFT_OUT.keys() <= {line.get("line") for line in lines}
        assert FRAMES_LEFT_OUT.keys() <= {line.get("text") for line in lines}
