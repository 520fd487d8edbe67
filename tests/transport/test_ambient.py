"""The transport of connections whose configuration names none."""

import trio

from slipstream import Config, SlipstreamClient, Supervisor, open_supervisor
from slipstream.otp import process_of
from slipstream.transport import (
    MemoryNetwork,
    current_transport,
    open_websocket_transport,
    use_transport,
)
from tests.client.support import virtual

URI = "ws://server.test/socket/websocket"


class Client(SlipstreamClient):
    pass


def test_it_is_the_one_over_tcp_where_nothing_is_said() -> None:
    inner, outer = MemoryNetwork(), MemoryNetwork()
    assert current_transport() is open_websocket_transport
    with use_transport(outer.open_transport):
        with use_transport(inner.open_transport):
            assert current_transport() == inner.open_transport
        assert current_transport() == outer.open_transport
    assert current_transport() is open_websocket_transport


def test_it_holds_for_whatever_processes_of_the_block_start_however_late() -> None:
    @virtual
    async def scenario() -> None:
        network = MemoryNetwork()
        nested = Supervisor.child_spec([Client.child_spec(URI, id="a")], id="nested")
        with use_transport(network.open_transport):
            block = open_supervisor([nested])
            supervisor = await block.__aenter__()
        try:
            await network.accept()
            inner = supervisor.child("nested")
            await inner.start_child(Client.child_spec(URI, id="b"))  # type: ignore[attr-defined]  # it is a supervisor's
            await network.accept()
            process = process_of(inner.child("a"))  # type: ignore[attr-defined]  # likewise
            assert process is not None
            process.kill()
            await network.accept()
        finally:
            await block.__aexit__(None, None, None)


def test_a_configuration_that_names_one_goes_before_it() -> None:
    @virtual
    async def scenario() -> None:
        own, ambient = MemoryNetwork(), MemoryNetwork()
        config = Config(URI, transport=own.open_transport)
        with use_transport(ambient.open_transport):
            async with open_supervisor([(Client, config)]):
                await own.accept()
                await trio.sleep(60.0)
        assert ambient.requests == []
