"""What the guide to reliability says is shown by the tests that it names, and by the code's own numbers."""

import ast
import inspect
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from slipstream import Config, ReconnectPolicy, RejoinPolicy, SlipstreamClient, Socket, presence
from slipstream.client import ClientRef, _script, _topics
from slipstream.config import Refresh, RetryAfter
from slipstream.otp import ServerRef
from slipstream.protocol import _json, _pushes
from slipstream.transport import _parser, _reaching, _response, _websocket
from tests.transport.test_catalogue import CATALOGUE

ROOT: Final = Path(__file__).parents[1]
GUIDE: Final = (ROOT / "guides/reliability.md").read_text("utf-8")
COMPLAINTS: Final = range(1, 31)

_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_COMPLAINT = re.compile(
    r"^\*\*(?P<trouble>.+?)\*\* \(complaint-(?P<number>\d+)\)\. (?P<rest>.+)", re.DOTALL
)
_SENTENCE = re.compile(r"[A-Z`\[].{20,}[.)]", re.DOTALL)


@cache
def docstrings(path: str) -> dict[str, str]:
    """Give the tests of the file at *path*, with their docstrings."""
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = ast.get_docstring(node) or ""
    return found


def check_is_there(path: str, name: str) -> None:
    """Fail if there is no test *name* in *path*, and say where it has gone."""
    if (ROOT / path).is_file() and name in docstrings(path):
        return
    files = [str(each.relative_to(ROOT)) for each in sorted((ROOT / "tests").rglob("test_*.py"))]
    elsewhere = [each for each in files if name in docstrings(each)]
    raise AssertionError(f"the guide names {path}::{name}, which is in {elsewhere or 'no file'}")


def paragraphs() -> dict[int, tuple[str, list[tuple[str, str]]]]:
    """Give what the guide says of each complaint, and the tests that it names for it."""
    found: dict[int, tuple[str, list[tuple[str, str]]]] = {}
    for paragraph in GUIDE.split("\n\n"):
        match = _COMPLAINT.match(paragraph)
        if match is not None:
            said, _, shown = match["rest"].partition("Shown by ")
            assert int(match["number"]) not in found
            found[int(match["number"])] = said.strip(), _NAMED.findall(shown)
    return found


def test_every_complaint_has_its_sentence_in_the_order_in_which_they_are_numbered() -> None:
    assert list(paragraphs()) == list(COMPLAINTS)


@pytest.mark.parametrize("number", COMPLAINTS)
def test_what_the_guide_says_of_a_complaint_is_shown_by_tests_that_name_it(number: int) -> None:
    said, tests = paragraphs()[number]
    assert _SENTENCE.fullmatch(said), said
    assert tests
    for path, name in tests:
        check_is_there(path, name)
        named = re.findall(r"\bcomplaint-(\d+)\b", docstrings(path)[name])
        assert str(number) in named, f"{path}::{name} does not name complaint-{number}"


def test_every_other_test_that_the_guide_names_is_there() -> None:
    named = _NAMED.findall(GUIDE)
    assert len(named) > 60
    for path, name in named:
        check_is_there(path, name)
    assert len(re.findall(r"tests/[\w/]+\.py", GUIDE)) == len(named)  # none without its name


def test_a_test_that_has_gone_elsewhere_is_told_where() -> None:
    with pytest.raises(AssertionError, match=r"is in \['tests/test_reliability\.py'\]"):
        check_is_there(
            "tests/client/test_gone.py", "test_a_test_that_has_gone_elsewhere_is_told_where"
        )
    with pytest.raises(AssertionError, match="is in no file"):
        check_is_there("tests/client/test_gone.py", "test_that_never_was")


def test_no_test_names_a_complaint_that_nobody_made() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        for name, text in docstrings(str(path.relative_to(ROOT))).items():
            for number in re.findall(r"\bcomplaint-(\d+)\b", text):
                assert int(number) in COMPLAINTS, f"{path}::{name}"


