"""Rows d01 to d17 of faults on an open connection, on the raw socket: what the server sees, and when."""

import gc
import struct
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from slipstream.errors import DisconnectedError, RemoteProtocolError
from slipstream.interfaces import Frame, Transport
from slipstream.reasons import ClosedByClient, ClosedByServer, TransportFailed
from tests.transport.support import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PATIENCE,
    PING,
    PONG,
    RST,
    TEXT,
    Connection,
    End,
    Seen,
    close_payload,
    connect,
    frame,
    open_sockets_to,
    serving,
)


async def drain(transport: Transport) -> tuple[list[str | bytes], Any]:
    """Receive until the end; give the messages and the reason."""
    got: list[str | bytes] = []
    with trio.fail_after(PATIENCE):
        while True:
            try:
                got += await transport.receive()
            except DisconnectedError as error:
                return got, error.reason


def error_of(reason: Any) -> BaseException:
    assert isinstance(reason, TransportFailed)
    return reason.error


@pytest.mark.parametrize("torn", [b"", b"\x81", b"\x81\x05he", frame(TEXT, b"half", fin=False)])
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_the_end_of_tcp_without_a_close_is_noticed_at_once(how: str, torn: bytes) -> None:
    """d01, d02: inside a frame and between frames; our end of TCP follows at once."""

    async def script(connection: Connection) -> End | None:
        await connection.accept(then=frame(TEXT, b"whole"))
        await connection.read_frame()
        await connection.send(torn)
        if how == "rst":
            connection.reset()
            return None
        await connection.send_eof()
        return await connection.see_end()

    async with serving(script) as server, connect(server.request()) as transport:
        with trio.fail_after(PATIENCE):
            assert await transport.receive() == ["whole"]
        transport.send_nowait(Frame(b"now"))
        got, reason = await drain(transport)
        assert got == []
        assert isinstance(error_of(reason), EOFError if how == "fin" else ConnectionResetError)
        end = await server.result()
        assert end == (FIN if how == "fin" else None)
        assert end is None or end.seconds < 2.0


async def test_what_the_server_said_before_it_cut_the_line_is_heard_even_while_we_write() -> None:
    """d09: a Close, and then a reset that our writer notices first."""

    async def script(connection: Connection) -> None:
        await connection.accept()
        await connection.read_frame()
        connection.send_now(frame(CLOSE, close_payload(1008, "policy")))
        connection.reset()

    async with serving(script) as server:
        for _ in range(10):  # which of our two tasks runs first is left to chance
            async with connect(server.request()) as transport:
                for _ in range(50):
                    transport.send_nowait(Frame(b"x" * 65536, binary=True))
                _, reason = await drain(transport)
                assert reason == ClosedByServer(1008, "policy")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(b"\xc1\x00", 1002, id="reserved bit"),
        pytest.param(b"\x83\x00", 1002, id="opcode 3"),
        pytest.param(b"\x89\x7e\x00\x7e" + b"x" * 126, 1002, id="long ping"),
        pytest.param(b"\x81\x81\0\0\0\0a", 1002, id="masked"),
        pytest.param(frame(PING, fin=False), 1002, id="fragmented ping"),
        pytest.param(frame(CONTINUATION), 1002, id="continuation of nothing"),
        pytest.param(frame(TEXT, b"\xff"), 1007, id="no UTF-8"),
        pytest.param(frame(CLOSE, b"x"), 1002, id="short Close"),
        pytest.param(frame(CLOSE, close_payload(1015)), 1002, id="Close 1015"),
        pytest.param(frame(CLOSE, close_payload(1000) + b"\xff"), 1007, id="Close without UTF-8"),
        pytest.param(b"\x82\x7f" + struct.pack("!Q", 1 << 62), 1009, id="2^62 bytes"),
        pytest.param(frame(BINARY, b"x" * 2000), 1009, id="oversize"),
        pytest.param(frame(TEXT, "€".encode() * 400), 1009, id="oversize in bytes"),
        pytest.param(frame(BINARY, b"x" * 2000) + frame(PING), 1009, id="oversize and ping"),
        pytest.param(frame(BINARY, b"x" * 2000) * 2, 1009, id="two oversize"),
        pytest.param(
            frame(BINARY, fin=False) + frame(CONTINUATION, fin=False) * 20000,
            1009,
            id="empty fragments",
        ),
        pytest.param(
            frame(BINARY, b"x" * 600, fin=False) + frame(CONTINUATION, b"x" * 600),
            1009,
            id="fragments",
        ),
    ],
)
async def test_a_server_that_breaks_the_rules_is_told_so_and_left(sent: bytes, code: int) -> None:
    """d06b, d07a, d07b, d07c, d07d, d07e, d08: a Close, then the end of TCP within close_timeout.

    What came before is delivered, and what comes behind it is nobody's business any more.
    """

    async def script(connection: Connection) -> tuple[Any, End]:
        await connection.accept(then=frame(TEXT, b"before") + sent)
        return await connection.see_close_and_end()

    async with serving(script) as server:
        request = server.request(max_message_size=1000, max_fragments=16384, close_timeout=0.3)
        async with connect(request) as transport:
            got, reason = await drain(transport)
            assert got == ["before"]
            error = error_of(reason)
            assert isinstance(error, RemoteProtocolError)
            assert error.code == code
        close, end = await server.result()
        assert close[0] == code
        assert end == FIN
        assert 0.2 < end.seconds < 1.3


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        *map(close_payload, (1000, 1001, 1008, 1011, 1012, 1013, 3000)),
        close_payload(4999, "wh\u00fc"),
    ],
)
async def test_a_close_is_echoed_exactly_and_our_end_of_tcp_follows_the_servers(
    payload: bytes,
) -> None:
    """d04', d09: no CLOSE-WAIT is left, though the transport is still held."""

    async def script(connection: Connection) -> tuple[Seen | None, End]:
        await connection.accept()
        await connection.send_frame(CLOSE, payload)
        echo = await connection.read_frame()
        await connection.send_eof()
        return echo, await connection.see_end()

    async with serving(script) as server, connect(server.request()) as transport:
        _, reason = await drain(transport)
        code = int.from_bytes(payload[:2], "big") if payload else 1005
        assert reason == ClosedByServer(code, payload[2:].decode())
        echo, end = await server.result()
        assert echo == Seen(CLOSE, payload)
        assert end == FIN
        assert end.seconds < 0.9
        assert open_sockets_to(server.port) == []


