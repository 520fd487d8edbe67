"""Presence, as a server shows it; its frames and their order are in the transcripts, too."""

import json
from typing import Any

import pytest
import trio

from slipstream.errors import ConfigError
from slipstream.testing import Answer, Channel, Ok, PhoenixServer, ServerSocket

from .support import RawClient, connected, reply


class Lounge(Channel):
    """Everybody in it is there under the name they give."""

    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> None:
        self.assigns["name"] = payload.get("name", "")

    async def handle_info(self, message: Any, /) -> None:
        if message == "after_join" and self.assigns["name"]:
            self.presence.track(self.assigns["name"], {"at": 1})
            self.push("presence_state", self.presence.list())

    async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> Answer | None:
        name = payload.get("name", self.assigns["name"])
        match event:
            case "track":
                self.presence.track(name, payload["meta"])
            case "update":
                self.presence.update(name, payload["meta"])
            case "older":
                self.presence.update(name, lambda meta: {**meta, "at": meta["at"] + 1})
            case "untrack":
                self.presence.untrack(name)
            case "crash":
                raise ValueError("as asked")
            case _:
                pass
        if payload.get("wait"):
            await trio.sleep(0.01)
        return Ok()


LOUNGE = {"lounge:*": Lounge}


def metas(message: str, side: str, name: str) -> Any:
    payload = json.loads(message)[4]
    return payload[side].get(name, {"metas": None})["metas"]


async def joined(client: RawClient, name: str) -> None:
    await client.send(f'["1","1","lounge:1","phx_join",{{"name":"{name}"}}]')
    assert await client.text() == reply("1", "1", "lounge:1")


async def test_what_one_tracks_everyone_hears_and_ones_own_diff_comes_before_the_state() -> None:
    async with PhoenixServer(LOUNGE) as server:
        async with connected(server) as ann, connected(server) as bob:
            await joined(ann, "ann")
            for event in ("presence_diff", "presence_state"):
                assert json.loads(await ann.text())[3] == event
            await joined(bob, "bob")
            for client in (ann, bob):
                diff = await client.text()
                assert json.loads(diff)[:4] == [None, None, "lounge:1", "presence_diff"]
                assert [meta["at"] for meta in metas(diff, "joins", "bob")] == [1]
            state = json.loads(await bob.text())
            assert state[0] == "1"
            assert list(state[4]) == ["ann", "bob"]
            assert list(server.presences("lounge:1")) == ["ann", "bob"]
            assert server.presences("lounge:2") == {}


@pytest.mark.parametrize("wait", [False, True], ids=["the reply first", "the diff first"])
async def test_a_diff_comes_after_the_callback_that_made_it_unless_that_waits(wait: bool) -> None:
    async with PhoenixServer(LOUNGE) as server:
        async with connected(server, "lounge:1") as client:
            for number, event in enumerate(("track", "update", "untrack"), 2):
                payload = json.dumps({"name": "x", "meta": {"n": number}, "wait": wait})
                await client.send(f'["1","{number}","lounge:1","{event}",{payload}]')
                heard = [json.loads(await client.text())[3] for _ in range(2)]
                assert heard == sorted(["phx_reply", "presence_diff"], reverse=wait)


async def test_an_updated_meta_names_the_one_before_it() -> None:
    async with PhoenixServer(LOUNGE) as server:
        async with connected(server) as client:
            await joined(client, "ann")
            refs = [metas(await client.text(), "joins", "ann")[0]["phx_ref"]]
            await client.text()
            for number in (2, 3):
                await client.send(f'["1","{number}","lounge:1","older",{{}}]')
                assert await client.text() == reply("1", str(number), "lounge:1")
                diff = await client.text()
                (new,), (old,) = metas(diff, "joins", "ann"), metas(diff, "leaves", "ann")
                assert (new["phx_ref_prev"], new["at"], old["at"]) == (refs[-1], number, number - 1)
                assert old["phx_ref"] == refs[-1]
                refs.append(new["phx_ref"])
            assert len(set(refs)) == 3


@pytest.mark.parametrize("how", ["leave", "crash", "cut", "joins again"])
async def test_what_a_channel_tracked_goes_with_it(how: str) -> None:
    async with PhoenixServer(LOUNGE) as server:
        async with connected(server, "lounge:1") as watching, connected(server) as ann:
            await joined(ann, "ann")
            assert metas(await watching.text(), "joins", "ann")
            match how:
                case "leave":
                    await ann.send('["1","2","lounge:1","phx_leave",{}]')
                case "crash":
                    await ann.send('["1","2","lounge:1","crash",{}]')
                case "cut":
                    server.sockets[1].drop()
                case _:
                    await ann.send('["2","2","lounge:1","phx_join",{}]')
            (gone,) = metas(await watching.text(), "leaves", "ann")
            assert gone["at"] == 1
            assert server.presences("lounge:1") == {}


async def test_a_join_that_the_end_of_the_connection_cuts_short_leaves_nobody_behind() -> None:
    entered = trio.Event()

    class Slow(Channel):
        async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Any:
            if payload:
                self.presence.track("ghost", {})
                entered.set()
                await trio.sleep_forever()

    async with PhoenixServer({"lounge:*": Slow}) as server:
        async with connected(server) as watching, connected(server) as client:
            await watching.send('["1","1","lounge:1","phx_join",{}]')
            assert await watching.text() == reply("1", "1", "lounge:1")
            await client.send('["1","1","lounge:1","phx_join",{"as":"ghost"}]')
            await entered.wait()
            assert metas(await watching.text(), "joins", "ghost")
            server.sockets[1].drop()
            assert metas(await watching.text(), "leaves", "ghost")
            assert server.presences("lounge:1") == {}


