"""The registry against a model that a page can hold."""

import logging
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import settings

from tests.otp.registry_script import machine


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of reports would only be in the way."""
    logger = logging.getLogger("slipstream")
    logger.disabled = True
    yield
    logger.disabled = False


def test_the_registry_agrees_with_the_model() -> None:
    """Entries, refusals, dispatches, listeners, notes, names and locks, over crashes and restarts."""
    settings(
        max_examples=300,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )(machine)()