@pytest.mark.parametrize("gap", [False, True])
async def test_a_close_with_the_end_of_tcp_at_its_heels_is_noticed_at_once(gap: bool) -> None:
    """d09: as Bandit does; the whole close_timeout must not pass first."""

    async def script(connection: Connection) -> None:
        await connection.accept()
        await connection.send_frame(CLOSE, close_payload(1012))
        if gap:
            await trio.testing.wait_all_tasks_blocked()
        await connection.stream.aclose()

    with trio.fail_after(PATIENCE):
        async with serving(script) as server:
            async with connect(server.request(close_timeout=60.0)) as transport:
                _, reason = await drain(transport)
                assert reason == ClosedByServer(1012)
            await server.result()


async def test_a_server_that_closes_but_keeps_tcp_is_left_after_a_second() -> None:
    """d04: and leaving the block does not hang."""

    async def script(connection: Connection) -> tuple[Any, End]:
        await connection.accept(then=frame(CLOSE, close_payload(1012)))
        return await connection.see_close_and_end()

    async with serving(script) as server:
        with trio.fail_after(PATIENCE):
            async with connect(server.request(close_timeout=60.0)) as transport:
                _, reason = await drain(transport)
                assert reason == ClosedByServer(1012)
        close, end = await server.result()
        assert close == (1012, "")
        assert end == FIN
        assert 0.5 < end.seconds < 2.0


@pytest.mark.parametrize(
    ("answer", "at_least", "at_most"),
    [
        pytest.param("nothing", 0.7, 1.8, id="d05: nothing"),
        pytest.param("data", 0.7, 1.8, id="d05c: nothing, but keeps sending"),
        pytest.param("close", 0.7, 1.8, id="d05d: a Close, but keeps TCP"),
        pytest.param("fin", 0.0, 0.7, id="d05e: the end of TCP alone"),
        pytest.param("both", 0.0, 0.7, id="as it should"),
    ],
)
async def test_our_close_is_bounded_whatever_the_server_does(
    answer: str, at_least: float, at_most: float
) -> None:
    """d05, d05c, d05d, d05e, d17: the wait for the end of TCP included, within close_timeout."""

    async def script(connection: Connection) -> tuple[Any, End]:
        await connection.accept()
        close = await connection.read_close()
        if answer in {"close", "both"}:
            await connection.send_frame(CLOSE, close_payload(4001))
        if answer in {"fin", "both"}:
            await connection.send_eof()
        if answer == "data":
            return close, await connection.send_until_refused(frame(BINARY, b"x" * 65536))
        return close, await connection.see_end()

    async with serving(script) as server:
        async with connect(server.request(close_timeout=0.8)) as transport:
            started = trio.current_time()
            await transport.close(4001)
            assert at_least <= trio.current_time() - started < at_most
            assert transport.closed == ClosedByClient()
        close, end = await server.result()
        assert close == (4001, "")
        assert end == (RST if answer == "data" else FIN)
        assert at_least - 0.2 <= end.seconds < at_most


