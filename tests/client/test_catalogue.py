"""The catalogue of what a client does: each behaviour has an id, which the docstring of a test names.

The behaviours are those of the suites of phoenix.js, of Elixir's Slipstream and of clients in other
languages; the decisions about the protocol, by row; and the lines of what servers do. Where suites
disagree, the decision holds, and a test that names the id asserts it.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

TESTS = Path(__file__).parents[1]
ROWS_FOLDER = TESTS / "client" / "rows"

# The cases of other suites: the letters that their ids have, each with the number of the last.
SUITES = {
    "JS-": "S19 D6 C9 P2 R2 H6 F2 O3 X9 E6 M2 G2 K6 "  # phoenix.js, its socket
    "CH6 J6 JT4 OK9 TO4 ER8 OE5 OC4 CP2 ON4 OF2 PU8 L6",  # its channel
    "": "PR14 LP17 SE9",  # its presence, long polling and serializers
    "SL-": "I16 Y12 B6 G4 T11 C4 M1 A1 Z3 E5 X10",  # Elixir's Slipstream
}
SINGLE = {"JS-CM", "SL-I0"}

# The good cases of suites that have no ids of their own: what phoenix.js does without a test, and
# those of Kotlin, phoenix-channels-python-client, Rust, gun, phoenix_client, Dart and realtime-py.
OTHERS = {
    "PHX-1": "the events of a replaced transport are ignored",
    "PHX-2": "the event of our own close does not reconnect",
    "PHX-3": "channels whose join the failed connection did not carry are not failed",
    "PHX-4": "pushes that wait are dropped when the join that they waited for is",
    "PHX-5": "a close that is told twice is handled once",
    "PHX-6": "measurements of latency die with their connection",
    "KT-1": "messages of an earlier join's life are dropped",
    "KT-2": "a topic that was left before the connect is not joined",
    "KT-3": "no rejoin follows a leave before the join was answered",
    "KT-4": "a leave that is not answered closes the channel in time",
    "KT-5": "a leave resolves at once only where nothing can be sent",
    "KT-6": "a status of the server's own is a status",
    "KT-7": "topics may be changed while one goes over them",
    "KT-8": "params may change between connects",
    "KT-9": "a callback is taken back by its ref",
    "KT-10": "heartbeats can be left out",
    "PCP-1": "close codes are classified by a table",
    "PCP-2": "delays grow to a ceiling where connections do not last",
    "PCP-3": "delays of a hold-down are spread out",
    "PCP-4": "sessions that put each other out do so within bounds, in turn",
    "PCP-5": "1008 is final",
    "PCP-6": "1012 is followed by a reconnect and rejoins",
    "PCP-7": "1013 is left alone for longer",
    "PCP-8": "a rejoin that fails for now keeps the topic wanted",
    "PCP-9": "a topic that is refused for good goes alone",
    "PCP-10": "stale messages are dropped after a reconnect",
    "PCP-11": "a full queue drops the oldest, where that is chosen",
    "PCP-12": "a leave lets the running callback finish, and what is queued is ignored",
    "PCP-13": "an exception in a callback ends nothing for good",
    "PCP-14": "heartbeats go on after a reconnect",
    "PCP-15": "whoever shuts down reconnects no more",
    "PCP-16": "headers go with the handshake",
    "PCP-17": "secrets of a URL are not shown",
    "RS-1": "the status of the socket and of each channel can be followed",
    "RS-2": "a key of the socket that was changed is used",
    "RS-3": "a key of a channel that was changed is used",
    "RS-4": "a strategy of one's own is asked",
    "RS-5": "a close by the server is not an error of the transport",
    "RS-6": "text and bytes, answered with ok, an error or not at all",
    "GSC-1": "refs increase over channels, rejoins and connections",
    "GSC-2": "what cannot be encoded is an error, and no crash",
    "GSC-3": "a transport that dies is a disconnect",
    "GSC-4": "a second join sends nothing",
    "GSC-5": "a push to what was not joined is an error",
    "GSC-6": "nothing is sent where there is no connection",
    "PXC-1": "a join has a time",
    "PXC-2": "a push has a time",
    "PXC-3": "headers of one's own",
    "PXC-4": "params in the URL",
    "DT-1": "an attempt that fails unexpectedly is followed by another",
    "DT-2": "empty bytes are a payload",
    "DT-3": "malformed JSON is survived",
    "DT-4": "only replies are taken for replies",
    "DT-5": "a push that is not answered raises in time",
    "RTP-1": "several connects at once are one connection",
    "RTP-2": "sending while reconnecting",
}

_LONG_POLL = "there is no long polling"
_PAGE = "it is about a page in a browser"
_METHODS = "handlers are methods: they are not bound, nor taken back, one by one"

NOT_APPLICABLE: dict[str, str] = {
    **dict.fromkeys(["JS-S4", "JS-S6", "JS-S7", "JS-S8", "JS-S9"], _PAGE),
    **dict.fromkeys(["JS-S5", "JS-S17", "JS-S18", "JS-S19", "JS-K3", "JS-K6"], _LONG_POLL),
    **{f"LP{n}": _LONG_POLL for n in range(1, 18)},
    **dict.fromkeys(["JS-ON3", "JS-ON4", "JS-OF1", "JS-OF2", "KT-9"], _METHODS),
    "JS-R2": "an int has no overflow, so a ref never comes again",
    "SL-Y5": "Python has no garbage collection of one process",
    "row 57": _LONG_POLL,
}

ROWS = [f"row {n}" for n in [*range(1, 42), "41b", *range(42, 59)]]
TRUTHS = [f"ground truth {n}" for n in range(1, 22)]

ONLY_IN_THE_KIT: dict[str, str] = {}
"""Rows and lines that no real server can show, with the reason."""

COMPLAINTS = frozenset(f"complaint-{number}" for number in range(1, 31))
"""What users of other clients complain of; ``guides/reliability.md`` tells of each."""

ID = re.compile(
    r"\b(?:(?:JS|SL)-[A-Z]+\d*|(?:PR|LP|SE)\d+|(?:PHX|KT|PCP|RS|GSC|PXC|DT|RTP|complaint)-\d+)\b"
)
ROW = re.compile(r"\brows? (\d+b?(?:(?:, | and )\d+b?)*)|\bground truth (\d+)", re.IGNORECASE)


@attrs.frozen
class Shown:
    """A test, what its docstring names, and over which wires it is played."""

    name: str
    ids: frozenset[str]
    rows: frozenset[str]
    wires: frozenset[str]


def catalogue() -> set[str]:
    """Give every id."""
    numbered = {
        f"{suite}{letters}{number}"
        for suite, cases in SUITES.items()
        for letters, last in re.findall(r"([A-Z]+)(\d+)", cases)
        for number in range(1, int(last) + 1)
    }
    return numbered | SINGLE | set(OTHERS) | COMPLAINTS


def ids_in(docstring: str) -> set[str]:
    """Give the ids that *docstring* names in full."""
    return set(ID.findall(docstring))


def rows_in(docstring: str) -> set[str]:
    """Give the rows and the lines of the ground truth that *docstring* names."""
    found: set[str] = set()
    for rows, truth in ROW.findall(docstring):
        found |= {f"row {row}" for row in re.findall(r"\d+b?", rows)}
        found |= {f"ground truth {truth}"} if truth else set()
    return found


def found_in(source: str) -> Iterator[Shown]:
    """Find the tests in *source*: functions, and classes such as machines."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                docstring = ast.get_docstring(node) or ""
                if isinstance(node, ast.ClassDef) or node.name.startswith("test_"):
                    yield Shown(
                        node.name,
                        frozenset(ids_in(docstring)),
                        frozenset(rows_in(docstring)),
                        frozenset(wires_of(node)),
                    )
            case _:
                pass


