"""What a contract finds in a client, and what it leaves alone."""

import importlib
import os
import re
import sys
import textwrap
from typing import Any

import pytest
import trio
from hypothesis import Phase, settings, strategies as st
from trio.testing import MockClock

from slipstream import Config
from slipstream.otp import StartError
from slipstream.testing import open_socket_test
from slipstream.testing._leaktight import open_leaktight
from slipstream.testing.contracts import (
    ClientContract,
    ContractBrokenError,
    check_any_payload,
    check_cancellation,
    check_no_blocking,
    client_contract,
    sent,
)
from slipstream.testing.contracts._script import script_of
from slipstream.testing.conversations import SendPush
from tests.testing.contract_clients import right, wrong

PRICES = st.fixed_dictionaries({"n": st.integers(0, 9)})
CONFIG = Config("ws://server.test/socket/websocket", reconnect=[1.0, 2.0, 5.0], rejoin=[1.0, 5.0])
EXAMPLES = int(os.environ.get("SLIPSTREAM_CONTRACT_EXAMPLES", "50"))


def contract_of(client: Any, **options: Any) -> ClientContract:
    given: dict[str, Any] = {
        "topics": [wrong.TOPIC],
        "events": ["msg", "ping"],
        "payloads": PRICES,
        **options,
    }
    return client_contract(client, CONFIG, **given)


@sent("phx_join")
def joins_with_what_is_known(test: Any, message: Any) -> None:
    assert message.payload["since"] == test.client.seen


def test_a_contract_about_other_topics_than_the_client_s_proves_nothing() -> None:
    contract = contract_of(right.Ticker, topics=["contarct"])
    with pytest.raises(ValueError, match="topics has 'contarct', which Ticker never joins; it"):
        contract.run(settings(max_examples=5, deadline=None))


CALLS = {"requests": st.just("seen")}
CASTS = {"casts": st.just("reset")}

