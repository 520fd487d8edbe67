"""Child specifications and a supervisor's options: what is accepted, and what is said of the rest."""

import itertools
import math
from typing import Any, ClassVar

import attrs
import pytest
from hypothesis import given, strategies as st

from slipstream.errors import ChildSpecError, SlipstreamError, StartError
from slipstream.otp import (
    ChildDefaults,
    ChildSpec,
    GenServer,
    Ignore,
    Supervisor,
    child_keywords,
    open_server,
    open_supervisor,
    start_of,
)
from tests.otp.support import Boom, Diary, Puppet, Role, ping, puppet, settle, virtual

START = start_of(Puppet)

WRONG: dict[str, list[Any]] = {
    "id": [[], {}],
    "start": [None, 5, "Puppet", (Puppet, 1)],
    "restart": ["always", "Permanent", None, True, 1, []],
    "shutdown": [-1, -0.001, math.nan, "brutal", "5", True, [], 1j],
    "type": ["process", None, 0],
    "significant": ["yes", 1, None],
    "name": ["", 3, b"x", ("a",)],
    "backoff": [1.0, "1", True],
    "start_timeout": [-1, math.nan, "1", None, True],
    "drain": [0, "no", None],
    "interrupt_after": [-1, math.nan, "1", False],
    "kill_grace": [-1, math.nan, "1", None, True],
    "slow_after": [-1, 0, math.nan, "1", True],
}
VALID: dict[str, list[Any]] = {
    "restart": ["permanent", "transient", "temporary"],
    "shutdown": [None, 0, 1, 0.5, 5.0, math.inf, "brutal_kill"],
    "type": ["worker", "supervisor"],
    "significant": [False, True],
    "name": [None, "bob"],
    "backoff": [None, lambda *_: None],
    "start_timeout": [0, 3.5, math.inf],
    "drain": [False, True],
    "interrupt_after": [None, 0, 2.5],
    "kill_grace": [0, 5.0],
    "slow_after": [None, 5],
}
CASES = [(key, value) for key, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("key", "value"), CASES, ids=[f"{k}={v!r}" for k, v in CASES])
def test_a_wrong_value_is_refused_with_key_value_and_what_is_accepted(key: str, value: Any) -> None:
    """SUP-072, SUP-014."""
    given_: dict[str, Any] = {"id": "a", "start": START, key: value}
    with pytest.raises(ChildSpecError) as error:
        ChildSpec(**given_)
    text = str(error.value)
    assert f"{key}={value!r}" in text
    assert "it takes" in text
    with pytest.raises(ChildSpecError):
        ChildSpec.of(given_)
    if key not in {"id", "start"}:
        with pytest.raises(ChildSpecError):
            Puppet.child_spec(**{key: value})
        with pytest.raises(ChildSpecError):
            ChildSpec.of(Puppet, **{key: value})
        with pytest.raises(ChildSpecError):
            type("Wrong", (GenServer,), {}, **{key: value})


def test_every_combination_of_valid_values_is_accepted_or_refused_by_rule() -> None:
    """SUP-072: significant and permanent do not go together; everything else does."""
    count = 0
    for values in itertools.product(*VALID.values()):
        options = dict(zip(VALID, values, strict=True))
        refused = options["significant"] and options["restart"] == "permanent"
        try:
            spec = ChildSpec("a", START, **options)
        except ChildSpecError as error:
            assert refused
            assert "significant" in str(error)
        else:
            assert not refused
            assert spec.restart == options["restart"]
            count += 1
    assert count == 2 * (
        2 * 7 * 2 * 2 * 2 * 3 * 2 * 3 * 2
        + 1 * 7 * 2 * 1 * 2 * 2 * 3 * 2 * 3 * 2
        + 2 * 7 * 2 * 2 * 2 * 3 * 2 * 3 * 2
    )


@given(
    st.one_of(
        st.none(),
        st.integers(),
        st.text(),
        st.binary(),
        st.lists(st.integers()),
        st.tuples(st.just(Puppet), st.integers(), st.integers()),
        st.tuples(st.just(int), st.integers()),
        st.just(int),
        st.just(Puppet()),
        st.dictionaries(st.sampled_from(["id", "start", "restart", "nonsense", 7]), st.integers()),
    )
)
def test_anything_else_is_no_child_and_only_our_error_says_so(junk: Any) -> None:
    """Section 4.5: validation is total."""
    with pytest.raises(ChildSpecError):
        ChildSpec.of(junk)


