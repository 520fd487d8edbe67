"""Fuzz a target for a while, from its corpus on. What is found is in the folder that is printed."""

import argparse
import importlib
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from .corpus import load, save

TOKENS = {
    "parser": [
        b"\x81\x7e",
        b"\x82\x7f",
        b"\x88\x02\x03\xe8",
        b"\x01\x00",
        b"\x80\x00",
        b"\xe2\x82",
    ],
    "handshake": [
        b"HTTP/1.1 101 Switching Protocols\r\n",
        b"HTTP/1.1 103 Early Hints\r\n",
        b"HTTP/1.0 403 No\r\n",
        b"Upgrade: websocket\r\n",
        b"Connection: Upgrade\r\n",
        b"Sec-WebSocket-Accept: {accept}\r\n",
        b"Sec-WebSocket-Protocol: ",
        b"Sec-WebSocket-Extensions: permessage-deflate",
        b"Content-Length: 4\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n\r\n",
    ],
}


def fuzz(name: str, seconds: int, scratch: Path) -> None:
    """Let atheris look for *seconds*; what it finds new goes into *scratch*. Does not return."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["slipstream.transport", "wsproto", "h11"]):
        target = importlib.import_module("tests.fuzz.targets").TARGETS[name]
    words = scratch / "words.txt"
    words.write_text("".join(f'"{_escape(token)}"\n' for token in TOKENS[name]), "ascii")
    found, known = scratch / "found", scratch / "known"
    for folder in (found, known):
        folder.mkdir(exist_ok=True)
    for number, data in enumerate(load(name)):
        (known / str(number)).write_bytes(data)
    options = [
        f"-max_total_time={seconds}",
        f"-dict={words}",
        f"-artifact_prefix={scratch}/",
        "-max_len=2000",
        "-timeout=20",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(found), str(known)], target)
    atheris.Fuzz()


def _escape(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


def keep(name: str, found: Path) -> None:
    """Add to the corpus what in *found* takes a way through the transport that nothing in it takes."""
    target = importlib.import_module("tests.fuzz.targets").TARGETS[name]
    corpus = load(name)
    known: set[Any] = set()
    for data in corpus:
        known |= ways_through(target, data)
    for path in sorted(found.iterdir(), key=lambda path: path.stat().st_size):
        data = path.read_bytes()
        ways = ways_through(target, data)
        if not ways <= known:
            known |= ways
            corpus.append(data)
    save(name, corpus)


def ways_through(target: Callable[[bytes], None], data: bytes) -> set[tuple[Any, ...]]:
    """Run *target*; give the steps from line to line that it took in the transport, and how often."""
    steps: Counter[tuple[str, int, int]] = Counter()

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if "/slipstream/transport/" not in frame.f_code.co_filename:
            return None
        last = frame.f_lineno

        def step(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal last
            if event == "line":
                steps[frame.f_code.co_filename, last, frame.f_lineno] += 1
                last = frame.f_lineno
            return step

        return step

    sys.settrace(trace)
    try:
        target(data)
    finally:
        sys.settrace(None)
    return {(*step, min(count.bit_length(), 4)) for step, count in steps.items()}


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    options.add_argument("target", choices=sorted(TOKENS))
    options.add_argument("--seconds", type=int, default=60, help="for how long (60)")
    options.add_argument("--scratch", type=Path, help="where to put what is found (a new folder)")
    options.add_argument("--keep", action="store_true", help="add from --scratch to the corpus")
    chosen = options.parse_args()
    if chosen.keep:
        if chosen.scratch is None:
            options.error("--keep needs the --scratch that was fuzzed into")
        keep(chosen.target, chosen.scratch / "found")
        return
    scratch = chosen.scratch or Path(tempfile.mkdtemp(prefix="fuzz-"))
    scratch.mkdir(parents=True, exist_ok=True)
    print(f"what is found goes to {scratch}", flush=True)
    fuzz(chosen.target, chosen.seconds, scratch)


if __name__ == "__main__":
    main()
