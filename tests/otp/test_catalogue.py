"""The catalogue of behaviours: each has an id, which the docstring of a test names.

The behaviours are those of OTP's and Elixir's own test suites, translated for trio, and what trio
adds to them.
"""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

CATALOGUE: dict[str, list[tuple[int, int]]] = {
    "GS": [(1, 30), (40, 73), (80, 87)],  # GenServer
    "SUP": [(1, 23), (30, 63), (70, 87), (90, 98)],  # Supervisor
    "DYN": [(1, 44)],  # DynamicSupervisor
    "PAR": [(1, 9)],  # PartitionSupervisor
    "REG": [(1, 24)],  # Registry
    "TSK": [(1, 7)],  # TaskSupervisor
    "AWT": [(1, 14)],  # awaiting inside callbacks
    "TRI": [  # what trio adds
        (1, 3),
        (10, 15),
        (20, 26),
        (30, 33),
        (40, 44),
        (50, 56),
        (60, 65),
        (70, 75),
        (80, 84),
        (90, 99),
    ],
}

NOT_APPLICABLE = {
    "SUP-071": "a start gives a reference, and no information beside it",
    "DYN-035": "a start gives a reference, and no information beside it",
    "TRI-032": "Ignore is returned, never raised: no group can hold it",
}

# Cases of the source suites that have no id: what they are about is not there.
LEFT_OUT: dict[str, dict[str, list[str]]] = {
    "gen_server_SUITE": {
        "distribution, global names": [
            *["stop5", "stop6", "stop8", "stop9", "stop10", "cast_fast", "abcast", "multicall"],
            *["multicall_down", "multicall_remote", "multicall_remote_old1"],
            *["multicall_remote_old2", "multicall_recv_opt_success", "multicall_recv_opt_timeout"],
            *["multicall_recv_opt_noconnection", "call_remote1", "call_remote2", "call_remote3"],
            *["call_remote_n1", "call_remote_n2", "call_remote_n3"],
        ],
        "enter_loop and proc_lib; what is left of it is GS-030": [
            *["spec_init", "spec_init_local_registered_parent"],
            *["spec_init_global_registered_parent", "otp_5854"],
        ],
        "hibernation": ["hibernate", "auto_hibernate"],
        "the encoding of aliases": ["reply_by_alias_with_payload"],
        "code change": ["undef_code_change"],
    },
    "gen_server_test": {
        "distribution, global names": ["abcast/3", "multi_call/4", "start_link/3 with global"]
    },
    "supervisor_SUITE": {
        "code change": [
            *["code_change", "code_change_map", "code_change_simple", "code_change_simple_map"],
            *["get_callback_module", "significant_upgrade_never_any"],
            *["significant_upgrade_any_never", "significant_upgrade_never_all"],
            *["significant_upgrade_all_never", "significant_upgrade_any_all"],
            *["significant_upgrade_all_any", "significant_upgrade_child"],
        ],
    },
    "supervisor_test": {
        "specifications as tuples of six": [
            *["init/2 with old and new child specs", "start_link/2 with old and new specs"],
            "supports old child spec",
        ],
        "global names": ["start_link/3 with global"],
    },
    "dynamic_supervisor_test": {
        "spawn options": ["with spawn_opt"],
        "the initial call of a process": ["sets initial call to the same as a regular supervisor"],
        "code change": ["with ok init", "with non-ok init (the second)"],
        "specifications as tuples of six": ["supports old child spec"],
    },
    "registry_test": {
        "partitions": [
            "dispatches to multiple keys in parallel",
            "starts configured number of partitions (unique)",
            "starts configured number of partitions (duplicate)",
            "rejects invalid tuple syntax",
        ],
        "match specifications of ETS: a predicate is a function": [
            "supports reserved keys (unique)",
            "supports reserved keys (duplicate)",
            "uses exact complex keys in lookup and match",
            "select with reserved-atom keys",
            "count_select with reserved-atom keys",
            "select raises on incorrect shape of match spec",
            "count_select raises on incorrect shape of match spec",
        ],
    },
}

ID = re.compile(rf"\b(?:{'|'.join(CATALOGUE)})-\d+\b")


def catalogue() -> set[str]:
    """Give every id."""
    return {
        f"{family}-{number:03}"
        for family, ranges in CATALOGUE.items()
        for first, last in ranges
        for number in range(first, last + 1)
    }


def named_in(source: str) -> set[str]:
    """Give the ids in the docstrings of the tests in *source*: functions, and classes such as machines."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                if isinstance(node, ast.ClassDef) or node.name.startswith("test_"):
                    found.update(ID.findall(ast.get_docstring(node) or ""))
            case _:
                pass
    return found


def test_only_the_docstrings_of_tests_count() -> None:
    source = '''
"""GS-001"""

def helper():
    """GS-002"""

async def test_it():
    """GS-003, REG-04: GS-0055, XGS-005 and `DYN-006`."""
    text = "GS-007"

class Machine:
    """SUP-008"""
    def test_more(self):
        """TRI-010 to TRI-012"""
'''
    assert named_in(source) == {
        *["GS-003", "REG-04", "GS-0055", "DYN-006", "SUP-008", "TRI-010", "TRI-012"]
    }


def test_the_catalogue_is_whole() -> None:
    sizes = Counter(name.split("-")[0] for name in catalogue())
    assert sizes == Counter(GS=72, SUP=84, DYN=44, PAR=9, REG=24, TSK=7, AWT=14, TRI=59)
    assert set(NOT_APPLICABLE) <= catalogue()
    cases = {
        suite: [case for named in reasons.values() for case in named]
        for suite, reasons in LEFT_OUT.items()
    }
    assert sum(map(len, cases.values())) == 64
    assert all(len(named) == len(set(named)) for named in cases.values())


def test_the_guide_tells_what_is_left_out() -> None:
    guide = (TESTS.parent / "guides/otp.md").read_text("utf-8").partition("that are left out")[2]
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", guide, re.MULTILINE))
    assert {key: value for key, value in rows.items() if ID.fullmatch(key)} == NOT_APPLICABLE
    counts: dict[str, dict[str, int]] = {}
    for suite, reasons in LEFT_OUT.items():
        for reason, cases in reasons.items():
            counts.setdefault(reason, {})[suite] = len(cases)
    told = {
        reason: ", ".join(f"`{suite}` {count}" for suite, count in suites.items())
        for reason, suites in counts.items()
    }
    assert {reason: rows.get(reason) for reason in told} == told


def test_every_behaviour_of_the_catalogue_has_a_test_and_none_is_invented() -> None:
    named: set[str] = set()
    for path in TESTS.rglob("*.py"):
        if path != Path(__file__):
            named |= named_in(path.read_text("utf-8"))
    missing = catalogue() - named - set(NOT_APPLICABLE)
    invented = named - catalogue()
    pointless = named & set(NOT_APPLICABLE)
    if missing or invented or pointless:
        pytest.fail(
            f"without a test: {sorted(missing)}; in no catalogue: {sorted(invented)}; "
            f"tested, but not applicable: {sorted(pointless)}"
        )