WRONG: list[tuple[Any, str, str, dict[str, Any]]] = [
    (wrong.TakesEachFieldForGranted, "crash", r"handle_message\(.*KeyError\('n'\)", {}),
    (wrong.TakesEachReplyForOk, "crash", r"handle_reply\(.*KeyError\('count'\)", {}),
    (wrong.KnowsAllEvents, "crash", r"handle_message\(.*KeyError\('contract:unknown'\)", {}),
    (wrong.LeavesUponWhatItDoesNotKnow, "unknown-event", r"calls disconnect\(\) upon", {}),
    (wrong.StopsUponWhatItDoesNotKnow, "unknown-event", r"returns Stop\(.*Ignore it", {}),
    (wrong.TrustsTheOrder, "crash", "AssertionError.*messages come twice", {}),
    (wrong.TrustsThatNothingComesTwice, "crash", "the same message again", {}),
    (wrong.ChangesWhatItIsGiven, "changed-payload", "handle_message changes the payload", {}),
    (wrong.TakesThePlaceOfAnotherForItsOwn, "crash", r"ping\(.*KeyError\('room'\)", {}),
    (wrong.JoinsOnceOnly, "crash", r"handle_join\(.*AssertionError", {}),
    (wrong.ForgetsWhoLeft, "grows-with-reconnects", "rooms alone holds", {}),
    (wrong.PushesBeforeItHasJoined, "push-before-join", "'hello' to 'rooms:lobby'", {}),
    (wrong.PushesWithoutJoining, "crash", "NotJoinedError.*Join a topic before you push", {}),
    (
        wrong.PushesByTheClock,
        "rule",
        "'report' is pushed to .*, which is",
        {"invariants": wrong.JOINED},
    ),
    (wrong.SaysHelloTooEarly, "rule", "before handle_presence", {"invariants": wrong.WELCOMED}),
    (wrong.InsistsOnARoom, "tight-rejoin", "5 times in a row", {}),
    (wrong.GivesUpARoom, "rule", "'rooms:lobby' is", {"invariants": wrong.RECOVERS}),
    (wrong.JoinsForOneConnection, "rule", "'rooms:lobby' is", {"invariants": wrong.RECOVERS}),
    (
        wrong.AsksWithWhatItKnewAtFirst,
        "rule",
        "joins_with_what_is_known",
        {"invariants": [joins_with_what_is_known]},
    ),
    (wrong.ConnectsAgainAtOnce, "tight-reconnect", "leave the delay to the policy", {}),
    (wrong.GivesUpTheConnection, "rule", "recovers", {"invariants": wrong.RECOVERS}),
    (wrong.StartsATimerOnEachConnect, "duplicate-timer", "begun by a handle_connect", {}),
    (wrong.StartsATaskOnEachJoin, "duplicate-task", "poll.*begun by a handle_join", {}),
    (wrong.KeepsEachOutage, "grows-with-reconnects", "outages alone holds", {}),
    (wrong.KeepsEachMessage, "rule", "socket.assigns alone holds", {"invariants": wrong.BOUNDED}),
    (wrong.KeepsARefOfEachPush, "grows-with-reconnects", "waiting alone holds", {}),
    (wrong.Sleeps, "blocking-call", r"handle_message blocks for .* in time\.sleep", {}),
    (wrong.SleepsInATask, "blocking-call", r"the task .*work blocks .* in time\.sleep", {}),
    (wrong.WaitsForEver, "stuck-callback", "handle_join has not returned .*waits in", {}),
    (wrong.WaitsForAMessageWithoutALimit, "stuck-callback", "Give the wait a time-out", {}),
    (wrong.WaitsInATaskOfItsOwn, "crash", "WrongTaskError.*use socket.request", {}),
    (wrong.NeverReplies, "unanswered-call", r"handle_call\('seen'\)", CALLS),
    (wrong.WaitsInACall, "stuck-callback", "handle_call has not returned", CALLS),
    (wrong.CallsItself, "crash", "CallingSelfError", {}),
    (wrong.ReturnsAValue, "crash", "BadReturnError.*handle_message returned", {}),
    (wrong.ReturnsNothingFromACall, "crash", "BadReturnError.*handle_call returned", CALLS),
    (wrong.RepliesToACast, "crash", "BadReturnError.*handle_cast returned", CASTS),
    (wrong.HasNoHandleCast, "crash", "NotImplementedError.*has no callback for", CASTS),
    (wrong.ForgetsToAwait, "never-awaited", "Socket.push.*did you forget await", {}),
    (wrong.ReturnsWhatItShouldAwait, "crash", "did you forget await", {}),
    (wrong.FailsToStart, "init", "no configuration", {}),
    (wrong.CatchesEverything, "swallowed-cancel", "handle_join goes on although", {}),
    (wrong.IgnoresThatItIsCancelled, "swallowed-cancel", "handle_message goes on although", {}),
    (wrong.RetriesWhateverHappens, "swallowed-cancel", "handle_join goes on although", {}),
    (wrong.FailsToSayGoodbye, "crash", r"terminate\(.*NotJoinedError", {}),
    (wrong.TakesTooLongToSayGoodbye, "slow-stop", "terminate did not end within", {}),
    (wrong.LeavesATaskBehind, "task-left-behind", "sleep_forever", {}),
    (wrong.SharesAList, "shared-state", r"SharesAList\.heard has changed", {}),
    (wrong.SharesACounter, "shared-state", r"SharesACounter\.connects has changed", {}),
    (wrong.SharesADefaultDict, "shared-state", r"SharesADefaultDict\.counts has changed", {}),
    (wrong.ForgetsToAnswer, "rule", "'ping' on .* was not answered", {"invariants": wrong.ANSWERS}),
]