async def test_a_second_join_that_is_cut_short_leaves_nobody_behind() -> None:
    leaving = trio.Event()

    class Slow(Channel):
        async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> None:
            if payload:
                self.presence.track("ghost", {})

        async def terminate(self, reason: Any, /) -> None:
            if not leaving.is_set():
                leaving.set()
                await trio.sleep(10.0)

    async with PhoenixServer({"lounge:*": Slow}) as server:
        async with connected(server) as watching, connected(server) as client:
            await watching.send('["1","1","lounge:1","phx_join",{}]')
            assert await watching.text() == reply("1", "1", "lounge:1")
            await client.send('["1","1","lounge:1","phx_join",{"as":"ghost"}]')
            assert metas(await watching.text(), "joins", "ghost")
            assert await client.text() == reply("1", "1", "lounge:1")
            await client.send('["2","2","lounge:1","phx_join",{"as":"ghost"}]')
            await leaving.wait()
            server.sockets[1].drop()
            assert metas(await watching.text(), "leaves", "ghost")
            assert server.presences("lounge:1") == {}


async def test_a_join_that_fails_leaves_nobody_behind() -> None:
    class Refusing(Channel):
        async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Any:
            self.presence.track("ghost", {})
            return None if payload.get("in") else {"neither": "nor"}

    async with PhoenixServer({"lounge:*": Refusing}) as server:
        async with connected(server) as client:
            await client.send('["1","1","lounge:1","phx_join",{}]')
            crashed = '{"reason":"join crashed"}'
            assert await client.text() == reply("1", "1", "lounge:1", crashed, "error")
            assert server.presences("lounge:1") == {}
            await client.send('["2","2","lounge:1","phx_join",{"in":1}]')
            assert await client.text() == reply("2", "2", "lounge:1")
            assert list(server.presences("lounge:1")) == ["ghost"]


async def test_keys_are_tracked_once_and_what_is_not_tracked_is_not_updated() -> None:
    async with PhoenixServer(LOUNGE) as server:
        async with connected(server, "lounge:1"):
            presence = (await server.wait_joined("lounge:1")).presence
            presence.track("ann", {})
            with pytest.raises(ValueError, match="'ann' is tracked already by this channel of 'lo"):
                presence.track("ann", {})
            with pytest.raises(LookupError, match="'bob' is not tracked by this channel of 'loung"):
                presence.update("bob", {})
            presence.untrack("bob")
            assert list(presence.list()) == ["ann"]


@pytest.mark.parametrize("how", ["leave", "cut"])
async def test_a_channel_that_has_ended_tracks_nothing_more(how: str) -> None:
    refused: list[str] = []

    class Late(Channel):
        async def terminate(self, reason: Any, /) -> None:
            await trio.sleep(0.05)
            try:
                self.presence.track("ghost", {})
            except RuntimeError as error:
                refused.append(str(error))

    async with PhoenixServer({"lounge:*": Late}) as server:
        async with connected(server, "lounge:1") as client:
            channel = server.channels("lounge:1")[0]
            if how == "leave":
                await client.send('["1","2","lounge:1","phx_leave",{}]')
                await server.wait_until(lambda: server.channels("lounge:1") == [])
            else:
                server.drop()
                await server.wait_connections(0)
            await trio.sleep(0.2)
            with pytest.raises(RuntimeError, match="cannot track 'x': the channel of 'lounge:1' h"):
                channel.presence.track("x", {})
            channel.presence.untrack("x")
            assert server.presences("lounge:1") == {}
    assert len(refused) == (how == "cut")


async def test_a_channel_may_see_broadcasts_before_its_client_does() -> None:
    class Filtering(Channel, intercept=["news", "presence_diff"]):
        async def handle_out(self, event: str, payload: Any, socket: ServerSocket, /) -> None:
            if event == "news" and payload["to"] in {"all", socket.params["user"]}:
                await super().handle_out(event, {**payload, "seen_by": self.topic}, socket)

    async with PhoenixServer({"lounge:*": Filtering}) as server:
        async with (
            connected(server, "lounge:1", query="?vsn=2.0.0&user=ann") as ann,
            connected(server, "lounge:1", query="?vsn=2.0.0&user=bob") as bob,
        ):
            server.channels("lounge:1")[0].presence.track("ann", {})
            assert server.broadcast("lounge:1", "news", {"to": "bob"}) == 2
            server.broadcast("lounge:1", "news", {"to": "all"})
            server.broadcast("lounge:1", "other", {})
            expected = '["1",null,"lounge:1","news",{{"to":"{}","seen_by":"lounge:1"}}]'
            other = '[null,null,"lounge:1","other",{}]'
            heard = {await ann.text() for _ in range(2)}
            assert heard == {other, expected.format("all")}
            heard = {await bob.text() for _ in range(3)}
            assert heard == {other, expected.format("bob"), expected.format("all")}


def test_the_events_to_intercept_are_inherited_and_no_single_string() -> None:
    class Base(Channel, intercept=("a", "b")):
        pass

    class Same(Base):
        pass

    class Other(Base, intercept=["c"]):
        pass

    assert sorted(Same.intercept) == ["a", "b"]
    assert sorted(Other.intercept) == ["c"]
    with pytest.raises(ConfigError, match="intercept is 'a'"):

        class Wrong(Channel, intercept="a"):
            pass
