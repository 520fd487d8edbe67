"""What the fuzzer has found so far, once more."""

import pytest

from tests.fuzz.corpus import load
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_in_the_corpus_breaks_what_must_hold(name: str) -> None:
    inputs = load(name)
    assert inputs
    for data in inputs:
        try:
            TARGETS[name](data)
        except BaseException as error:
            error.add_note(f"the input is {data.hex()}")
            raise


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_small(name: str) -> None:
    inputs = load(name)
    assert len(inputs) < 200
    assert sum(map(len, inputs)) < 100 * 1024
