"""``slipstream push`` and ``slipstream join``, as real processes against a server on loopback."""

import base64
import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
import trio

from slipstream.testing import Channel, Error, Ok, PhoenixServer, Refuse, ReplyWith, ServerSocket


class Room(Channel):
    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Any:
        match topic:
            case "rooms:closed":
                return Refuse({"reason": "unauthorized"})
            case "rooms:slow":
                await trio.sleep_forever()
            case _:
                pass
        return Ok({"you": payload})

    async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> Any:
        match event:
            case "echo":
                return Ok(payload)
            case "blob":
                return Ok(b"\x00\x01")
            case "wrong":
                return Error({"why": "wrong"})
            case "later":
                return ReplyWith("accepted", {})
            case "crash":
                raise RuntimeError("a bug")
            case _:
                return None


class Done:
    """How a command ended, and what it wrote."""

    def __init__(self, done: "subprocess.CompletedProcess[bytes]") -> None:
        self.code = done.returncode
        self.out = done.stdout.decode()
        self.err = done.stderr.decode()


async def command(*args: str, stdin: bytes = b"", **environment: str) -> Done:
    with trio.fail_after(30):
        return Done(
            await trio.run_process(
                [sys.executable, "-m", "slipstream", *args],
                stdin=stdin,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env={**os.environ, **environment},
            )
        )


async def test_a_join_prints_the_answer_and_leaves() -> None:
    async with PhoenixServer({"rooms:*": Room}) as server:
        done = await command("join", server.url, "rooms:1", "--params", '{"user": 7}')
        assert (done.code, done.out, done.err) == (0, '{"you": {"user": 7}}\n', "")
        assert [frame.event for frame in server.frames] == ["phx_join", "phx_leave"]
        done = await command("join", server.url, "rooms:1", "--json")
        assert json.loads(done.out) == {"topic": "rooms:1", "response": {"you": {}}}
        await server.wait_connections(0)


async def test_a_push_prints_the_reply() -> None:
    async with PhoenixServer({"rooms:*": Room}) as server:
        done = await command("push", server.url, "rooms:1", "echo", '{"n": [1, "é"]}')
        assert (done.code, done.out, done.err) == (0, '{"n": [1, "é"]}\n', "")
        assert [f.event for f in server.frames] == ["phx_join", "echo", "phx_leave"]
        done = await command("push", server.url, "rooms:1", "echo", "-", "--json", stdin=b"[1]\n")
        told = {"topic": "rooms:1", "event": "echo", "status": "ok", "response": [1]}
        assert json.loads(done.out) == told
        done = await command("push", server.url, "rooms:1", "blob", "--json")
        assert base64.b64decode(json.loads(done.out)["binary"]) == b"\x00\x01"
        done = await command("push", server.url, "rooms:1", "blob")
        assert done.out == "b'\\x00\\x01'\n"


async def test_a_push_that_is_not_answered_need_not_be() -> None:
    async with PhoenixServer({"rooms:*": Room}) as server:
        done = await command("push", server.url, "rooms:1", "cast", "7", "--no-reply")
        assert (done.code, done.out, done.err) == (0, "", "")
        assert [(f.event, f.payload) for f in server.frames][1] == ("cast", 7)


async def test_another_status_is_code_3_and_printed_all_the_same() -> None:
    async with PhoenixServer({"rooms:*": Room}) as server:
        done = await command("push", server.url, "rooms:1", "wrong")
        assert (done.code, done.out) == (3, '{"why": "wrong"}\n')
        assert done.err == "slipstream: the server answered 'wrong' with 'error'\n"
        done = await command("push", server.url, "rooms:1", "later", "--json")
        assert (done.code, json.loads(done.out)["status"], done.err) == (3, "accepted", "")