def wires_of(node: ast.AST) -> set[str]:
    """Tell over what a test is played, by what it is decorated with, or opens."""
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    wires: set[str] = set()
    if names & {"both_wires", "in_the_kit", "open_socket_test"}:
        wires.add("kit")
    if names & {"both_wires", "over_tcp", "PhoenixServer"}:
        wires.add("tcp")
    return wires


def all_tests(folder: Path) -> list[Shown]:
    paths = [path for path in sorted(folder.rglob("*.py")) if path != Path(__file__)]
    return [test for path in paths for test in found_in(path.read_text("utf-8"))]


def test_only_the_docstrings_of_tests_count() -> None:
    source = '''
"""JS-S1"""

def helper():
    """JS-S2, row 1"""

@both_wires(join_timeout=10.0)
async def test_it(test):
    """Rows 3, 41b and 5; ground truth 7; JS-CH6, SL-I0, PR12, SE1, KT-10, JS-CM: XJS-S3, SPR4."""
    text = "JS-S4"

class Machine:
    """SL-Z9, JS-QQ1."""
    def test_more(self):
        """Row 9."""
        with open_socket_test(): ...
'''
    found = {test.name: test for test in found_in(source)}
    assert found["test_it"] == Shown(
        "test_it",
        frozenset({"JS-CH6", "SL-I0", "PR12", "SE1", "KT-10", "JS-CM"}),
        frozenset({"row 3", "row 41b", "row 5", "ground truth 7"}),
        frozenset({"kit", "tcp"}),
    )
    assert found["Machine"].ids == {"SL-Z9", "JS-QQ1"}
    assert found["test_more"].rows == {"row 9"}
    assert found["test_more"].wires == {"kit"}
    assert "helper" not in found