@pytest.mark.parametrize(
    ("client", "code", "text", "options"),
    [pytest.param(*case, id=case[0].__name__) for case in WRONG],
)
def test_a_mistake_is_found_and_named(
    client: Any, code: str, text: str, options: dict[str, Any]
) -> None:
    contract = contract_of(client, **options)
    # As it is found; how the least is found is for another test.
    contract.TestCase.settings = settings(
        contract.TestCase.settings, phases=[Phase.generate], derandomize=True
    )
    with pytest.raises(ContractBrokenError) as caught:
        contract.TestCase("test_contract").debug()
    assert caught.value.mistake.code == code, caught.value
    assert re.search(text, caught.value.mistake.text), caught.value


def run_script(message: str) -> None:
    """Run the test that *message* shows, as pytest does with the fixture ``socket_test``."""
    script = textwrap.dedent(message.partition("as a test:\n\n")[2])
    names: dict[str, Any] = {}
    exec(compile(script, "pasted", "exec"), names)  # noqa: S102 - this is what it is for
    [test] = [value for name, value in names.items() if name.startswith("test_")]
    trio.run(test, open_leaktight, clock=MockClock(autojump_threshold=0))


# One of each kind; EVERY takes all of them, and some minutes.
PASTED = [
    wrong.KnowsAllEvents,
    wrong.ForgetsToAwait,
    wrong.StartsATimerOnEachConnect,
    wrong.InsistsOnARoom,
    wrong.GivesUpARoom,
    wrong.CatchesEverything,
    wrong.NeverReplies,
    wrong.LeavesATaskBehind,
    wrong.SharesAList,
]
EVERY = "SLIPSTREAM_CONTRACT_EXAMPLES" in os.environ


@pytest.mark.parametrize(
    ("client", "options"),
    [
        pytest.param(client, options, id=client.__name__)
        for client, _, _, options in WRONG
        if EVERY or client in PASTED
    ],
)
def test_the_least_that_shows_it_fails_when_it_is_pasted(
    client: Any, options: dict[str, Any]
) -> None:
    case = contract_of(client, **options).TestCase
    case.settings = settings(case.settings, derandomize=True)
    with pytest.raises(ContractBrokenError) as caught:
        case("test_contract").debug()
    with pytest.raises((AssertionError, StartError)):
        run_script(str(caught.value))


@pytest.mark.parametrize("client", right.RIGHT)
def test_a_client_without_a_mistake_is_not_blamed(client: Any) -> None:
    contract = contract_of(
        client,
        topics=[wrong.TOPIC, "rooms:other"]
        if client in {right.Typed, right.Hopper}
        else [wrong.TOPIC],
        requests=st.just("seen") if client in {right.Ticker, right.Later} else None,
        casts=st.just("reset") if client is right.Ticker else None,
        infos=st.just("report") if client is right.Ticker else None,
    )
    case = contract.TestCase
    case.settings = settings(case.settings, max_examples=EXAMPLES, database=None)
    case("test_contract").debug()


# -- single callbacks


@pytest.mark.parametrize(
    ("client", "callback", "args", "count"),
    [
        (right.Greeter, "handle_join", (wrong.TOPIC, {}), 1),
        (right.Linear, "handle_connect", (), 4),
        (right.Ticker, "handle_call", ("seen",), 0),
    ],
)
def test_a_callback_that_may_be_stopped_anywhere(
    client: Any, callback: str, args: tuple[Any, ...], count: int
) -> None:
    assert check_cancellation(client, callback, *args) == count


@pytest.mark.parametrize(
    ("client", "callback", "args", "text"),
    [
        (wrong.CatchesEverything, "handle_join", (wrong.TOPIC, {}), "goes on although"),
        (wrong.IgnoresThatItIsCancelled, "handle_message", (wrong.TOPIC, "msg", {}), "goes on"),
        (wrong.RetriesWhateverHappens, "handle_join", (wrong.TOPIC, {}), "goes on although"),
    ],
)
def test_a_callback_that_goes_on_when_it_is_stopped(
    client: Any, callback: str, args: tuple[Any, ...], text: str
) -> None:
    with pytest.raises(ContractBrokenError, match=text):
        check_cancellation(client, callback, *args, joined=[wrong.TOPIC])


