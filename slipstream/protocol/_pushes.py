"""Which pushes may still be answered."""

from collections import OrderedDict
from collections.abc import ItemsView
from typing import Final

__all__ = ["PLAIN_LIMIT", "PushRecord", "PushRecords"]

PLAIN_LIMIT: Final = 4096
"""How many written pushes without a deadline are remembered: many channels never reply."""


class PushRecord:
    """One push: where it went, whether it has a deadline, and whether it was written."""

    __slots__ = ("join_ref", "timed", "topic", "written")

    def __init__(self, topic: str, join_ref: str, *, timed: bool) -> None:
        self.topic = topic
        self.join_ref = join_ref
        self.timed = timed
        self.written = False


class PushRecords:
    """The records of one connection's pushes.

    One with a deadline is kept until it has ended. One without owes nothing once it is written, but
    a first reply to it is still wanted: the newest of those are kept.
    """

    def __init__(self) -> None:
        self._pushes: dict[str, PushRecord] = {}
        self._plain: OrderedDict[str, None] = OrderedDict()
        self._of_topic: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._pushes)

    def get(self, ref: str) -> PushRecord | None:
        """Give the record of *ref*."""
        return self._pushes.get(ref)

    def items(self) -> ItemsView[str, PushRecord]:
        """Give all records, oldest first."""
        return self._pushes.items()

    def add(self, ref: str, topic: str, join_ref: str, *, timed: bool) -> None:
        """Remember a push that is queued."""
        self._pushes[ref] = PushRecord(topic, join_ref, timed=timed)
        self._of_topic.setdefault(topic, {})[ref] = None

    def written(self, ref: str) -> None:
        """Note that *ref* was handed to the network."""
        push = self._pushes.get(ref)
        if push is None:
            return
        push.written = True
        if push.timed:
            return
        if ref not in self._of_topic.get(push.topic, {}):
            del self._pushes[ref]  # its topic ended while it was queued
            return
        self._plain[ref] = None
        if len(self._plain) > PLAIN_LIMIT:
            self.remove(next(iter(self._plain)))

    def remove(self, ref: str) -> PushRecord | None:
        """Forget *ref*, which has ended; give what was known of it."""
        push = self._pushes.pop(ref, None)
        if push is not None:
            self._plain.pop(ref, None)
            of_topic = self._of_topic.get(push.topic)
            if of_topic is not None:
                of_topic.pop(ref, None)
                if not of_topic:
                    del self._of_topic[push.topic]
        return push

    def end_topic(self, topic: str) -> list[str]:
        """Forget the pushes to *topic*, whose channel is gone; give those that had a deadline.

        One without a deadline that is still queued is kept: it fails if it is never written.
        """
        failed: list[str] = []
        for ref in self._of_topic.pop(topic, {}):
            push = self._pushes[ref]
            if push.timed:
                failed.append(ref)
            if push.timed or push.written:
                del self._pushes[ref]
                self._plain.pop(ref, None)
        return failed

    def clear(self) -> None:
        """Forget everything."""
        self._pushes.clear()
        self._plain.clear()
        self._of_topic.clear()
