"""What real servers were recorded to say, the embedded one says byte for byte.

The client's half of each conversation is sent as it was recorded; the frames that come back have to
be the recorded ones. What is left out is named below, each with its reason.
"""

import json
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from slipstream.reasons import NORMAL, SHUTDOWN, Crashed, ExitReason, Shutdown
from slipstream.testing import (
    Answer,
    Channel,
    ConnectInfo,
    Error,
    Ok,
    PhoenixServer,
    Refuse,
    Reject,
    ReplyWith,
    ServerSocket,
)

from .support import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawClient, dialled, frame

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts"
RECORDED = sorted(
    (path.parent.name, path.stem)
    for path in TRANSCRIPTS.glob("*/*.jsonl")
    if path.stem != "rejects"  # HTTP; at the end of this file
)
OPCODES = {
    "text": TEXT,
    "binary": BINARY,
    "cont": CONTINUATION,
    "ping": PING,
    "pong": PONG,
    "close": CLOSE,
}
FRAMES_LEFT_OUT = {
    '["1","10","room:lobby","info",{}]': "an application's own, with addresses and ports",
}
"""Each with its reply."""

ORDER_LEFT_OUT = {
    ("phoenix-1.8.3-bandit", "presence"): (
        "C",
        '["1","2","presence:p","phx_reply",{"response":{},"status":"ok"}]',
    )
}
"""A diff came before this reply, and after it on the other servers: they raced."""

# Compressed messages are compared as what they mean; what phx_ref and phx_ref_prev are is the
# server's affair, but they have to be the same wherever the recorded ones were.
PHX_REF = re.compile(rb'("phx_ref(?:_prev)?":)"([^"]+)"')

OPTIONS: dict[str, dict[str, Any]] = {
    "# idle timeout (2 s on /socket_short)": {"idle_timeout": 0.3},
    "# frame larger than max_frame_size (64 KiB on /socket_smallframe)": {"max_frame_size": 65536},
}
"""Where the recorder took another endpoint of the server."""


STOPS: dict[str, ExitReason] = {
    "stop": NORMAL,
    "stop_shutdown": SHUTDOWN,
    "stop_shutdown_reason": Shutdown("as recorded"),
    "stop_error": Crashed(RuntimeError("as recorded")),
}


class Recorded(Channel):
    """The channel that the recordings were made with, as far as they show it."""

    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Ok | Error | None:
        self.assigns.update(payload)
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
        return Ok(in_order(payload))

    async def handle_info(self, message: Any, /) -> None:
        match self.topic, message:
            case "test:crash_after_join", _:
                raise RuntimeError("as recorded")
            case "test:stop_after_join", _:
                self.stop()
            case "test:push_after_join", _:
                self.push("welcome", {"hello": "world"})
            case "presence:p", "after_join":
                self.presence.track(self.assigns["user"], self.assigns["meta"])
                self.push("presence_state", self.presence.list())
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
                self.socket.start_soon(self.echo_later, self.reply_ref, in_order(payload))
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
            case "update_meta":
                self.presence.update(self.assigns["user"], payload)
                return Ok()
            case "untrack":
                self.presence.untrack(self.assigns["user"])
                return Ok()
            case "list":
                return Ok(self.presence.list())
            case "disconnect_me":
                socket.server.broadcast("recorded", "disconnect", {})
            case "drain_me":
                socket.server.drain()
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


def in_order(payload: Any) -> Any:
    """Give a payload with its keys as Elixir has them in a small map."""
    return dict(sorted(payload.items())) if isinstance(payload, dict) else payload


class Replay:
    """Says what the client said, and compares what comes."""

    def __init__(self, servers: dict[str, PhoenixServer]) -> None:
        self.servers = servers
        self.server = servers[""]
        self.section = ""
        self.refs: dict[bytes, bytes] = {}
        self.recorded_refs: dict[bytes, bytes] = {}
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
                target = text.split()[1].replace("/socket_deflate", "/socket")
                await self.client(name, target)
            case {"dir": "recv", "opcode": "http"} | {"dir": "recv", "rsv1": True}:
                pass  # what it means is in the next line
            case {"dir": "send", "conn": name}:
                fin = not _is_cut(line, following)
                data = frame(OPCODES[line["opcode"]], _payload(line), fin=fin)
                await (await self.client(name)).stream.send_all(data)
            case {"dir": "recv", "conn": name}:
                await self.compare(await self.client(name), line, following)
            case {"line": how, "conn": name} if how.startswith("TCP closed by server"):
                await self.clients[name].ended()
                await self.forget(name)
                await self.server.wait_connections(len(self.clients))  # the recorder took its time
            case {"line": "# unmasked client frame" as section}:
                self.section = section
                await self.forget("A")  # the recorder took a new connection
            case {"line": "# POST /ctl/broadcast"}:
                self.server.broadcast("room:b", "ctl", {"y": 1})
            case {"line": "# SIGTERM to the server"}:
                self.server.drain()
            case {"line": "stats websockets=0 channels=0"}:
                await self.forget("A")
                await self.server.wait_connections(0)
            case _:
                self.section = line["line"]
                assert self.section.startswith("#")
                self.server = self.servers.get(self.section, self.servers[""])

    async def compare(
        self, client: RawClient, line: dict[str, Any], following: list[dict[str, Any]]
    ) -> None:
        if self.section == "# unmasked client frame" and line["opcode"] == "close":
            # The recorder wrote bytes that it noted nowhere.
            await client.stream.send_all(frame(TEXT, b"[]", masked=False))
        seen = await client.receive()
        assert seen.opcode == OPCODES[line["opcode"]], (seen, line)
        if line.get("truncated"):
            assert len(seen.payload) == line["len"]
            assert seen.payload.startswith(_recorded(line).removesuffix(b"..."))
        else:
            assert numbered(seen.payload, self.refs) == numbered(_payload(line), self.recorded_refs)
        self.compared += 1
        if seen.opcode == CLOSE and not any(_is_close(each, line["conn"]) for each in following):
            await client.close(seen.code)  # the recorder did not, nor did Bandit wait for it