@pytest.mark.parametrize("key", ["restrat", "shutdwon", "modules", "max_restarts"])
def test_an_unknown_key_is_refused_and_the_known_ones_are_told(key: str) -> None:
    """SUP-014: unlike OTP, which ignores it."""
    wrong: dict[str, Any] = {key: "permanent"}
    for make in (
        lambda: ChildSpec("a", START, **wrong),
        lambda: ChildSpec.of({"id": "a", "start": START, key: "permanent"}),
        lambda: ChildSpec.of(Puppet, **wrong),
        lambda: Puppet.child_spec(**wrong),
        lambda: type("Wrong", (GenServer,), {}, **{key: "permanent"}),
    ):
        with pytest.raises(ChildSpecError, match=key) as error:
            make()
        assert "restart" in str(error.value)


def test_a_slip_of_the_pen_is_guessed() -> None:
    with pytest.raises(ChildSpecError, match="did you mean 'restart'"):
        ChildSpec("a", START, restrat="permanent")  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize("missing", ["id", "start"])
def test_a_mapping_needs_id_and_start(missing: str) -> None:
    """SUP-083."""
    given_: dict[str, Any] = {"id": "a", "start": START}
    del given_[missing]
    with pytest.raises(ChildSpecError, match=f"'{missing}'"):
        ChildSpec.of(given_)


def test_the_defaults() -> None:
    """SUP-012: permanent, five seconds for a worker, for ever for a supervisor."""
    worker = ChildSpec("a", START)
    assert attrs.asdict(worker, recurse=False) == {
        "id": "a",
        "start": START,
        "restart": "permanent",
        "shutdown": 5.0,
        "type": "worker",
        "significant": False,
        "name": None,
        "backoff": None,
        "start_timeout": math.inf,
        "drain": False,
        "interrupt_after": None,
        "kill_grace": 5.0,
        "slow_after": None,
    }
    assert ChildSpec("a", START, type="supervisor").shutdown == math.inf
    assert Supervisor.child_spec([]).type == "supervisor"
    assert Supervisor.child_spec([]).shutdown == math.inf
    assert Puppet.child_spec().id is Puppet


def test_a_specification_is_a_value() -> None:
    spec = ChildSpec("a", START)
    assert spec == ChildSpec("a", START)
    assert spec != ChildSpec("b", START)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        spec.id = "b"  # type: ignore[misc]  # the mistake under test


@pytest.mark.parametrize("argument", [5, {"a": 1}, None, [1, 2]])
def test_the_forms_of_a_child_say_the_same(argument: Any) -> None:
    """SUP-018, SUP-082: class, pair and mapping."""
    pair = ChildSpec.of((Puppet, argument))
    assert pair == Puppet.child_spec(argument)
    assert ChildSpec.of(pair) is pair
    mapping = {"id": Puppet, "start": start_of(Puppet, argument)}
    assert ChildSpec.of(mapping) == pair
    assert ChildSpec.of(Puppet) == Puppet.child_spec()


def test_overrides_replace_what_the_child_says() -> None:
    """GS-028, SUP-017, SUP-018."""
    spec = ChildSpec.of((Puppet, 1), id="other", restart="temporary", shutdown=1)
    assert (spec.id, spec.restart, spec.shutdown) == ("other", "temporary", 1)
    assert spec.start == start_of(Puppet, 1)
    nested = Supervisor.child_spec([Puppet], id="sub", shutdown=9.0, strategy="one_for_all")
    assert (nested.id, nested.shutdown, nested.type) == ("sub", 9.0, "supervisor")


def test_class_keywords_are_the_defaults_of_the_class_as_a_child() -> None:
    """GS-028."""

    class Base(GenServer, restart="transient", shutdown=1.0):
        pass

    class Derived(Base, shutdown="brutal_kill", name="derived"):
        pass

    assert child_keywords(Base) == {"restart": "transient", "shutdown": 1.0}
    spec = Derived.child_spec()
    assert (spec.restart, spec.shutdown, spec.name) == ("transient", "brutal_kill", "derived")
    assert Derived.child_spec(restart="permanent").restart == "permanent"
    assert Base.child_spec().shutdown == 1.0
    assert child_keywords(GenServer) == {}
    assert issubclass(GenServer, ChildDefaults)


