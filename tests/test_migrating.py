"""What the tables for those who come from elsewhere say is here, is here."""

import builtins
import inspect
import re
from pathlib import Path
from typing import Final

import attrs
import pytest

import slipstream
from slipstream import (
    Config,
    ReconnectPolicy,
    RejoinPolicy,
    SlipstreamClient,
    Socket,
    protocol,
    testing,
)

GUIDE: Final = (Path(__file__).parents[1] / "guides/migrating.md").read_text("utf-8")
PROGRAMS = re.compile(r"```.*?```", re.DOTALL)
ROWS: Final = [
    (there.strip(), here.strip())
    for there, here in re.findall(
        r"^\| (.*?) \| (.*?) \| .*\|$", PROGRAMS.sub("", GUIDE), re.MULTILINE
    )
    if there not in {"There", "---"}
]
PARTS: Final = {
    part: PROGRAMS.sub("", text)
    for part, text in re.findall(r"^## From (.+?)\n(.*?)(?=^## )", GUIDE, re.MULTILINE | re.DOTALL)
}
OURS: Final = {
    *dir(slipstream), *dir(protocol), *dir(testing), *dir(builtins),
}  # fmt: skip
EXAMPLES: Final = {"Metrics", "Listener"}
KEYWORDS: Final = {
    *(field.name for kind in (Config, ReconnectPolicy, RejoinPolicy) for field in attrs.fields(kind)),
    *(
        name
        for function in (Socket.push, Socket.request, Socket.join, Socket.reconnect,
                         SlipstreamClient.child_spec, slipstream.ChildSpec, slipstream.Stop,
                         protocol.V2Serializer)
        for name in inspect.signature(function).parameters
    ),
}  # fmt: skip


def code_of(text: str) -> str:
    return "\n".join(re.findall(r"`([^`]+)`", text))


HERE: Final = code_of("\n".join(here for _, here in ROWS))


def test_each_part_has_a_table_a_list_of_stumbling_blocks_and_both_programs() -> None:
    assert len(PARTS) == 4
    assert len(ROWS) > 70
    for part, text in PARTS.items():
        assert "| There | Here | What differs, and why |" in text, part
        assert "You will stumble over:\n\n* **" in text, part
    programs = [len(PROGRAMS.findall(text)) for text in GUIDE.split("\n## ")[1:]]
    assert programs == [2, 2, 2, 2, 0]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\b(handle_\w+)", GUIDE))))
def test_a_callback_is_there(name: str) -> None:
    assert hasattr(SlipstreamClient, name)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bsocket\.(\w+)", HERE))))
def test_what_a_socket_does_it_does(name: str) -> None:
    assert hasattr(Socket, name) or name == "assigns"


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"\b([A-Z]\w*[a-z]\w*)\b", HERE)) - EXAMPLES)
)
def test_a_class_is_to_be_had(name: str) -> None:
    assert name in OURS


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\b([a-z]\w+)=", HERE))))
def test_a_keyword_is_taken(name: str) -> None:
    assert name in KEYWORDS
