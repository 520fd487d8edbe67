"""Recorded conversations through the socket machine: what a client would have made of them.

The client's half is given to the machine as commands, wherever the recorder sent what a client
would send; the machine must then write the very frame that was recorded (keys of JSON objects may
stand in another order). The recorder also sent deliberately odd frames: stale join_refs, integers
as refs, no join_ref, pushes to topics that it never joined. A client would never send those, so
they are only noted, with a ``~``. The server's half is given to the machine as it came.

``python -m tests.protocol.replay phoenix-1.8.12-cowboy basic`` prints a conversation with its
events.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slipstream.errors import DecodeError, LocalProtocolError
from slipstream.interfaces import Frame, Message
from slipstream.protocol import (
    Event,
    JoinTopic,
    LeaveTopic,
    PushMessage,
    RefCounter,
    SocketMachine,
    TopicState,
    V1Serializer,
    V2Serializer,
)

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts"
SERVERS = sorted(path.name for path in TRANSCRIPTS.iterdir() if path.is_dir())
SCENARIOS = (
    "basic",
    "binary",
    "broadcasts",
    "channel_ends",
    "deflate",
    "join_failures",
    "max_channels",
    "presence",
    "sigterm",
    "transport_ends",
    "v1_serializer",
)
INTERVAL = 1_000_000.0
NEVER = 1e12


class ScriptedRefs(RefCounter):
    """Gives the refs that the recorder used, instead of counting."""

    def __init__(self) -> None:
        super().__init__()
        self.upcoming = "1"

    def __next__(self) -> str:
        return self.upcoming

    def peek(self) -> str:
        return self.upcoming


class Conversation:
    """One connection of a recording."""

    def __init__(self, *, v1: bool) -> None:
        self.refs = ScriptedRefs()
        serializer = V1Serializer() if v1 else V2Serializer()
        self.server_side = V1Serializer(role="server") if v1 else V2Serializer(role="server")
        self.machine = SocketMachine(
            serializer, refs=self.refs, heartbeat_interval=INTERVAL, heartbeat_timeout=10.0
        )
        self.now = 0.0
        self.over = False
        self.machine.start(self.now)

    def sent(self, frame: Frame) -> str:
        """Let the machine send what the recorder sent; tell how."""
        try:
            message = self.server_side.decode(frame.data if frame.binary else frame.data.decode())
        except (DecodeError, UnicodeDecodeError):
            return "~ malformed"
        command = self._command(message)
        if command is None or not isinstance(message.ref, str):
            return f"~ {message.event} {message.topic}"
        self.refs.upcoming = message.ref
        try:
            outgoing = (
                self._heartbeat()
                if command == "heartbeat"
                else self.machine.handle(command, self.now)
            )
        except LocalProtocolError:
            return f"~ {message.event} {message.topic}"
        written = outgoing.frame.data if outgoing.frame.binary else outgoing.frame.data.decode()
        again = self.server_side.decode(written)
        if message.join_ref is None:  # V1 has none on the wire, and the recorder added none
            again = Message(
                None, *[getattr(again, name) for name in ("ref", "topic", "event", "payload")]
            )
        assert again == message, f"wrote {again}, recorded {message}"
        self.machine.written([outgoing.ref], self.now)
        return f"> {message.event} {message.topic}"

    def _command(self, message: Message) -> Any:
        topic, state = message.topic, self.machine.state(message.topic)
        if topic == "phoenix":
            return "heartbeat" if message.event == "heartbeat" else None
        if message.event == "phx_join":
            return JoinTopic(topic, message.payload, NEVER)
        # A client's frames carry the join_ref of the present join; in V1 there is none.
        records = self.machine._topics
        record = records.get(topic)
        is_v1 = isinstance(self.server_side, V1Serializer)
        if record is None or (record.join_ref != message.join_ref and not is_v1):
            return None
        if message.event == "phx_leave":
            return LeaveTopic(topic, NEVER)
        return (
            PushMessage(topic, message.event, message.payload, NEVER)
            if state is TopicState.JOINED
            else None
        )

    def _heartbeat(self) -> Any:
        self.now += INTERVAL
        _, frames = self.machine.advance(self.now, self.now)
        return frames[0]

    def received(self, data: str | bytes) -> list[Event]:
        return self.machine.receive([data], self.now)

    def ended(self) -> list[Event]:
        self.over = True
        return self.machine.end()


def brief(event: Event) -> str:
    """One line a person can read."""
    if isinstance(event, Message):
        text = f"Message {event.topic} {event.event} {event.payload!r}"
    else:
        fields = [
            getattr(event, name)
            for name in type(event).__match_args__
            if name not in {"error", "message"}
        ]
        text = " ".join([type(event).__name__, *map(str, fields)])
        message = getattr(event, "message", None)
        if message is not None:
            text += (
                f" ({message.event} {message.topic} join_ref={message.join_ref} ref={message.ref})"
            )
    return text if len(text) <= 200 else f"{text[:180]}… {len(text)}"


def records(server: str, scenario: str) -> Iterator[dict[str, Any]]:
    for line in (TRANSCRIPTS / server / f"{scenario}.jsonl").read_text().splitlines():
        yield json.loads(line)


def payload_of(record: dict[str, Any]) -> bytes | None:
    """Give the bytes of a frame; ``None`` where the recording has only the beginning of it.

    A compressed frame that was received is followed by a record of its text; one that was sent
    has its text in the record.
    """
    if record.get("inflated") or (record.get("rsv1") and "text" in record):
        text: str = record["text"]
        return text.encode()
    if "text" in record:
        data = record["text"].encode()
    else:
        data = bytes.fromhex(record["hex"].partition("…")[0].partition(".")[0])
    return data if len(data) == record["len"] else None


def replay(server: str, scenario: str) -> list[str]:
    """Give the conversation, line by line: ``>`` sent, ``~`` noted only, ``<`` an event."""
    lines: list[str] = []
    open_ones: dict[str, Conversation] = {}
    for record in records(server, scenario):
        name = record.get("conn", "")
        opcode = record.get("opcode")
        if record["dir"] == "event":
            lines.append(f"{name or '-'} {record['line']}")
            if record["line"].startswith("# "):
                continue
        if opcode == "http":
            if record["dir"] == "recv" and record["text"].startswith("HTTP/1.1 101"):
                open_ones[name] = Conversation(v1="v1" in scenario)
            continue
        if not name:
            continue
        talk = open_ones.get(name)
        if talk is None or talk.over:
            # Several recordings leave the handshake out where it is the same again.
            talk = open_ones[name] = Conversation(v1="v1" in scenario)
        if record["dir"] == "send":
            if opcode in {"text", "binary"}:
                data = payload_of(record)
                how = "~ cut in the recording"
                if data is not None:
                    how = talk.sent(Frame(data, binary=opcode == "binary"))
                lines.append(f"{name} {how}")
        elif record["dir"] == "recv" and record.get("rsv1"):
            continue  # its text is the next record
        elif record["dir"] == "recv" and opcode in {"text", "binary"}:
            data = payload_of(record)
            if data is None:
                lines.append(f"{name} < cut in the recording")
                continue
            came = data.decode() if opcode == "text" else data
            lines.extend(f"{name} < {brief(event)}" for event in talk.received(came))
        elif opcode == "close" and record["dir"] == "recv":
            lines.append(f"{name} closed {record['code']}")
            lines.extend(f"{name} < {brief(event)}" for event in talk.ended())
        elif record["dir"] == "event" and "TCP closed" in record["line"] and not talk.over:
            lines.extend(f"{name} < {brief(event)}" for event in talk.ended())
    return lines


if __name__ == "__main__":
    print("\n".join(replay(*sys.argv[1:3])))