def test_a_class_that_is_built_a_second_time_keeps_its_keywords() -> None:
    """attrs and dataclass(slots=True) build the class anew, without keywords."""

    @attrs.define
    class Slotted(GenServer, restart="transient", name="slotted"):
        count: int = 0

    assert "__slots__" in vars(Slotted)
    assert Slotted.child_spec().restart == "transient"
    assert Slotted.child_spec().name == "slotted"


@virtual
async def test_a_slotted_class_is_a_process_like_any_other() -> None:
    @attrs.define
    class Slotted(GenServer):
        count: int = 0

        async def handle_cast(self, message: int) -> None:
            self.count += message

    async with open_server(Slotted) as ref:
        ref.cast(3)
        await ref.stop()


def test_a_class_without_child_spec_gets_a_helpful_error() -> None:
    """SUP-018."""

    class Mine:
        pass

    for child in (Mine, (Mine, 1)):
        with pytest.raises(ChildSpecError, match="GenServer"):
            ChildSpec.of(child)  # type: ignore[arg-type]  # the mistake under test


def test_a_child_spec_that_gives_something_else_is_refused() -> None:
    class Odd:
        @classmethod
        def child_spec(cls, *_: Any) -> Any:
            return {"id": 1}

    with pytest.raises(ChildSpecError, match="not a ChildSpec"):
        ChildSpec.of(Odd)


# -- starts


@virtual
async def test_a_start_may_be_a_function_called_for_each_incarnation() -> None:
    """TRI-095: the remedy where an argument has to be fresh each time."""
    made: list[list[int]] = []

    class Holder(GenServer):
        async def init(self, numbers: list[int]) -> None:
            numbers.append(1)
            made.append(numbers)

    async def start() -> Any:
        return start_of(Holder, [])

    for function in (lambda: start_of(Holder, []), start):
        made.clear()
        async with open_supervisor([ChildSpec("a", function)]) as supervisor:
            await supervisor.child("a").stop()
            await settle()
            await supervisor.terminate_child("a")
            await supervisor.restart_child("a")
        assert len(made) == 3
        assert all(numbers == [1] for numbers in made)


@virtual
async def test_a_start_function_may_ignore() -> None:
    async with open_supervisor([ChildSpec("a", Ignore)]) as supervisor:
        assert not supervisor.child("a").alive


def _raise() -> Any:
    raise Boom("in start")


async def _raise_later() -> Any:
    raise Boom("in start")


@pytest.mark.parametrize("function", [_raise, _raise_later])
@virtual
async def test_a_start_function_that_raises_is_a_start_error(function: Any) -> None:
    """SUP-009."""
    async with open_supervisor([]) as supervisor:
        with pytest.raises(StartError) as error:
            await supervisor.start_child(ChildSpec("a", function))
        assert isinstance(error.value.__cause__, Boom)
        assert supervisor.which_children() == []


@pytest.mark.parametrize("value", [None, 5, Puppet, start_of(int)], ids=repr)
@virtual
async def test_a_start_function_that_gives_an_odd_value_is_a_start_error(value: Any) -> None:
    """SUP-009."""
    async with open_supervisor([]) as supervisor:
        with pytest.raises(StartError, match="start"):
            await supervisor.start_child(ChildSpec("a", lambda: value))
        assert supervisor.which_children() == []


@virtual
async def test_a_class_that_can_be_no_process_is_a_start_error() -> None:
    async with open_supervisor([]) as supervisor:
        with pytest.raises((StartError, ChildSpecError), match="GenServer"):
            await supervisor.start_child(ChildSpec("a", start_of(int)))
        assert supervisor.which_children() == []


# -- a supervisor's options

OPTIONS: dict[str, list[Any]] = {
    "strategy": ["one_for_two", "simple_one_for_one", None, 1],
    "max_restarts": [-1, 1.5, "3", True, None, math.inf],
    "max_seconds": [0, -1, math.nan, "5", True, None],
    "auto_shutdown": ["always", True, None],
}
FLAGS = [(key, value) for key, values in OPTIONS.items() for value in values]


