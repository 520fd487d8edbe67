"""The pytest plugin: fixtures for pytest-trio.

Installed as a module of its own beside the package, so that pytest imports nothing of the library
before a fixture is used.
"""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["pytest_collection_modifyitems", "socket_test"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have tests that use :func:`socket_test` run on a virtual clock that jumps."""
    for item in items:
        if "socket_test" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.trio(run=_run_virtually), append=False)


def _run_virtually(function: Any, *args: Any, clock: Any = None, **options: Any) -> Any:
    import trio  # noqa: PLC0415 - only where it is used
    import trio.testing  # noqa: PLC0415 - likewise

    # A clock that the test asks for by a fixture wins.
    virtual = clock or trio.testing.MockClock(autojump_threshold=0)
    return trio.run(function, *args, clock=virtual, **options)


@pytest.fixture
def socket_test() -> "Callable[..., Any]":
    """Give ``open_socket_test``, on a virtual clock; a block that leaves a task behind fails.

    ``async with socket_test(Lobby) as test:``, in an async test.
    """
    from slipstream.testing._leaktight import open_leaktight  # noqa: PLC0415 - only where it is used

    return open_leaktight