@pytest.mark.parametrize("what", [["join"], ["push"]])
async def test_what_does_not_work_is_one_line_that_says_what_to_do(what: list[str]) -> None:
    rest = ["echo"] if what == ["push"] else []
    async with PhoenixServer({"rooms:*": Room}) as server:
        for topic, code, says in (
            ("rooms:closed", 3, '{"reason": "unauthorized"} (params of the join are given with'),
            ("other:1", 3, '{"reason": "unmatched topic"} (no channel of that socket takes'),
            ("rooms:slow", 4, "did not answer the join of rooms:slow (a longer --timeout"),
            ("phoenix", 2, "topic is 'phoenix'"),
        ):
            done = await command(*what, server.url, topic, *rest, "--timeout", "1")
            assert (done.code, done.out) == (code, ""), done.err
            assert says in done.err
            assert len(done.err.splitlines()) == 1
        for status, says in ((403, "give a token with --token"), (404, "end in /websocket")):
            server.refuse_connects(status)
            done = await command(*what, server.url, "rooms:1", *rest)
            assert (done.code, done.out) == (1, "")
            assert says in done.err
            assert len(done.err.splitlines()) == 1
    done = await command(*what, server.url, "rooms:1", *rest)
    assert done.code == 1
    assert "does the server run there, on that port?" in done.err


async def test_a_refused_join_is_an_object_too_where_that_is_wanted() -> None:
    async with PhoenixServer({"rooms:*": Room}) as server:
        done = await command("join", server.url, "rooms:closed", "--json")
        assert done.code == 3
        refused = {"topic": "rooms:closed", "status": "error"}
        assert json.loads(done.out) == {**refused, "response": {"reason": "unauthorized"}}


async def test_no_reply_in_time_is_code_4_and_a_crash_code_1() -> None:
    async with PhoenixServer({"rooms:*": Room}) as server:
        done = await command("push", server.url, "rooms:1", "cast", "--timeout", "0.5")
        assert (done.code, done.out) == (4, "")
        assert "no reply to 'cast' on 'rooms:1' within 0.5 s" in done.err
        assert "--no-reply" in done.err
        done = await command("push", server.url, "rooms:1", "crash")
        assert (done.code, done.out) == (1, "")
        assert len(done.err.splitlines()) == 1


async def test_a_token_comes_from_the_environment_and_is_not_shown() -> None:
    async with PhoenixServer({"rooms:*": Room}) as server:
        done = await command("join", server.url, "rooms:1", SLIPSTREAM_TOKEN="s3cr3t")  # noqa: S106 - the point
        assert done.code == 0
        assert server.requests[-1].auth_token == "s3cr3t"  # noqa: S105 - the point
    done = await command("join", server.url, "rooms:1", "--token", "s3cr3t")
    assert done.code == 1
    assert "s3cr3t" not in done.err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["join", "http://x/y", "t"], "unknown scheme 'http'"),
        (["push", "ws://x/y", "t", ""], "EVENT"),
        (["push", "ws://x/y", "t"], "Missing argument 'EVENT'"),
        (["push", "ws://x/y", "t", "e", '{"token": "s3cr3t"'], "PAYLOAD"),
        (["join", "ws://x/y", "t", "--params", '{"token": "s3cr3t"'], "is no JSON"),
        (["join", "ws://x/y", "t", "--timeout", "0"], "--timeout"),
    ],
)
async def test_wrong_usage_is_one_clear_line_and_code_2(args: list[str], says: str) -> None:
    done = await command(*args)
    assert done.code == 2
    assert says in done.err
    assert len(done.err.splitlines()) == 1
    assert "s3cr3t" not in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_in_order_with_128_and_its_number(number: signal.Signals) -> None:
    with trio.fail_after(30):
        async with PhoenixServer({"rooms:*": Room}) as server:
            async with trio.open_nursery() as nursery:
                args = ["push", server.url, "rooms:1", "cast", "--timeout", "60"]
                run = [sys.executable, "-m", "slipstream", *args]
                process = await trio.lowlevel.open_process(run, stderr=subprocess.PIPE)
                await server.wait_until(lambda: len(server.frames) == 2, within=20)
                process.send_signal(number)
                assert await process.wait() == 128 + number
                assert process.stderr is not None
                async with process.stderr:
                    assert await process.stderr.receive_some() == b""
                nursery.cancel_scope.cancel()
            await server.wait_connections(0)


def test_help_tells_the_codes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slipstream", "push", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (
        "\n    3         the server refused the join, or answered with another status\n"
        in done.stdout
    )
    assert "SLIPSTREAM_TOKEN" in done.stdout