async def test_a_close_that_is_answered_late_is_waited_for_within_close_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slipstream.transport._websocket.END_OF_TCP_GRACE", 0.01)
    answered = trio.Event()

    async def script(connection: Connection) -> Any:
        await connection.accept()
        close = await connection.read_close()
        await trio.sleep(0.2)
        answered.set()
        await connection.send_frame(CLOSE, close_payload(1000))
        return close, await connection.see_end()

    async with serving(script) as server:
        async with connect(server.request(close_timeout=3.0)) as transport:
            await transport.close()
            assert answered.is_set()
        close, end = await server.result()
        assert close == (1000, "")
        assert end == FIN
        assert end.seconds < 2.0


async def test_closing_with_much_unread_takes_no_longer() -> None:
    """Reading has stopped because of what lies unread; for the server's Close it goes on."""

    async def script(connection: Connection) -> Any:
        await connection.accept(then=frame(TEXT, b"x") * 2000)
        close = await connection.read_close()
        await connection.send_frame(CLOSE, close_payload(1000))
        return close

    async with serving(script) as server:
        async with connect(server.request(close_timeout=4.0)) as transport:
            with trio.fail_after(PATIENCE):
                while transport.statistics().messages_received < 2000:
                    await trio.lowlevel.checkpoint()
                await wait_all_tasks_blocked()
            started = trio.current_time()
            await transport.close()
            assert trio.current_time() - started < 2.0
            assert len(await transport.receive()) == 2000
        assert await server.result() == (1000, "")


async def test_a_close_that_crosses_the_servers_is_one_close_each() -> None:
    async def script(connection: Connection) -> tuple[Any, End]:
        await connection.accept()
        await connection.read_frame()
        await connection.send_frame(CLOSE, close_payload(1001))
        close = await connection.read_close()
        await connection.send_eof()
        return close, await connection.see_end()

    async with serving(script) as server:
        async with connect(server.request(close_timeout=3.0)) as transport:
            transport.send_nowait(Frame(b"go"))
            await transport.close()
        close, end = await server.result()
        assert close in {(1000, ""), (1001, "")}
        assert end == FIN


async def test_pings_behind_our_close_are_answered_and_nothing_strays_out_of_the_block() -> None:
    """d10: legal, and fatal to a reader that takes it for a mistake."""

    async def script(connection: Connection) -> Any:
        await connection.accept()
        close = await connection.read_close()
        await connection.send_frame(PING, b"still there?")
        pong = await connection.read_frame()
        await connection.send_frame(CLOSE, close_payload(1000))
        return close, pong

    done: list[int] = []
    left = trio.Event()

    async def sibling() -> None:
        await left.wait()
        done.append(1)

    with trio.fail_after(PATIENCE):
        async with serving(script) as server, trio.open_nursery() as nursery:
            nursery.start_soon(sibling)
            async with connect(server.request()) as transport:
                pass
            assert await server.result() == ((1000, ""), Seen(PONG, b"still there?"))
            assert transport.closed == ClosedByClient()
            left.set()
    assert done == [1]


