"""The registry against a model that a page can hold."""

import logging
from collections.abc import Iterator

import pytest

from tests.otp.registry_script import run_scripts


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of reports would only be in the way."""
    logger = logging.getLogger("slipstream")
    logger.disabled = True
    yield
    logger.disabled = False


def test_the_registry_agrees_with_the_model() -> None:
    """Entries, refusals, dispatches, listeners, notes, names and locks, over crashes and restarts."""
    run_scripts(150)