@pytest.mark.parametrize(("key", "value"), FLAGS, ids=[f"{k}={v!r}" for k, v in FLAGS])
@virtual
async def test_a_wrong_option_of_a_supervisor_is_refused(key: str, value: Any) -> None:
    """SUP-073: wherever it is given, before anything starts."""
    diary = Diary()
    children = [puppet("a", diary)]
    options: dict[str, Any] = {key: value}
    with pytest.raises(ChildSpecError, match=key) as error:
        async with open_supervisor(children, **options):
            pytest.fail("it must not start")
    assert repr(value) in str(error.value)
    with pytest.raises(ChildSpecError):
        Supervisor.child_spec(children, **options)
    with pytest.raises(ChildSpecError):
        type("Wrong", (Supervisor,), {}, **options)
    assert diary == []


@pytest.mark.parametrize(
    ("options", "named"),
    [({"shutdown": -1}, "shutdown"), ({"shutdown": "5"}, "shutdown"), ({"name": ""}, "name")],
    ids=str,
)
@virtual
async def test_a_wrong_option_of_the_root_is_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ChildSpecError, match=f"{named}="):
        async with open_supervisor([], **options):
            pytest.fail("it must not start")


def test_an_unknown_option_of_a_supervisor_is_refused() -> None:
    """SUP-073: unlike OTP, which ignores it."""
    with pytest.raises(ChildSpecError, match="stratgy"):
        type("Wrong", (Supervisor,), {}, stratgy="one_for_all")
    with pytest.raises(ChildSpecError, match="stratgy"):
        Supervisor.child_spec([], stratgy="one_for_all")  # type: ignore[call-arg]  # the mistake


@pytest.mark.parametrize("children", [5, "ab", {"id": 1}, None, Puppet, b"x"], ids=repr)
@virtual
async def test_children_that_are_no_list_are_refused(children: Any) -> None:
    """SUP-072: a list, and nothing else."""
    with pytest.raises(ChildSpecError, match="list of children"):
        async with open_supervisor(children):
            pytest.fail("it must not start")


@virtual
async def test_two_children_of_one_id_are_refused_before_anything_starts() -> None:
    """SUP-072."""
    diary = Diary()
    children = [puppet("a", diary), puppet("b", diary), puppet("a", diary)]
    with pytest.raises(ChildSpecError, match="'a'"):
        async with open_supervisor(children):
            pytest.fail("it must not start")
    with pytest.raises(ChildSpecError, match="two children"):
        Supervisor.child_spec([Puppet, (Puppet, Role())])
    assert diary == []


@virtual
async def test_a_significant_child_needs_a_supervisor_that_minds() -> None:
    """SUP-098: refused at the start and by start_child, under never and with permanent."""
    spec = puppet("a", significant=True, restart="transient")
    with pytest.raises(ChildSpecError, match="auto_shutdown"):
        async with open_supervisor([spec]):
            pytest.fail("it must not start")
    async with open_supervisor([]) as supervisor:
        with pytest.raises(ChildSpecError, match="auto_shutdown"):
            await supervisor.start_child(spec)
        assert supervisor.which_children() == []
    with pytest.raises(ChildSpecError, match="permanent"):
        puppet("a", significant=True)


@virtual
async def test_a_class_that_bounds_its_options_differently_still_starts() -> None:
    """SUP-022: class keywords of a supervisor, and an argument for its init."""

    class App(Supervisor, strategy="one_for_all", max_restarts=1, shutdown=7.0):
        seen: ClassVar[list[Any]] = []

        async def init(self, argument: Any) -> list[Any]:
            self.seen.append(argument)
            return [(Puppet, Role(name="in app"))]

    assert App.child_spec(5).shutdown == 7.0
    async with open_supervisor([(App, 5)]) as supervisor:
        app = supervisor.child(App)
        assert App.seen == [5]
        assert await app.child(Puppet).call(ping) == 1  # type: ignore[attr-defined]  # a SupervisorRef


def test_every_error_here_is_a_value_error_of_ours() -> None:
    assert issubclass(ChildSpecError, SlipstreamError)
    assert issubclass(ChildSpecError, ValueError)
