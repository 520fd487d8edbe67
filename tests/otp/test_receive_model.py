"""Selective receive against a model: a list, and whoever looks through it from the front."""

import math
from typing import Any, TypeAlias

import attrs
import hypothesis
import trio
from hypothesis import given, settings, strategies as st

from slipstream.errors import AwaitTimeoutError
from slipstream.otp import Exit, GenServer, open_server
from slipstream.otp._ref import process_of
from tests.otp.support import Diary, run_virtually, settle

FRACTION = 2.0**-6
"""Deadlines end with it; messages come by whole seconds, so that no two things are at one instant."""
END = 50.0
"""Seconds after which the process is stopped."""


@attrs.frozen
class Receive:
    """That the callback waits for a message of *kind*."""

    kind: int
    timeout: float | None


@attrs.frozen
class Post:
    """A message, with what its callback receives; or what is taken out of the mailbox."""

    what: str
    kind: int
    receives: list[Receive]


Schedule: TypeAlias = list[tuple[int, list[Post]]]
Letter: TypeAlias = tuple[int, Post]

kinds = st.integers(0, 2)
receives = st.builds(
    Receive, kinds, st.sampled_from([None, 0.0, 1 + FRACTION, 2 + FRACTION, 4 + FRACTION])
)
posts = st.builds(
    Post,
    st.sampled_from(["info", "info", "info", "cast", "remove"]),
    kinds,
    st.one_of(st.just([]), st.lists(receives, max_size=4)),
)
anything = st.lists(
    st.tuples(st.integers(1, 2), st.lists(posts, min_size=1, max_size=4)), max_size=8
)


class Model:
    """What is to happen: who is handled and who received, when, and how much is looked at."""

    def __init__(self, schedule: Schedule) -> None:
        self.now = 0.0
        self.written: list[tuple[Any, ...]] = []
        self.looked = 0
        self.queue: list[Letter] = []
        self.batches: list[tuple[float, list[Letter]]] = []
        at, serial = 0.0, 0
        for gap, batch in schedule:
            at += gap
            self.batches.append((at, list(enumerate(batch, serial))))
            serial += len(batch)

    def run(self) -> None:
        while True:
            while self.batches and self.batches[0][0] <= self.now:
                self.arrive()
            if self.queue:
                serial, post = self.queue.pop(0)
                self.written.append((post.what, serial, self.now))
                if not all(self.receive(receive) for receive in post.receives):
                    self.written.append(("stopped", END))
                    return
            elif self.batches:
                self.now = self.batches[0][0]
            else:
                return

    def arrive(self) -> bool:
        """Let the next batch come; tell whether something was taken out: it is looked at again."""
        took = False
        for serial, post in self.batches.pop(0)[1]:
            if post.what == "remove":
                kept = [letter for letter in self.queue if not self.is_taken(letter, post.kind)]
                took = took or kept != self.queue
                self.queue = kept
            else:
                self.queue.append((serial, post))
        return took

    def is_taken(self, letter: Letter, kind: int) -> bool:
        return letter[1].what == "info" and letter[1].kind == kind

    def receive(self, receive: Receive) -> bool:
        deadline = math.inf if receive.timeout is None else self.now + receive.timeout
        seen = 0
        while True:
            for letter in self.queue[seen:]:
                if letter[1].what == "info":
                    self.looked += 1
                    if self.is_taken(letter, receive.kind):
                        self.queue.remove(letter)
                        self.written.append(("received", letter[0], self.now))
                        return True
            seen = len(self.queue)
            if self.batches and self.batches[0][0] <= deadline:
                self.now = self.batches[0][0]
                if self.arrive():
                    seen = 0
            elif deadline == math.inf:
                return False
            else:
                self.now = deadline
                self.written.append(("received", None, self.now))
                return True


class Reader(GenServer):
    """Receives what its messages say, and writes down what it gets."""

    async def init(self, diary: Diary) -> None:
        self.diary = diary
        self.begun = trio.current_time()
        self.looked = 0

    def write(self, *entry: Any) -> None:
        self.diary.write(*entry, trio.current_time() - self.begun)

    async def handle_info(self, message: Letter) -> None:
        await self.act(*message)

    async def handle_cast(self, message: Letter) -> None:
        await self.act(*message)

    async def act(self, serial: int, post: Post) -> None:
        self.write(post.what, serial)
        for receive in post.receives:
            await self.one(receive)

    async def one(self, receive: Receive) -> None:
        def matching(message: Letter) -> bool:
            self.looked += 1
            return message[1].kind == receive.kind

        try:
            serial, _ = await self.receive(matching, receive.timeout)
        except AwaitTimeoutError:
            self.write("received", None)
        except Exit:
            self.write("stopped")
            raise
        else:
            self.write("received", serial)

    def take_out(self, kind: int) -> None:
        self.mailbox.remove(lambda message: bool(message[1].kind == kind))


async def compare(schedule: Schedule) -> None:
    """Have a process receive, and compare what it got with the model."""
    model = Model(schedule)
    diary = Diary()
    batches = list(model.batches)
    model.run()
    async with open_server(Reader, diary) as ref:
        reader: Reader = process_of(ref).server  # type: ignore[union-attr]  # it lives
        for at, batch in batches:
            await trio.sleep_until(reader.begun + at)
            for serial, post in batch:
                match post.what:
                    case "info":
                        ref.send((serial, post))
                    case "cast":
                        ref.cast((serial, post))
                    case _:
                        reader.take_out(post.kind)
            await settle()
        await trio.sleep_until(reader.begun + END)
        await settle()
        stopped = bool(model.written) and model.written[-1][0] == "stopped"
        assert len(reader.mailbox) == (len(model.queue) if stopped else 0)
    assert diary == model.written
    assert reader.looked <= model.looked


def check(drawn: st.SearchStrategy[Any], examples: int = 200, **options: Any) -> None:
    """Compare as many *examples* with the model; raise at the first difference."""

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        **options,
    )
    @given(drawn)
    def test(schedule: Schedule) -> None:
        run_virtually(compare, schedule)

    test()


def test_receive_agrees_with_the_model() -> None:
    """Section 4.3, GS-053: nothing lost, doubled or out of order, and each message looked at once."""
    check(anything)
