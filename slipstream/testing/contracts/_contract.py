"""client_contract: a property of a whole client."""

import logging
import random
import unittest
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Final

import hypothesis
import trio
from hypothesis import HealthCheck, Phase, Verbosity, given, settings, strategies as st
from trio.testing import MockClock

from slipstream.client import SlipstreamClient
from slipstream.errors import StartError
from slipstream.interfaces import Payload
from slipstream.protocol.messages import PHX_JOIN
from slipstream.testing._leaktight import open_leaktight

from ._draw import Payloads, contract_steps, welcomes
from ._mistake import CODES, ContractBrokenError, Mistake
from ._play import Play
from ._rules import Check, Rule, after as after_, invariant as invariant_, sent as sent_
from ._script import script_of
from ._steps import ContractStep
from ._watch import Watch

__all__ = ["ClientContract", "client_contract", "quiet"]

__tracebackhide__ = True  # pytest shows what was found, not how

Steps = Sequence[ContractStep]
Example = tuple[dict[str, Any], Steps]

_UNSURE: Final = frozenset({"blocking-call"})
"""What the machine itself may have brought about, and so has to happen twice."""


def client_contract(
    client: type[SlipstreamClient],
    config: Any,
    *,
    topics: Sequence[str],
    events: Sequence[str],
    payloads: Payloads,
    invariants: Iterable[Rule] = (),
    responses: Mapping[str, st.SearchStrategy[Payload]] | None = None,
    requests: st.SearchStrategy[Any] | None = None,
    casts: st.SearchStrategy[Any] | None = None,
    infos: st.SearchStrategy[Any] | None = None,
    allow: Iterable[str] = (),
    longest_callback: float = 60.0,
) -> "ClientContract":
    """Hold *client* to its contract, whatever its server, the network and the program do.

    One line in a file of tests is enough::

        TestLobby = client_contract(Lobby, URI, topics=["lobby"], events=["msg"], payloads=msgs).TestCase

    Each example is a list of steps, played to a client in virtual time; what is found is shown
    with the least that shows it, as a test to paste.

    Args:
        client: the class.
        config: what its ``init`` gets.
        topics: what it joins.
        events: what its server sends. It will send one more, that no client knows.
        payloads: of these events: a strategy for all, or one for each by name; one without
            has ``{}``.
        invariants: rules of your own: see :func:`invariant`, :func:`after`, :func:`sent`,
            :func:`answered`, :func:`never_before`, :func:`only_while_joined`, :func:`bounded`,
            :func:`recovers`, :class:`Rule`.
        responses: what the server answers, by the event of the push, and by ``"phx_join"``; ``{}``
            where nothing is given. What is refused has ``{"reason": …}``.
        requests: what the client is called with; by default it is not.
        casts: what is cast to it.
        infos: what is sent to its ``handle_info``.
        allow: codes of mistakes that are none for this client.
        longest_callback: seconds that a callback, or the answer to a call, may take.

    Raises:
        ValueError: for a code that is none, or nothing to draw from.
    """
    return ClientContract(
        client,
        config,
        invariants,
        allow=allow,
        longest_callback=longest_callback,
        topics=topics,
        examples=st.tuples(
            welcomes(responses or {}),
            contract_steps(topics, events, payloads, responses or {}, requests, casts, infos),
        ),
    )


