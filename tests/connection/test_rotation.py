"""Which of several servers is next."""

from hypothesis import given, strategies as st

from slipstream import ClosedByServer, ConnectError, ConnectFailed
from slipstream.connection._rotation import Rotation

URIS = "abcd"
FAILED = ConnectFailed(ConnectError("no", step="tcp"))
REFUSED = ConnectFailed(ConnectError("no", step="upgrade", status=403), 403)
WITHOUT = ConnectFailed(ConnectError("no", step="provider", provider="params"))

happenings = st.sampled_from(
    ["failed", "refused", "provider", "flapped", "stable", "hopeless", "forbidden"]
)


@given(st.integers(1, 4), st.lists(happenings, max_size=30))
def test_the_turn_goes_round_and_comes_back(count: int, story: list[str]) -> None:
    """complaint-15: who is next is a function of what happened, and a server given up is not asked."""
    uris = URIS[:count]
    rotation = Rotation(uris)
    given_up: set[str] = set()
    assert rotation.uri == uris[0]
    for what in story:
        before = rotation.uri
        assert before not in given_up
        match what:
            case "stable":
                rotation.ended(ClosedByServer(1006), stable=True)
                given_up.clear()
                assert rotation.uri == uris[0]
            case "refused" | "provider":
                rotation.ended(REFUSED if what == "refused" else WITHOUT, stable=False)
                assert rotation.uri == before
            case "failed" | "flapped":
                reason = FAILED if what == "failed" else ClosedByServer(1006)
                rotation.ended(reason, stable=False)
                circle = (uris + uris)[uris.index(before) + 1 :]
                assert rotation.uri == next(uri for uri in circle if uri not in given_up)
            case _:
                rotation.ended(REFUSED if what == "forbidden" else FAILED, stable=False)
                left = rotation.give_up_last()
                given_up.add(before)
                assert left is (len(given_up) < count)
                if not left:
                    rotation.start_afresh()
                    given_up.clear()
                    assert rotation.uri == uris[0]