def numbered(data: bytes, refs: dict[bytes, bytes]) -> bytes:
    """Put numbers in the place of what each phx_ref is, in the order of their first coming."""

    def number(found: re.Match[bytes]) -> bytes:
        return found[1] + refs.setdefault(found[2], b"%d" % len(refs))

    return PHX_REF.sub(number, data)


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
    for index, line in enumerate(lines):
        if (line.get("conn"), line.get("text")) == ORDER_LEFT_OUT.get((server, scenario)):
            lines[index - 1 : index + 1] = line, lines[index - 1]
            break
    reply_left_out = False
    for index, line in enumerate(lines):
        if line["dir"] == "event" and line["line"].startswith("#"):
            reply_left_out = False
        if line["dir"] == "send":
            reply_left_out = line.get("text") in FRAMES_LEFT_OUT
        if not reply_left_out:
            until = index + 1
            while until < len(lines) and not str(lines[until].get("line", "")).startswith("#"):
                until += 1
            yield line, lines[index + 1 : until]


def like(recorded: str) -> Any:
    """Give the profile's name of a recorded server."""
    _, version, web_server = recorded.split("-")
    return f"{version}/{web_server}"


@pytest.mark.parametrize(("recorded", "scenario"), RECORDED)
async def test_the_server_says_what_a_real_one_said(recorded: str, scenario: str) -> None:
    with trio.fail_after(30):
        channels = dict.fromkeys(("room:*", "test:*", "presence:*"), Recorded)
        async with AsyncExitStack() as stack:
            servers = {
                section: await stack.enter_async_context(
                    PhoenixServer(
                        channels, like=like(recorded), id=lambda info: "recorded", **options
                    )
                )
                for section, options in {"": {}, **OPTIONS}.items()
            }
            replay = Replay(servers)
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


HEADERS_LEFT_OUT = {
    "date": "a time",
    "connection": "trio-websocket's own",
    "upgrade": "trio-websocket's own",
    "sec-websocket-accept": "trio-websocket's own",
}


def connect(info: ConnectInfo) -> Reject | bool:
    """Judge as the endpoints of the recording did."""
    retry = {"content-type": "application/json", "retry-after": "1"}
    if info.path == "/auth_socket/websocket":
        if "foo" in info.subprotocols:
            return False  # Phoenix does so where an endpoint takes tokens, and another is offered
        if info.auth_token is None:
            return Reject(401, b'{"reason":"missing token"}', retry)
        return info.auth_token.startswith("secret")
    match info.params.get("reject"):
        case "yes":
            return False
        case "custom":
            return Reject(int(info.params["status"]), b'{"reason":"custom"}', retry)
        case "raise":
            raise RuntimeError("as recorded")
        case _:
            return True


@pytest.mark.parametrize("recorded", sorted({server for server, _ in RECORDED}))
async def test_the_server_refuses_what_a_real_one_refused(recorded: str) -> None:
    text = (TRANSCRIPTS / recorded / "rejects.jsonl").read_text("utf-8")
    lines = [line for line in map(json.loads, text.splitlines()) if line.get("opcode") == "http"]
    compared = 0
    async with (
        PhoenixServer({}, connect=connect, like=like(recorded)) as server,
        PhoenixServer({}, connect=connect, like=like(recorded), path="/auth_socket") as auth,
    ):
        for sent, line in pairwise(lines):
            if sent["dir"] != "send":
                continue
            async with dialled(auth if "/auth_socket" in sent["text"] else server) as client:
                seen = await client.say(sent["text"].encode())
            head, _, body = line["text"].partition("\r\n\r\n")
            pairs = [field.partition(": ") for field in head.split("\r\n")[1:]]
            headers = {name: value for name, _, value in pairs if name not in HEADERS_LEFT_OUT}
            ours = {k: v for k, v in seen.headers.items() if k not in HEADERS_LEFT_OUT}
            assert (seen.status, ours, seen.body.decode()) == (line["status"], headers, body), sent
            compared += 1
    assert compared == 15


def test_what_is_left_out_is_really_there() -> None:
    for server in {server for server, _ in RECORDED}:
        text = "".join(path.read_text("utf-8") for path in (TRANSCRIPTS / server).glob("*.jsonl"))
        lines = [json.loads(line) for line in text.splitlines()]
        assert OPTIONS.keys() <= {line.get("line") for line in lines}
        assert FRAMES_LEFT_OUT.keys() <= {line.get("text") for line in lines}
    for (server, scenario), (name, reply) in ORDER_LEFT_OUT.items():
        text = (TRANSCRIPTS / server / f"{scenario}.jsonl").read_text("utf-8")
        said = [(line.get("conn"), line.get("text")) for line in map(json.loads, text.splitlines())]
        assert '"leaves":{"alice"' in str(said[said.index((name, reply)) - 1][1])