class ClientContract:
    """What a client is held to; :func:`client_contract` makes one.

    Attributes:
        client: the class.
        TestCase: a ``unittest.TestCase``, for a name of your own in a file of tests. Its attribute
            ``settings`` is Hypothesis', as in a state machine's.
    """

    TestCase: "type[ContractCase]"

    def __init__(
        self,
        client: type[SlipstreamClient],
        config: Any,
        rules: Iterable[Rule],
        *,
        examples: st.SearchStrategy[Example],
        topics: Iterable[str] = (),
        allow: Iterable[str] = (),
        longest_callback: float = 60.0,
    ) -> None:
        self.client = client
        self._config = config
        self._rules = list(rules)
        self._allow = check_codes(allow)
        self._longest = longest_callback
        self._examples = examples
        self._grows: bool | None = None
        self._topics = frozenset(topics)
        self._joined: set[str] = set()
        self.TestCase = _test_case(self)

    # -- rules

    def invariant(self, check: Check) -> Rule:
        """Add the rule ``check(test)``; see :func:`invariant`."""
        return self._add(invariant_(check))

    def after(self, *callbacks: str) -> Callable[[Check], Rule]:
        """Add the rule ``check(test, call)``; see :func:`after`."""
        return lambda check: self._add(after_(*callbacks)(check))

    def sent(self, *events: str) -> Callable[[Check], Rule]:
        """Add the rule ``check(test, message)``; see :func:`sent`."""
        return lambda check: self._add(sent_(*events)(check))

    def _add(self, rule: Rule) -> Rule:
        self._rules.append(rule)
        return rule

    # -- running

    def watch(self, *, names_calls: bool = False) -> Watch:
        """Make what watches one example."""
        return Watch(
            self.client,
            self._rules,
            allow=self._allow,
            longest_callback=self._longest,
            names_calls=names_calls,
        )

    def run(self, options: settings) -> None:
        """Try examples, as *options* say.

        Raises:
            ContractBrokenError: for the least that breaks the contract.
            ValueError: if the client joins other topics than it was said to: nothing was tried then.
        """

        @options
        @given(self._examples)
        def holds(example: Example) -> None:
            self.check(*example)

        holds.hypothesis.inner_test._hypothesis_internal_add_digest = (  # type: ignore[attr-defined]  # as its plugin for pytest does
            f"{self.client.__module__}.{self.client.__qualname__}".encode()
        )
        holds()
        self._check_topics()

    def _check_topics(self) -> None:
        never, others = sorted(self._topics - self._joined), sorted(self._joined - self._topics)
        if never and others:
            raise ValueError(
                f"topics has {', '.join(map(repr, never))}, which {self.client.__qualname__} never "
                f"joins; it joins {', '.join(map(repr, others))}"
            )

    def check(self, welcome: dict[str, Any], steps: Steps) -> None:
        """Try one example: *welcome* is what joins are answered with.

        Raises:
            ContractBrokenError: if it breaks the contract.
        """
        found, lines = self._try(welcome, steps)
        if found is not None and found.code in _UNSURE:
            # Once for sure, and once more for its name.
            found, lines = self._try(welcome, steps, names_calls=True)
        if found is None:
            return
        script = script_of(
            self.client,
            self._config,
            lines,
            code=found.code,
            rules=self._rules,
        )
        shown = "\n    ".join(script.splitlines())
        more = f"\n\n  The least that shows it, as a test:\n\n    {shown}\n"
        error = ContractBrokenError(found, self.client.__qualname__, more)
        raise error from found.cause

    def _try(
        self, welcome: dict[str, Any], steps: Steps, *, names_calls: bool = False
    ) -> tuple[Mistake | None, list[str]]:
        watch = self.watch(names_calls=names_calls)
        watch.grows = self._grows
        watch.welcome = welcome.get(PHX_JOIN, {})
        lines: list[str] = []
        with quiet(), _same_chance():
            found = trio.run(
                partial(self._scenario, watch, welcome, steps, lines), clock=MockClock()
            )
        self._grows = watch.grows
        self._joined |= watch.topics
        return found, lines

    async def _scenario(
        self, watch: Watch, welcome: dict[str, Any], steps: Steps, lines: list[str]
    ) -> Mistake | None:
        try:
            async with open_leaktight(self.client, self._config, contract=watch) as test:
                play = Play(test, watch, welcome)
                try:
                    await play.play(steps)
                finally:
                    lines += play.lines
        except ContractBrokenError as broken:
            return broken.mistake
        except StartError as error:
            return Mistake("init", f"its init failed: {error}", error)
        except AssertionError as error:
            mistake = watch.first() or _left_behind(error)
            if mistake is None:
                raise
            return mistake
        return None


def _left_behind(error: AssertionError) -> Mistake | None:
    head, _, tasks = str(error).partition("left behind:\n")
    if head or not tasks:
        return None
    return Mistake(
        "task-left-behind",
        f"it leaves behind when it has ended: {' '.join(tasks.split())}. What it starts with start_soon "
        "ends with it",
    )


def check_codes(allow: Iterable[str]) -> frozenset[str]:
    """Give the codes that are allowed.

    Raises:
        ValueError: for one that is none.
    """
    codes = frozenset(allow)
    for code in codes:
        if code not in CODES:
            raise ValueError(f"allow has {code!r}; accepted are {', '.join(map(repr, CODES))}")
    return codes


@contextmanager
def quiet() -> Generator[None]:
    """Leave out the reports of all the crashes on the way to the least."""
    logger = logging.getLogger("slipstream")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _same_chance() -> Generator[None]:
    """Draw delays as the test that is shown does."""
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)


class ContractCase(unittest.TestCase):
    """Holds a client to its contract.

    Attributes:
        settings: how many examples are tried, and so on.
    """

    contract: ClassVar[ClientContract]
    settings: ClassVar[hypothesis.settings] = hypothesis.settings(
        max_examples=100,
        deadline=None,
        report_multiple_bugs=False,
        print_blob=False,
        verbosity=Verbosity.quiet,
        phases=[phase for phase in Phase if phase is not Phase.explain],  # which says no more
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )

    def test_contract(self) -> None:
        """Try examples."""
        self.contract.run(self.settings)


def _test_case(contract: ClientContract) -> type[ContractCase]:
    name = f"{contract.client.__name__}Contract"
    return type(name, (ContractCase,), {"contract": contract, "__module__": __name__})
