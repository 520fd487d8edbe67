"""Both ends of presence, as plain dicts: what phoenix.js makes of it, and what a server sends.

The model of phoenix.js is written from what its documentation says, and not from our code: the metas
of a key are lists that are changed in place, the callbacks are noted as they would be called, and
nothing is typed or shared.
"""

from copy import deepcopy
from typing import Any


class PhoenixPresence:
    """What ``new Presence(channel)`` knows, and each call of ``onJoin`` and ``onLeave``."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.pending: list[dict[str, Any]] = []
        self.join_ref: str | None = None  # of the last state
        self.pended_in: str | None = None
        self.joined: list[tuple[str, Any, Any]] = []
        self.left: list[tuple[str, Any, Any]] = []

    def on_state(self, new: dict[str, Any], join_ref: str) -> None:
        """Take a whole state: what is missing left, what is new joined; then what was pending."""
        self.join_ref = join_ref
        joins: dict[str, Any] = {}
        leaves = {key: deepcopy(entry) for key, entry in self.state.items() if key not in new}
        for key, entry in new.items():
            if key not in self.state:
                joins[key] = deepcopy(entry)
                continue
            known = [meta["phx_ref"] for meta in self.state[key]["metas"]]
            told = [meta["phx_ref"] for meta in entry["metas"]]
            came = [meta for meta in entry["metas"] if meta["phx_ref"] not in known]
            went = [meta for meta in self.state[key]["metas"] if meta["phx_ref"] not in told]
            if came:
                joins[key] = {**deepcopy(entry), "metas": deepcopy(came)}
            if went:
                leaves[key] = {**deepcopy(self.state[key]), "metas": deepcopy(went)}
        self._sync(joins, leaves)
        # Ours on purpose: phoenix.js also applies what an earlier join left behind.
        if self.pended_in == join_ref:
            for diff in self.pending:
                self._sync(diff["joins"], diff["leaves"])
        self.pending = []

    def on_diff(self, diff: dict[str, Any], join_ref: str) -> bool:
        """Take a diff, or let it wait for the state of its join; tell whether it was taken."""
        if self.join_ref == join_ref:
            self._sync(diff["joins"], diff["leaves"])
            return True
        if self.pended_in != join_ref:
            self.pended_in, self.pending = join_ref, []
        self.pending.append(deepcopy(diff))
        return False

    def _sync(self, joins: dict[str, Any], leaves: dict[str, Any]) -> None:
        for key, entry in deepcopy(joins).items():
            current = self.state.get(key)
            self.joined.append((key, deepcopy(current), deepcopy(entry)))
            if current is not None:
                refs = [meta["phx_ref"] for meta in entry["metas"]]
                kept = [meta for meta in current["metas"] if meta["phx_ref"] not in refs]
                entry["metas"] = kept + entry["metas"]
            self.state[key] = entry
        for key, entry in deepcopy(leaves).items():
            current = self.state.get(key)
            if current is None:
                continue
            refs = [meta["phx_ref"] for meta in entry["metas"]]
            current["metas"] = [meta for meta in current["metas"] if meta["phx_ref"] not in refs]
            self.left.append((key, deepcopy(current), entry))
            if not current["metas"]:
                del self.state[key]


class Tracker:
    """A server's side: who is tracked; it makes the states and diffs that Phoenix makes."""

    def __init__(self) -> None:
        self.tracked: dict[str, list[dict[str, Any]]] = {}
        self.made = 0

    def state(self) -> dict[str, Any]:
        return {key: {"metas": list(metas)} for key, metas in self.tracked.items()}

    def step(self, what: str, key: str, **meta: Any) -> dict[str, Any]:
        """Track, untrack or update the oldest meta of *key*; give the diff."""
        metas = self.tracked.get(key, [])
        old = metas[:1] if what != "track" else []
        new: list[dict[str, Any]] = []
        if what != "untrack" and (old or what == "track"):
            self.made += 1
            new = [{"phx_ref": str(self.made), **meta}]
            if old:
                new[0]["phx_ref_prev"] = old[0]["phx_ref"]
        left = [meta for meta in metas if meta not in old] + new
        self.tracked = {**self.tracked, key: left}
        if not left:
            del self.tracked[key]
        return {
            "joins": {key: {"metas": new}} if new else {},
            "leaves": {key: {"metas": old}} if old else {},
        }