async def test_closing_beside_active_senders_ends_them_with_the_reason() -> None:
    """d10b, d16: and the server reads whole frames up to the Close."""

    async def script(connection: Connection) -> tuple[set[bytes], Any]:
        await connection.accept()
        kinds: set[bytes] = set()
        count = 0
        while (seen := await connection.read_frame()) and seen.opcode != CLOSE:
            kinds.add(seen.payload)
            count += 1
            if count == 200:
                await connection.send_frame(TEXT, b"enough")
        assert seen is not None
        await connection.send_frame(CLOSE, seen.payload)
        return kinds, seen.close

    async def send(transport: Transport, data: bytes) -> None:
        try:
            while True:
                await transport.wait_room()
                transport.send_nowait(Frame(data))
        except DisconnectedError as error:
            reasons.append(error.reason)

    reasons: list[Any] = []
    payloads = {bytes([65 + number]) * (1000 * number) for number in range(8)}
    async with serving(script) as server:
        with trio.fail_after(PATIENCE):
            async with (
                connect(server.request(close_timeout=3.0)) as transport,
                trio.open_nursery() as nursery,
            ):
                for payload in payloads:
                    nursery.start_soon(send, transport, payload)
                assert await transport.receive() == ["enough"]
                await transport.close(1001)
        assert reasons == [ClosedByClient()] * 8
        kinds, close = await server.result()
        assert kinds == payloads
        assert close == (1001, "")


@pytest.mark.parametrize("code", [1000, 1001])
async def test_closing_while_a_write_is_blocked_is_bounded(code: int) -> None:
    """d10d: by force in the end, without a Close behind half a frame."""
    written = trio.Event()

    async def script(connection: Connection) -> Any:
        await connection.accept()
        await written.wait()
        return await connection.see_close_and_end()

    async with serving(script) as server:
        async with connect(server.request(close_timeout=0.3, write_timeout=60.0)) as transport:
            transport.send_nowait(Frame(b"x" * (8 << 20), binary=True))
            await wait_all_tasks_blocked()
            started = trio.current_time()
            await transport.close(code)
            assert 0.2 < trio.current_time() - started < 1.3
            written.set()
        close, end = await server.result()
        assert (close, end.how) == (None, "fin")
        assert 0 < len(end.rest) < 8 << 20


async def test_a_ping_is_answered_though_nobody_receives() -> None:
    """d14: messages that lie unread do not delay control frames."""

    async def script(connection: Connection) -> Any:
        await connection.accept(then=frame(TEXT, b"unread") * 100 + frame(PING, b"p"))
        pong = await connection.read_frame()
        await connection.send_frame(CLOSE, close_payload(1001))
        return pong, await connection.read_close()

    async with serving(script) as server, connect(server.request()) as transport:
        assert await server.result() == (Seen(PONG, b"p"), (1001, ""))
        got, reason = await drain(transport)
        assert got == ["unread"] * 100
        assert reason == ClosedByServer(1001)


async def test_a_flood_of_pings_is_answered_while_we_cannot_write_without_hoarding() -> None:
    async def script(connection: Connection) -> Any:
        await connection.accept()
        first = await connection.read_frame()
        for number in range(1000):
            await connection.send_frame(PING, b"%d" % number)
        pongs: list[bytes] = []
        while not pongs or pongs[-1] != b"999":
            seen = await connection.read_frame()
            assert seen is not None
            pongs.append(seen.payload)
        return first and len(first.payload), pongs == sorted(pongs, key=int)

    async with serving(script) as server, connect(server.request()) as transport:
        transport.send_nowait(Frame(b"x" * 100_000))
        assert await server.result() == (100_000, True)


async def test_a_server_that_sends_more_than_is_read_is_held_back_by_tcp() -> None:
    """f01: what lies unread is bounded, and nothing of it is lost."""
    sent = 0
    total = 20_000
    stuck = trio.Event()

    async def script(connection: Connection) -> None:
        nonlocal sent
        await connection.accept()
        for number in range(total):
            with trio.move_on_after(0.2) as scope:
                await connection.send_frame(BINARY, b"%08d" % number * 128)
            if scope.cancelled_caught:
                break
            sent += 1
        stuck.set()
        await connection.read_end()

    async with serving(script) as server, connect(server.request()) as transport:
        with trio.fail_after(2 * PATIENCE):
            await stuck.wait()
        assert sent < total
        assert transport.statistics().bytes_received < 1 << 20
        got: list[Any] = []
        with trio.fail_after(2 * PATIENCE):
            while len(got) < sent:
                got += await transport.receive()
        assert [int(message[:8]) for message in got[:sent]] == list(range(sent))


async def test_a_closed_transport_that_is_forgotten_is_no_burden_to_the_collector() -> None:
    async def script(connection: Connection) -> Any:
        await connection.accept()
        return await connection.read_close()

    async with serving(script) as server:
        async with connect(server.request(close_timeout=0.1)):
            pass
        assert await server.result() == (1000, "")
        gc.collect()  # an unclosed socket would warn, and warnings are errors