def test_a_callback_that_blocks_is_told_from_one_that_does_not() -> None:
    message: tuple[Any, ...] = (wrong.TOPIC, "msg", {})
    check_no_blocking(right.Greeter, "handle_message", *message)
    with pytest.raises(ContractBrokenError, match=r"in time\.sleep \(.*wrong\.py:\d+\)"):
        check_no_blocking(wrong.Sleeps, "handle_message", *message, joined=[wrong.TOPIC])


def test_a_payload_may_be_anything() -> None:
    check_any_payload(right.Typed, wrong.TOPIC, "msg", max_examples=20)
    with pytest.raises(ContractBrokenError, match=r"'msg', \{\}\) raised KeyError\('n'\)"):
        check_any_payload(wrong.TakesEachFieldForGranted, wrong.TOPIC, "msg")


# -- around it


def test_rules_can_be_added_by_decorators() -> None:
    contract = contract_of(right.Greeter)
    looked: list[str] = []

    @contract.invariant
    def is_connected_or_not(test: Any) -> None:
        looked.append("invariant")

    @contract.sent("phx_join")
    def joins_as_user_1(test: Any, message: Any) -> bool:
        looked.append("sent")
        return bool(message.payload == {"user": 1})

    @contract.after("handle_join")
    def has_greeted(test: Any, call: Any) -> bool:
        looked.append("after")
        return bool(call.args[0] != wrong.TOPIC)

    with pytest.raises(ContractBrokenError, match=r"\[rule\]: has_greeted does not hold"):
        contract.check({}, [])
    assert {"invariant", "sent", "after"} == set(looked)


def test_what_is_allowed_is_no_mistake() -> None:
    contract_of(wrong.SharesACounter, allow=["shared-state"]).check({}, [])
    with pytest.raises(ContractBrokenError):
        contract_of(wrong.SharesACounter).check({}, [])
    with pytest.raises(ValueError, match="allow has 'shared'; accepted are 'crash'"):
        contract_of(wrong.SharesACounter, allow=["shared"])


def test_a_test_of_ones_own_can_hold_a_client_to_its_contract() -> None:
    async def scenario(client: Any) -> None:
        async with open_socket_test(client, contract=True) as test:
            await test.connect_and_join(wrong.TOPIC)
            await test.push(wrong.TOPIC, "msg", {"n": 1}, times=3)

    trio.run(scenario, right.Typed, clock=MockClock())
    with pytest.raises(ContractBrokenError, match="shared-state"):
        trio.run(scenario, wrong.SharesAList, clock=MockClock())
    with pytest.raises(ContractBrokenError, match="changed-payload"):
        trio.run(scenario, wrong.ChangesWhatItIsGiven, clock=MockClock())


def test_state_of_the_class_does_not_reach_the_next_example() -> None:
    contract = contract_of(wrong.SharesADefaultDict, allow=["shared-state"])
    contract.check({}, [SendPush(wrong.TOPIC, "msg", {})])
    assert wrong.SharesADefaultDict.counts == {}


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ("ws://a.test/", "'ws://a.test/'"),
        (Config("ws://a.test/", reconnect=[1.0], join_timeout=2.0),
         "Config('ws://a.test/', join_timeout=2.0, reconnect=[1.0])"),
        (Config("ws://a.test/", auth_token="secret"), "# left out of the configuration: auth_token"),  # noqa: S106 - that of the test
    ],
)  # fmt: skip
def test_a_script_shows_the_configuration_and_no_secret(config: Any, shown: str) -> None:
    script = script_of(right.Silent, config, [], code="crash")
    assert shown in script
    assert "secret" not in script


def test_without_its_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "slipstream.testing.contracts")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'slipstream\[testing\]'"):
        importlib.import_module("slipstream.testing.contracts")
