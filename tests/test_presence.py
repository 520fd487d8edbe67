"""Presence without I/O: phoenix.js' rules, a model of them, and what real servers sent."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from slipstream.errors import RemoteProtocolError
from slipstream.presence import (
    Presence,
    PresenceDiff,
    PresenceJoin,
    PresenceLeave,
    PresenceState,
    PresenceUpdate,
)
from tests.presence_model import PhoenixPresence, Tracker

TRANSCRIPTS = sorted(Path(__file__).parent.glob("transcripts/*/presence.jsonl"))


def entry(*refs: str, **fields: Any) -> dict[str, Any]:
    """What a server says of one key."""
    return {"metas": [{"phx_ref": ref} for ref in refs], **fields}


def diff_of(
    joins: dict[str, Any] | None = None, leaves: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {"joins": joins or {}, "leaves": leaves or {}}


def raw(presences: Mapping[str, Presence]) -> dict[str, Any]:
    """Write *presences* as a server does."""
    return {
        key: {**presence.fields, "metas": list(presence.metas)}
        for key, presence in presences.items()
        if presence.key == key
    }


def refs(presences: Mapping[str, Presence]) -> dict[str, list[str]]:
    return {key: [meta["phx_ref"] for meta in one.metas] for key, one in presences.items()}


def synced(payload: dict[str, Any]) -> PresenceState:
    state = PresenceState()
    state.sync_state(payload)
    return state


# One by one


def test_the_first_state_is_who_joined() -> None:
    """PR1, PR2: each joins, and nobody was there before."""
    state = PresenceState()
    diff = state.sync_state({"u1": entry("1"), "u2": entry("2", "2b", user={"name": "Bo"})})
    assert diff == PresenceDiff(
        joins=(
            PresenceJoin("u1", ({"phx_ref": "1"},), current=None),
            PresenceJoin(
                "u2", ({"phx_ref": "2"}, {"phx_ref": "2b"}), {"user": {"name": "Bo"}}, current=None
            ),
        )
    )
    assert all(join.is_first for join in diff.joins)
    assert state.presences["u2"].fields == {"user": {"name": "Bo"}}
    assert refs(state.presences) == {"u1": ["1"], "u2": ["2", "2b"]}


def test_who_is_missing_in_a_state_has_left() -> None:
    """PR2: with what is left of them, which is nothing."""
    state = synced({"u1": entry("1"), "u2": entry("2")})
    assert state.sync_state({"u2": entry("2")}) == PresenceDiff(
        leaves=(PresenceLeave("u1", ({"phx_ref": "1"},), current=Presence("u1", ())),)
    )
    assert refs(state.presences) == {"u2": ["2"]}


def test_only_new_metas_are_joins() -> None:
    """PR3: and what was there before is beside them."""
    state = synced({"u1": entry("1")})
    [join] = state.sync_state({"u1": entry("1", "1b")}).joins
    assert join.metas == ({"phx_ref": "1b"},)
    assert join.current == Presence("u1", ({"phx_ref": "1"},))
    assert not join.is_first


def test_a_diff_brings_what_a_state_would() -> None:
    """PR4: from nobody at all."""
    state = synced({})
    diff = state.sync_diff(diff_of({"u1": entry("1")}))
    assert diff == PresenceDiff((PresenceJoin("u1", ({"phx_ref": "1"},), current=None),))
    assert refs(state.presences) == {"u1": ["1"]}


def test_a_key_goes_with_its_last_meta_and_metas_are_kept_oldest_first() -> None:
    """PR5, PR6."""
    state = synced({"u1": entry("1"), "u2": entry("2"), "u3": entry("3", "3b")})
    diff = state.sync_diff(
        diff_of({"u1": entry("1b")}, {"u2": entry("2"), "u3": entry("3"), "u9": entry("9")})
    )
    assert refs(state.presences) == {"u1": ["1", "1b"], "u3": ["3b"]}
    assert diff is not None
    gone, fewer = diff.leaves
    assert (gone.key, gone.is_last, gone.current.metas) == ("u2", True, ())
    assert (fewer.key, fewer.is_last, fewer.current.metas) == ("u3", False, ({"phx_ref": "3b"},))


def test_a_leave_without_metas_takes_nothing_from_who_is_there() -> None:
    """PR5: and a key that never had any goes with it."""
    state = synced({"u1": entry("1"), "u2": entry()})
    diff = state.sync_diff(diff_of({}, {"u1": entry(), "u2": entry()}))
    assert refs(state.presences) == {"u1": ["1"]}
    assert diff == PresenceDiff(leaves=(PresenceLeave("u2", (), current=Presence("u2", ())),))


@pytest.mark.parametrize("key", ["__proto__", "constructor", "hasOwnProperty", "__class__", ""])
def test_any_key_is_an_ordinary_key(key: str) -> None:
    """PR7, PR8: in state, joins and leaves alike, and nothing else is touched."""
    state = synced({})
    assert key not in state.presences
    state.sync_diff(diff_of({key: entry("1", **{key: "x"})}))
    assert refs(state.presences) == {key: ["1"]}
    assert state.presences[key].fields == {key: "x"}
    assert type(state) is PresenceState
    state.sync_diff(diff_of({}, {key: entry("1")}))
    assert refs(state.presences) == {}


def test_a_snapshot_is_listed_as_any_mapping_is_and_does_not_change() -> None:
    """PR9, PR10: whole, or by whatever is chosen of each."""
    state = synced({"u1": entry("1", "1b"), "u2": entry("2")})
    snapshot = state.presences
    state.sync_diff(diff_of({}, {"u2": entry("2")}))
    assert [presence.key for presence in snapshot.values()] == ["u1", "u2"]
    assert [one.metas[0]["phx_ref"] for one in snapshot.values()] == ["1", "2"]
    assert state.presences is state.presences
    assert list(state.presences) == ["u1"]
    with pytest.raises(TypeError):
        state.presences["x"] = snapshot["u1"]  # type: ignore[index]  # the point


def test_what_the_server_put_beside_the_metas_comes_with_the_newest_join() -> None:
    """PR11."""
    state = synced({"u1": entry("1", name="old")})
    state.sync_diff(diff_of({"u1": entry("2", name="new")}))
    assert state.presences["u1"].fields == {"name": "new"}


def test_diffs_wait_for_the_state_of_their_join() -> None:
    """PR12: and what was known stays until then, so that the state tells what changed meanwhile."""
    state = PresenceState()
    assert state.sync_diff(diff_of({"me": entry("m")}), join_ref="1") is None
    assert state.sync_diff(diff_of({}, {"u1": entry("1")}), join_ref="1") is None
    assert (state.pending, state.presences) == (2, {})
    diff = state.sync_state({"me": entry("m"), "u1": entry("1")}, join_ref="1")
    assert [join.key for join in diff.joins] == ["me"]  # once, and who left at once never came
    assert not diff.leaves
    assert state.sync_diff(diff_of({"u2": entry("2")}), join_ref="1") is not None

    assert state.sync_diff(diff_of({"u3": entry("3")}), join_ref="7") is None
    assert refs(state.presences) == {"me": ["m"], "u2": ["2"]}
    diff = state.sync_state({"me": entry("m2"), "u2": entry("2")}, join_ref="7")
    assert [(join.key, join.is_first) for join in diff.joins] == [("me", False), ("u3", True)]
    assert [(leave.key, leave.is_last) for leave in diff.leaves] == [("me", False)]
    assert state.pending == 0


def test_what_waited_in_an_earlier_join_is_older_than_the_state_of_a_later_one() -> None:
    """PR12: phoenix.js would show a ghost here."""
    state = PresenceState()
    state.sync_diff(diff_of({"ghost": entry("g")}), join_ref="1")
    state.sync_state({"u1": entry("1")}, join_ref="2")
    assert refs(state.presences) == {"u1": ["1"]}
    state.sync_diff(diff_of({"ghost": entry("g")}), join_ref="3")
    state.sync_diff(diff_of({"u2": entry("2")}), join_ref="4")
    state.sync_state({}, join_ref="4")
    assert refs(state.presences) == {"u2": ["2"]}


def test_an_update_is_told_once_as_such() -> None:
    """PR14: joins are applied before leaves, so that the key is never gone in between."""
    state = synced({"u1": entry("1", "1b")})
    new = {"phx_ref": "2", "phx_ref_prev": "1", "status": "busy"}
    diff = state.sync_diff(diff_of({"u1": {"metas": [new]}}, {"u1": entry("1")}))
    assert diff == PresenceDiff(updates=(PresenceUpdate("u1", {"phx_ref": "1"}, new),))
    assert state.presences["u1"].metas == ({"phx_ref": "1b"}, new)


def test_an_update_that_was_missed_is_told_by_the_next_state() -> None:
    """PR14: two that were missed cannot be told from a leave and a join."""
    state = synced({"u1": entry("1"), "u2": entry("2")})
    once = {"phx_ref": "1b", "phx_ref_prev": "1"}
    twice = {"phx_ref": "2c", "phx_ref_prev": "2b"}
    diff = state.sync_state({"u1": {"metas": [once]}, "u2": {"metas": [twice]}})
    assert [update.after for update in diff.updates] == [once]
    assert [(join.key, join.is_first) for join in diff.joins] == [("u2", False)]
    assert [(leave.key, leave.is_last) for leave in diff.leaves] == [("u2", False)]


def test_a_diff_that_changes_nothing_is_false() -> None:
    state = synced({"u1": entry("1")})
    for same in (diff_of(), diff_of({"u1": entry("1")}), diff_of({}, {"u9": entry("9")})):
        diff = state.sync_diff(same)
        assert diff == PresenceDiff()
        assert not diff


def test_diffs_that_no_state_follows_are_not_kept_without_number() -> None:
    """complaint-3, PR12: the newest 256 are, since a state is about to make the others old."""
    state = PresenceState()
    for number in range(300):
        state.sync_diff(diff_of({f"u{number}": entry(str(number))}))
    assert (state.pending, state.dropped) == (256, 44)
    state.sync_state({})
    assert len(state.presences) == 256
    assert next(iter(state.presences)) == "u44"


# What a server may send that is no presence


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (7, "presence_state is of type int; accepted is an object"),
        (None, "presence_state is missing"),
        (b"x", "presence_state is of type bytes"),
        ({"u": []}, "an entry of presence_state is of type list"),
        ({"u": {}}, "metas in an entry of presence_state is missing; accepted is a list"),
        ({"u": {"metas": {}}}, "metas in an entry of presence_state is of type dict"),
        ({"u": {"metas": [1]}}, "a meta in an entry of presence_state is of type int"),
        ({"u": {"metas": [{}]}}, "phx_ref of a meta in an entry of presence_state is missing"),
        ({"u": {"metas": [{"phx_ref": 1}]}}, "phx_ref .* is of type int; accepted is a string"),
        ({1: entry("1")}, "a key of presence_state is of type int"),
    ],
)
def test_a_malformed_state_is_refused_whole(payload: Any, says: str) -> None:
    """complaint-28: nothing has changed, and what is said names nobody."""
    state = synced({"u1": entry("1")})
    with pytest.raises(RemoteProtocolError, match=says):
        state.sync_state({"u2": entry("2"), **payload} if isinstance(payload, dict) else payload)
    assert refs(state.presences) == {"u1": ["1"]}


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ([], "presence_diff is of type list"),
        ({}, "presence_diff has no 'joins'"),
        ({"joins": {}}, "presence_diff has no 'leaves'"),
        ({"joins": {"u2": entry("2")}, "leaves": 1}, "'leaves' of presence_diff is of type int"),
        (diff_of({"u": entry("2")}, {"u": 1}), "an entry of 'leaves' of presence_diff"),
    ],
)
def test_a_malformed_diff_is_refused_whole(payload: Any, says: str) -> None:
    """complaint-28: one that would have to wait is looked at, too."""
    for state in (synced({"u1": entry("1")}), PresenceState()):
        before = refs(state.presences)
        with pytest.raises(RemoteProtocolError, match=says):
            state.sync_diff(payload)
        assert (refs(state.presences), state.pending) == (before, 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["joins", "leaves", "metas", "phx_ref", "phx_ref_prev", "u"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.booleans())
def test_no_payload_raises_anything_else(payload: Any, is_state: bool) -> None:
    state = synced({"u": entry("a")})
    before = refs(state.presences)
    try:
        if is_state:
            state.sync_state(payload)
        else:
            state.sync_diff(payload)
    except RemoteProtocolError:
        assert refs(state.presences) == before


# Against the model

KEYS = st.sampled_from(["u1", "u2", "__proto__"])
METAS = st.lists(
    st.fixed_dictionaries(
        {"phx_ref": st.sampled_from("abcd")},
        optional={"phx_ref_prev": st.sampled_from("abcd") | st.none(), "n": st.integers(0, 1)},
    ),
    max_size=3,
)
ENTRIES = st.fixed_dictionaries({"metas": METAS}, optional={"name": st.sampled_from("xy")})
PRESENCES = st.dictionaries(KEYS, ENTRIES, max_size=3)
DIFFS = st.fixed_dictionaries({"joins": PRESENCES, "leaves": PRESENCES})
STEPS = st.lists(
    st.tuples(st.just("state"), PRESENCES)
    | st.tuples(st.just("diff"), DIFFS)
    | st.tuples(st.just("rejoin"), st.none()),
    max_size=12,
)


def places(presences: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(key, meta["phx_ref"]) for key, one in presences.items() for meta in one["metas"]}


@given(STEPS)
def test_whatever_comes_the_state_is_that_of_phoenix_js(steps: list[tuple[str, Any]]) -> None:
    """PR1 to PR14: and what is told is exactly what makes the new state of the old one."""
    ours, model, joins = PresenceState(), PhoenixPresence(), 1
    for what, payload in steps:
        before, old = dict(model.state), places(model.state)
        join_ref = str(joins)
        diff: PresenceDiff | None = PresenceDiff()
        if what == "rejoin":
            joins += 1
        elif what == "state":
            model.on_state(payload, join_ref)
            diff = ours.sync_state(payload, join_ref=join_ref)
        else:
            taken = model.on_diff(payload, join_ref)
            diff = ours.sync_diff(payload, join_ref=join_ref)
            assert (diff is not None) is taken
        assert raw(ours.presences) == model.state
        if what == "rejoin" or diff is None:
            continue
        came = {(join.key, meta["phx_ref"]) for join in diff.joins for meta in join.metas}
        went = {(leave.key, meta["phx_ref"]) for leave in diff.leaves for meta in leave.metas}
        for update in diff.updates:
            assert update.after["phx_ref_prev"] == update.before["phx_ref"]
            came.add((update.key, update.after["phx_ref"]))
            went.add((update.key, update.before["phx_ref"]))
        new = places(model.state)
        assert came == new - old
        assert went == old - new
        assert {join.key for join in diff.joins if join.current is None} == (
            model.state.keys() - before.keys()
        )
        for leave in diff.leaves:
            assert (
                raw({leave.key: leave.current})[leave.key]["metas"]
                == (model.state.get(leave.key, {"metas": []})["metas"])
            )


HAPPENINGS = st.lists(
    st.tuples(st.sampled_from(["track", "untrack", "update", "lose", "rejoin"]), KEYS), max_size=25
)


@given(HAPPENINGS)
@example([("track", "u1"), ("lose", "u1"), ("update", "u1"), ("rejoin", "u1")])
def test_of_an_honest_server_we_know_and_tell_what_phoenix_js_would(
    happenings: list[tuple[str, str]],
) -> None:
    """PR12, PR14, complaint-28: whatever was missed while the connection was lost."""
    server, ours, model, joins = Tracker(), PresenceState(), PhoenixPresence(), 1
    connected = True
    ours.sync_state({}, join_ref="1")
    model.on_state({}, "1")
    for what, key in happenings:
        model.joined.clear()
        model.left.clear()
        if what == "lose":
            connected = False
            continue
        if what == "rejoin":
            # Our own presence_diff comes first, as it does from Phoenix.
            connected, joins = True, joins + 1
            own = server.step("track", "me")
            assert ours.sync_diff(own, join_ref=str(joins)) is None
            model.on_diff(own, str(joins))
            ours.sync_state(server.state(), join_ref=str(joins))
            model.on_state(server.state(), str(joins))
        else:
            payload = server.step(what, key)
            if not connected:
                continue
            diff = ours.sync_diff(payload, join_ref=str(joins))
            model.on_diff(payload, str(joins))
            assert diff is not None
            told = [
                *((join.key, list(join.metas)) for join in diff.joins),
                *((update.key, [update.after]) for update in diff.updates),
            ]
            assert told == [(key, new["metas"]) for key, _, new in model.joined]
            told = [
                *((leave.key, list(leave.metas)) for leave in diff.leaves),
                *((update.key, [update.before]) for update in diff.updates),
            ]
            assert told == [(key, left["metas"]) for key, _, left in model.left]
            for join in diff.joins:
                [current] = [current for _, current, _ in model.joined]
                assert (join.current is None) is (current is None)
        assert raw(ours.presences) == model.state
        # The list of a key's metas is in order of joining; a state after losses may differ there.
        assert places(raw(ours.presences)) == places(server.state())


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.parent.name)
def test_what_real_servers_sent_is_followed(transcript: Path) -> None:
    """PR1, PR4, PR12, PR14: all that a socket of Phoenix was sent, up to its own list of them."""
    state, refs_of_list, seen = PresenceState(), set[str](), list[PresenceDiff | None]()
    checked = 0
    for line in transcript.read_text("utf-8").splitlines():
        row = json.loads(line)
        if row.get("conn") != "A" or row.get("opcode") != "text":
            continue
        _, ref, _, event, payload = json.loads(row["text"])
        match event:
            case "presence_state":
                seen.append(state.sync_state(payload))
            case "presence_diff":
                seen.append(state.sync_diff(payload))
            case "list":
                refs_of_list.add(ref)
            case "phx_reply" if ref in refs_of_list:
                assert raw(state.presences) == payload["response"]
                checked += 1
            case _:
                pass
    assert checked == 1
    assert seen[0] is None
    diffs = [diff for diff in seen if diff is not None]
    assert [
        [(join.key, join.is_first) for join in diff.joins]
        + [(update.key, update.before["status"], update.after["status"]) for update in diff.updates]
        + [(leave.key, leave.is_last) for leave in diff.leaves]
        for diff in diffs
    ] == [
        [("alice", True)],
        [("bob", True)],
        [("alice", False)],
        [("bob", "away", "busy")],
        [("alice", False)],
        [("bob", True)],
    ]
    assert list(state.presences) == ["alice"]