def test_the_catalogue_is_whole() -> None:
    sizes = Counter(re.split(r"[-\d]", name)[0] for name in catalogue() - COMPLAINTS)
    assert (sizes["JS"], sizes["SL"]) == (143, 74)
    assert (sizes["PR"], sizes["LP"], sizes["SE"]) == (14, 17, 9)
    assert len(OTHERS) == 56
    assert (len(ROWS), len(TRUTHS)) == (59, 21)
    assert set(NOT_APPLICABLE) <= catalogue() | set(ROWS)
    assert set(ONLY_IN_THE_KIT) <= {*ROWS, *TRUTHS}


def test_every_behaviour_of_the_catalogue_has_a_test_and_none_is_invented() -> None:
    named = {name for test in all_tests(TESTS) for name in test.ids}
    missing = catalogue() - named - set(NOT_APPLICABLE)
    invented = named - catalogue()
    pointless = named & set(NOT_APPLICABLE)
    if missing or invented or pointless:
        pytest.fail(
            f"without a test: {sorted(missing)}; in no catalogue: {sorted(invented)}; "
            f"tested, but not applicable: {sorted(pointless)}"
        )


def test_every_row_is_shown_in_the_kit_and_where_a_server_can_show_it_over_tcp() -> None:
    tests = all_tests(ROWS_FOLDER)
    wanted = {*ROWS, *TRUTHS} - set(NOT_APPLICABLE)
    in_the_kit = {row for test in tests if "kit" in test.wires for row in test.rows}
    over_tcp = {row for test in tests if "tcp" in test.wires for row in test.rows}
    missing = wanted - in_the_kit
    unseen = wanted - over_tcp - set(ONLY_IN_THE_KIT)
    invented = (in_the_kit | over_tcp) - wanted
    seen_anyway = over_tcp & set(ONLY_IN_THE_KIT)
    if missing or unseen or invented or seen_anyway:
        pytest.fail(
            f"without a test in the kit: {sorted(missing)}; not shown over TCP: {sorted(unseen)}; "
            f"there is no such row: {sorted(invented)}; shown over TCP after all: "
            f"{sorted(seen_anyway)}"
        )