def test_every_fault_of_the_catalogue_is_found_in_the_guide() -> None:
    rows = re.findall(r"^\| `([hdtf]\d\d\w?'?|2a)` \| (.+) \|$", GUIDE, re.MULTILINE)
    assert dict(rows) == CATALOGUE
    assert len(rows) == len(CATALOGUE)


# The table of times and limits

ROW: Final = re.compile(
    r"^\| (`[^|]+?|[a-z ]+) \| ((?:[\d,.]+(?: s| KiB| MiB)?)|none) \| .+ \|$", re.MULTILINE
)
UNITS: Final = {"s": 1.0, "KiB": 1024, "MiB": 1024 * 1024}

FIXED: Final = {
    "topics": _topics._CLOSED_LIMIT,
    "presence": presence._PENDING_LIMIT,
    "plain pushes": _pushes.PLAIN_LIMIT,
    "outcomes": _script._OUTCOMES_KEPT,
    "pings": _parser.MAX_PINGS,
    "head": _response.MAX_HEAD_BYTES,
    "body": _response.MAX_BODY_BYTES,
    "depth": _json._DEEPEST,
    "grace": _websocket.END_OF_TCP_GRACE,
    "address": _reaching.NEXT_ADDRESS_AFTER,
}


def read(text: str) -> float | None:
    if text == "none":
        return None
    number, _, unit = text.replace(",", "").partition(" ")
    return float(number) * UNITS.get(unit, 1.0)


def told() -> dict[str, float | None]:
    """Give what the guide says, by name."""
    found: dict[str, float | None] = {}
    for names, value in ROW.findall(GUIDE):
        for name in names.split(", "):
            assert name not in found, name
            found[name] = read(value)
    return found


def numbers_of(cls: Any, prefix: str = "") -> dict[str, float | None]:
    """Give the fields of *cls* that are durations or limits, with their defaults."""
    found: dict[str, float | None] = {}
    for field in attrs.fields(cls):
        # The types say so, also where the default is None.
        kind = str(field.type).replace("<class '", "").replace("'>", "").split(" | ")
        if {"float", "int"} & set(kind) and field.init:
            found[f"`{prefix}{field.name}`"] = field.default
    return found


def defaults() -> dict[str, float | None]:
    """Give what the code says, by the names of the guide."""
    spec = SlipstreamClient.child_spec("ws://server.test/websocket")
    message = inspect.signature(Socket.await_message).parameters["timeout"].default
    calls = [
        inspect.signature(ref.call).parameters["timeout"].default for ref in (ClientRef, ServerRef)
    ]
    assert len(set(calls)) == 1
    return {
        **numbers_of(Config),
        **numbers_of(ReconnectPolicy, "ReconnectPolicy."),
        **numbers_of(RejoinPolicy, "RejoinPolicy."),
        "`Refresh.maximum`": Refresh().maximum,
        "`RetryAfter.most`": RetryAfter().most,
        "`await_message(timeout=)`": message,
        "`call(timeout=)`": calls[0],
        "`shutdown` of a client": spec.shutdown,
        "`interrupt_after` of a client": spec.interrupt_seconds,
        "`kill_grace`": spec.kill_grace,
        **FIXED,
    }


def test_the_table_has_every_time_and_every_limit_with_its_default() -> None:
    said, known = told(), defaults()
    assert {name: said[name] for name in said if name not in known} == {}, "not in the code"
    assert {name: known[name] for name in known if name not in said} == {}, "not in the guide"
    assert said == known


def test_every_time_and_limit_of_a_configuration_is_looked_at() -> None:
    """A check of the check: an option that bounds something has one of these names."""
    words = ("timeout", "limit", "bytes", "max_", "interval", "ttl", "seconds", "size", "pause")
    names = [
        field.name for field in attrs.fields(Config) if any(map(field.name.__contains__, words))
    ]
    assert len(names) >= 18
    assert {f"`{name}`" for name in names} <= set(numbers_of(Config))
