"""The pytest plugin: fixtures for pytest-trio.

Installed as a module of its own beside the package, so that pytest imports nothing of the library
before a fixture is used.
"""

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, cast

import pytest

__all__ = ["leak_check", "open_sockets_check", "pytest_collection_modifyitems", "socket_test"]

_FIXTURES = frozenset({"leak_check", "socket_test"})


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have tests that use a fixture run in trio; those with :func:`socket_test` in virtual time."""
    for item in items:
        used = _FIXTURES.intersection(getattr(item, "fixturenames", ()))
        if not used:
            continue
        if not config.pluginmanager.hasplugin("trio"):
            raise pytest.UsageError(
                f"{item.nodeid} uses {max(used)}, which needs pytest-trio: "
                "pip install 'slipstream[testing]'"
            )
        run = _run_virtually if "socket_test" in used else _run
        item.add_marker(pytest.mark.trio(run=run), append=False)


def _run_virtually(function: Any, *args: Any, clock: Any = None, **options: Any) -> Any:
    __tracebackhide__ = True
    import trio.testing  # noqa: PLC0415 - only where it is used

    # A clock that the test asks for by a fixture wins.
    virtual = clock or trio.testing.MockClock(autojump_threshold=0)
    return _run(function, *args, clock=virtual, **options)


def _run(function: Any, *args: Any, **options: Any) -> Any:
    """Run *function*; what is alone in groups, as pytest-trio makes them, leaves bare."""
    __tracebackhide__ = True
    import trio  # noqa: PLC0415 - only where it is used

    try:
        return trio.run(function, *args, **options)
    except BaseExceptionGroup as group:
        error = _bare(group)
    raise error


def _bare(error: BaseException) -> BaseException:
    alone: BaseException = error
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        if len(group.exceptions) == 1:
            alone = _bare(group.exceptions[0])
    return alone


@pytest.fixture
def open_sockets_check() -> Generator[None]:
    """Fail where a socket is left open when all of a test, its other fixtures included, is over."""
    from slipstream.testing._leaks import describe_sockets, open_sockets  # noqa: PLC0415 - likewise

    before = open_sockets()
    yield
    left = describe_sockets(open_sockets() - before)
    if left:
        pytest.fail("\n  ".join(["left behind:", *left]), pytrace=False)


@pytest.fixture
async def leak_check(open_sockets_check: None) -> AsyncGenerator[None]:
    """Fail where an async test leaves a task behind, and so a process, or an open socket."""
    from slipstream.testing._leaks import note_tasks  # noqa: PLC0415 - only where it is used

    __tracebackhide__ = True
    check = note_tasks()
    yield
    await check()


@pytest.fixture
def socket_test(leak_check: None) -> Callable[..., Any]:
    """Give ``open_socket_test``, on a virtual clock; a test that leaves anything behind fails.

    ``async with socket_test(Lobby) as test:``, in an async test.
    """
    from slipstream.testing._leaktight import open_leaktight  # noqa: PLC0415 - only where it is used

    return open_leaktight
