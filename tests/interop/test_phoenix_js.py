"""A client that no one here wrote: phoenix.js, run by Node, against the embedded server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from slipstream.testing import (
    Answer,
    Channel,
    ConnectInfo,
    Error,
    Ok,
    PhoenixServer,
    Refuse,
    ReplyWith,
    ServerSocket,
)

HERE = Path(__file__).parent
CHECKS = [
    "connects",
    "is connected",
    "pings and is answered",
    "joins and gets the response",
    "is joined",
    "a push gets its reply",
    "a push gets an error reply",
    "an empty reply is an empty object",
    "a reply of another status arrives",
    "replies come out of order",
    "a push without a reply times out",
    "the server pushes",
    "a binary push gets a binary reply",
    "the server pushes binary",
    "the server broadcasts binary",
    "a second client connects",
    "a second client joins",
    "a broadcast reaches both",
    "a broadcast_from reaches the other only",
    "the server broadcasts by itself",
    "pushes are answered in their order",
    "a large payload comes back whole",
    "a payload need not be an object",
    "an empty binary push gets an empty binary reply",
    "a large binary push comes back whole",
    "a channel answers a push twice",
    "a broadcast that is intercepted comes changed",
    "a broadcast that is intercepted may be kept back",
    "one who joins is present to oneself",
    "one's own join is in the diff and in the state",
    "another who joins is present to both",
    "an update replaces the meta and names the one before",
    "the same key from elsewhere is a second meta",
    "an untracked meta is gone and the other stays",
    "one who leaves is gone",
    "after a reconnect presence is the same again",
    "a refused join tells why",
    "an unknown topic is unmatched",
    "a join that crashes tells so",
    "a crashed channel is told and rejoins",
    "a stopped channel is closed",
    "a channel is left",
    "a channel that was left is joined again",
    "a cut connection comes back and rejoins",
    "a disconnect broadcast closes with 1001 and it comes back",
    "a restart closes with 1012 and it comes back",
    "a close 1000 by the server comes back",
    "a disconnect by the id of the socket closes that one only",
    "a push while it is away is sent when it is back",
    "a server that hangs is left after a missed heartbeat",
    "params that are a function are asked for each attempt",
    "a join that the server answers late times out and is tried again",
    "more channels than allowed are refused",
    "a channel crashed from outside rejoins",
    "a refused connect is an error and is tried again",
    "an auth token is refused",
    "an auth token is taken",
    "a client that leaves is gone on the server",
    "disconnects",
]


class Room(Channel, intercept=["secret"]):
    """Does what the script asks for."""

    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Ok:
        return Ok(payload)

    async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> Answer | None:
        match event:
            case "echo":
                return Ok(payload)
            case "fail":
                return Error({"why": "asked"})
            case "ack":
                return Ok()
            case "status":
                return ReplyWith("created", {"id": 1})
            case "twice":
                self.reply(self.reply_ref, Ok({"n": 1}))
                return Ok({"n": 2})
            case "later":
                self.send((self.reply_ref, payload))
            case "push_me":
                self.push("pushed", payload)
            case "shout":
                self.broadcast("shout", payload)
            case "others":
                self.broadcast_from("others", payload)
                return Ok()
            case "crash":
                raise RuntimeError("as asked")
            case "stop":
                self.stop()
            case _:
                pass
        return None

    async def handle_info(self, message: Any, /) -> None:
        if message != "after_join":
            await trio.sleep(0.05)
            reply_ref, payload = message
            self.reply(reply_ref, Ok(payload))

    async def handle_out(self, event: str, payload: Any, socket: ServerSocket, /) -> None:
        if payload["to"] == "everyone":
            self.push(event, {**payload, "by": self.topic})


class Lounge(Channel):
    """Everybody in it is there, as the payload of the join says."""

    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> None:
        self.assigns.update(payload)

    async def handle_info(self, message: Any, /) -> None:
        self.presence.track(self.assigns["name"], {"status": self.assigns["status"]})
        self.push("presence_state", self.presence.list())

    async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> Answer | None:
        match event:
            case "track":
                self.presence.track(payload["name"], {"status": payload["status"]})
            case "update":
                self.presence.update(self.assigns["name"], payload)
            case _:
                self.presence.untrack(payload["name"])
        return Ok()


class Slow(Channel):
    """Takes its time with the first who joins."""

    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> None:
        if not socket.assigns.setdefault("asked", False):
            socket.assigns["asked"] = True
            await trio.sleep(0.3)


class Private(Channel):
    """Lets nobody in."""

    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Error:
        return Refuse({"reason": "unauthorized"})


class Crashing(Channel):
    """Crashes when somebody joins."""

    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> None:
        raise RuntimeError("join crashed")


async def obey(server: PhoenixServer, stream: trio.SocketStream) -> None:
    async with stream:
        command, _, who = (await stream.receive_some()).decode().strip().partition(" ")
        match command:
            case "disconnect" if who:
                server.disconnect(id=who)
            case "freeze":
                for socket in server.sockets:
                    if socket.id == who:
                        socket.freeze()
            case "close":
                server.close(1000)
            case "secret":
                server.broadcast("rooms:1", "secret", {"to": "everyone"})
            case "kept":
                server.broadcast("rooms:1", "secret", {"to": "nobody"})
            case "broadcast":
                server.broadcast("rooms:1", "news", {"from": "server"})
            case "drop":
                server.drop()
            case "disconnect":
                server.disconnect()
            case "restart":
                await server.restart(down_for=0.1)
            case "crash":
                server.crash("rooms:1")
            case "refuse":
                server.refuse_connects(403)
            case "accept":
                server.accept_connects()
            case "alone":
                await server.wait_connections(1)
            case _:
                raise AssertionError(command)
        await stream.send_all(b"done\n")


async def run_client(node: str) -> tuple[list[dict[str, Any]], list[ConnectInfo]]:
    def check(info: ConnectInfo) -> bool:
        known = info.auth_token in {None, "secret:zoe"}
        return info.params.get("vsn") == "2.0.0" and known

    def id_of(info: ConnectInfo) -> str:
        return f"users:{info.params.get('token', '')}"

    channels: dict[str, type[Channel]] = {
        "rooms:*": Room,
        "lounge:*": Lounge,
        "slow:*": Slow,
        "private:*": Private,
        "crash:*": Crashing,
    }
    async with (
        PhoenixServer(channels, connect=check, id=id_of) as server,
        trio.open_nursery() as nursery,
    ):
        listeners = await nursery.start(trio.serve_tcp, lambda stream: obey(server, stream), 0)
        port = listeners[0].socket.getsockname()[1]
        with trio.fail_after(60):
            done = await trio.run_process(
                [node, "client.mjs", server.url.removesuffix("/websocket"), str(port)],
                cwd=HERE,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
        nursery.cancel_scope.cancel()
    lines = [json.loads(line) for line in done.stdout.decode().splitlines()]
    if done.returncode:
        lines.append({"name": "the script ended well", "ok": False, "detail": done.stderr.decode()})
    return lines, server.requests


class Results:
    """What the script reported, and what the server saw."""

    def __init__(self, checks: dict[str, dict[str, Any]], requests: list[ConnectInfo]) -> None:
        self.checks = checks
        self.requests = requests


@pytest.fixture(scope="module")
def results() -> Results:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        if os.environ.get("SLIPSTREAM_CI"):
            pytest.fail(
                "Node and npm are missing, and SLIPSTREAM_CI=1 wants the tests that need them"
            )
        pytest.skip("Node or npm is missing: phoenix.js cannot be run")
    install = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(install, cwd=HERE, check=True, stdout=sys.stderr)  # noqa: S603 - our own command
    lines, requests = trio.run(run_client, node)
    return Results({line["name"]: line for line in lines}, requests)


@pytest.mark.parametrize("name", CHECKS)
def test_phoenix_js(results: Results, name: str) -> None:
    last = list(results.checks.values())[-1:]
    assert name in results.checks, f"the script never came to it; it ended with {last}"
    assert results.checks[name]["ok"], results.checks[name]["detail"]


def test_every_check_of_the_script_is_listed(results: Results) -> None:
    assert sorted(results.checks) == sorted(CHECKS)


def test_the_auth_token_came_as_a_subprotocol(results: Results) -> None:
    offered = [info.subprotocols for info in results.requests if len(info.subprotocols) > 1]
    assert {each[0] for each in offered} == {"phoenix"}
    assert all(each[1].startswith("base64url.bearer.phx.") for each in offered)
    tokens = {info.auth_token for info in results.requests}
    assert tokens == {None, "wrong", "secret:zoe"}
