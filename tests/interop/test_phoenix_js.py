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
    "a channel crashed from outside rejoins",
    "a refused connect is an error and is tried again",
    "an auth token is taken",
    "a client that leaves is gone on the server",
    "disconnects",
]


class Room(Channel):
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
        command = (await stream.receive_some()).decode().strip()
        match command:
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
        return info.params.get("vsn") == "2.0.0"

    channels = {"rooms:*": Room, "private:*": Private, "crash:*": Crashing}
    async with PhoenixServer(channels, connect=check) as server, trio.open_nursery() as nursery:
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
    (offered,) = [info.subprotocols for info in results.requests if len(info.subprotocols) > 1]
    assert offered[0] == "phoenix"
    assert offered[1].startswith("base64url.bearer.phx.")
