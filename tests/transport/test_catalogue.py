"""The faults that a client meets, by their ids, and that each is the subject of a test here.

A test names its rows in its docstring: ``"d04, d05: …"``. h is for the handshake,
d for data, t for TLS, f for floods.
"""

import ast
import re
from pathlib import Path

CATALOGUE = {
    "h01": "TCP is accepted, and the upgrade never answered: the deadline holds, and TCP is closed",
    "h02": "a refusal with a body (302 to 503) is told with status, headers and body, at once",
    "h02i": "a 100 before the 101 is skipped",
    "h02j": "a 103 before an invalid 101 is a ConnectError like any other",
    "h02k": "a refusal whose body ends with TCP, as in HTTP/1.0, keeps its status",
    "h02l": "the same for a gateway's 502",
    "h02n": "a 103 before the 101 is skipped",
    "h03": "the body of a refusal never ends, or is cut: it is not waited for",
    "h04": "the body of a refusal is endless: 64 KiB of it are kept",
    "h05": "garbage, another protocol, a wrong 101, or one that grants what nobody asked for",
    "h06": "FIN or RST before or inside the 101 is noticed at once",
    "h06b": "the same inside of a header",
    "h07": "an upgrade that trickles does not outlive the deadline",
    "h08": "a bomb of headers is cut at 64 KiB",
    "h09": "refused, no such name, no answer to the SYN, a URI or header that cannot be: each in its step",
    "h10": "a byte that is not ASCII in the 101 is a ConnectError",
    "d01": "FIN or RST inside a frame is the end, at once",
    "d02": "FIN or RST between frames is the end, at once",
    "d03": "half-open: the peer is silent; heartbeat, keepalive and the deadlines notice",
    "d04": "the server says Close and keeps TCP: it has a second, then we end it",
    "d04'": "the server says Close and ends TCP: so do we, and no CLOSE-WAIT stays",
    "d05": "the server ignores our Close: the end of TCP comes within close_timeout",
    "d05c": "it ignores our Close and keeps sending: the same",
    "d05d": "it answers our Close and keeps TCP: it has a second, then we end it",
    "d05e": "it answers our Close with the end of TCP alone: no time is lost",
    "d06a": "a message without end, in fragments, is 1009 at max_message_size",
    "d06b": "one in empty fragments is 1009 at the limit of their number",
    "d07a": "an oversize message is 1009, then the end of TCP within close_timeout",
    "d07b": "a ping behind it changes nothing",
    "d07c": "another oversize message behind it changes nothing",
    "d07d": "a frame that announces 2^62 bytes is 1009 at its header",
    "d07e": "the limit counts bytes, in a text too",
    "d08": "whatever breaks the rules of framing: 1002 or 1007 on the wire, then the end of TCP",
    "d09": "a Close of the server is echoed exactly, and told with code and reason",
    "d10": "the server pings after our Close: answered, and nothing strays out of the block",
    "d10b": "closing beside active senders ends them with the reason",
    "d10d": "closing while a write is blocked ends by force, within close_timeout",
    "d11": "the owner is cancelled: Close 1001 and the end of TCP, without waiting",
    "d11b": "the body raises: Close 1001, and the exception leaves bare",
    "d12": "receive is cancelled again and again: no message is lost",
    "d13": "a sender is cancelled beside a blocked write: no frame is torn",
    "d13b": "a send in a cancelled scope is queued whole",
    "d14": "a slow consumer delays no control frame",
    "d15": "a close code that may not go on the wire is refused; our own is the one that is reported",
    "d16": "many senders at once: every frame arrives whole",
    "d17": "the server ignores our Close and floods us: the end comes within close_timeout",
    "t01b": "an authority that the system does not trust is refused in the TLS step, with the cause",
    "t01c": "so is another authority than ours",
    "t01d": "so is a certificate of another host",
    "t01e": "so is one that has expired",
    "t01f": "so is a server that knows only old TLS",
    "t01g": "a ClientHello that is never answered ends by connect_timeout",
    "t02": "TLS that is cut without close_notify, or corrupt, is no clean end",
    "t03": "a sender is cancelled beside a blocked write over TLS: no record is torn",
    "t04": "an answered Close without close_notify is a clean end, and takes no time",
    "f01": "a server that sends more than is read is held back by TCP, and the memory is bounded",
    "2a": "a path that is dead in both directions is noticed by every means that there is",
}

_ROW = re.compile(r"\b(?:[hdtf]\d\d[a-z]?|2a)\b'?")


def rows_of_tests() -> dict[str, list[str]]:
    """Give the rows that docstrings of tests name, each with those tests."""
    found: dict[str, list[str]] = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("test_"):
                for row in _ROW.findall(ast.get_docstring(node) or ""):
                    found.setdefault(row, []).append(f"{path.name}::{node.name}")
    return found


def test_every_fault_is_the_subject_of_a_test() -> None:
    assert set(CATALOGUE) - set(rows_of_tests()) == set()


def test_no_test_names_a_fault_that_nobody_knows() -> None:
    found = rows_of_tests()
    assert {row: found[row] for row in set(found) - set(CATALOGUE)} == {}
