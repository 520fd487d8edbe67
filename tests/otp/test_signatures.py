"""Callbacks are checked when their class is made."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from slipstream.errors import CallbackSignatureError
from slipstream.otp import (
    Caller,
    GenServer,
    NoReply,
    Reply,
    Supervisor,
    check_callbacks,
    open_server,
)
from tests.otp.support import virtual


def make(**body: Any) -> type[GenServer]:
    return type("Mine", (GenServer,), body)


async def no_parameters(self: Any) -> None: ...
async def one(self: Any, message: Any) -> None: ...
async def two(self: Any, request: Any, caller: Any) -> None: ...
async def three(self: Any, a: Any, b: Any, c: Any) -> None: ...
async def keyword_only(self: Any, *, message: Any) -> None: ...
async def with_default(self: Any, message: Any, extra: int = 0) -> None: ...
async def any_number(self: Any, *args: Any) -> None: ...
async def required_keyword(self: Any, message: Any, *, extra: int) -> None: ...
def plain(self: Any, message: Any) -> None: ...
async def generator(self: Any, message: Any) -> Any:
    yield message


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("handle_mesage", "handle_"),
        ("handle_csat", "handle_cast"),
        ("handel_cast", "handle_cast"),
        ("handle_inof", "handle_info"),
        ("handle_contine", "handle_continue"),
        ("handle_anything_at_all", "handle_"),
        ("terminte", "terminate"),
        ("intit", "init"),
    ],
)
def test_a_misspelled_callback_is_refused_with_a_guess(name: str, guess: str) -> None:
    with pytest.raises(CallbackSignatureError, match=f"Mine.{name}") as error:
        make(**{name: one})
    assert guess in str(error.value)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("handle_call", one),
        ("handle_call", three),
        ("handle_call", no_parameters),
        ("handle_cast", no_parameters),
        ("handle_cast", two),
        ("handle_cast", keyword_only),
        ("handle_cast", required_keyword),
        ("handle_info", two),
        ("handle_continue", no_parameters),
        ("terminate", no_parameters),
        ("terminate", two),
    ],
)
def test_wrong_parameters_are_refused_and_the_right_ones_told(name: str, function: Any) -> None:
    with pytest.raises(CallbackSignatureError, match=f"Mine.{name}") as error:
        make(**{name: function})
    assert f"async def {name}(self, " in str(error.value)


@pytest.mark.parametrize("name", ["init", "handle_cast", "handle_info", "terminate"])
def test_a_callback_that_is_not_async_is_refused(name: str) -> None:
    with pytest.raises(CallbackSignatureError, match=f"Mine.{name} is not async"):
        make(**{name: plain})


def test_an_async_generator_is_no_callback() -> None:
    with pytest.raises(CallbackSignatureError, match="handle_cast"):
        make(handle_cast=generator)


@pytest.mark.parametrize(
    "value", [None, 5, staticmethod(one), classmethod(one)], ids=["none", "int", "static", "class"]
)
def test_something_that_is_no_method_is_refused(value: Any) -> None:
    with pytest.raises(CallbackSignatureError, match="handle_cast"):
        make(handle_cast=value)


def test_a_formatter_must_not_be_async() -> None:
    with pytest.raises(CallbackSignatureError, match="format_status must not be async"):
        make(format_status=one)


@pytest.mark.parametrize("function", [one, with_default, any_number])
def test_whatever_can_be_called_as_it_will_be_is_accepted(function: Any) -> None:
    assert make(handle_cast=function, handle_info=function)


def test_names_of_ones_own_are_accepted() -> None:
    """Only what looks like a callback is judged."""
    assert make(
        work=no_parameters,
        casting=one,
        information=one,
        terminated=one,
        _handle_private=one,
        initialise=one,
        HANDLERS={"handle_x": 1},
    )


def test_a_base_class_is_judged_by_itself() -> None:
    """A mixin that is no GenServer may have any names; the class that joins it is refused late or not."""

    class Good(GenServer):
        async def handle_cast(self, message: Any) -> None: ...

    class Better(Good):
        async def handle_info(self, message: Any) -> None: ...

    assert Better.child_spec().id is Better
    with pytest.raises(CallbackSignatureError):
        type("Bad", (Better,), {"handle_cast": no_parameters})


def logged(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap a callback, as a decorator of a user's would."""
    import functools  # noqa: PLC0415 - of the decorator alone

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


@virtual
async def test_a_decorated_callback_is_accepted() -> None:
    class Decorated(GenServer):
        @logged
        async def handle_call(  # type: ignore[override]  # a decorator hides the names
            self, request: Any, caller: Caller
        ) -> Reply:
            return Reply(request)

        @logged
        async def handle_cast(  # type: ignore[override]  # a decorator hides the names
            self, message: Any
        ) -> NoReply:
            return NoReply()

    async with open_server(Decorated) as ref:
        assert await ref.call("x") == "x"


def test_a_supervisor_is_judged_too() -> None:
    with pytest.raises(CallbackSignatureError, match=r"Wrong\.init is not async"):
        type("Wrong", (Supervisor,), {"init": plain})


def test_the_check_is_there_for_other_behaviours() -> None:
    class Base:
        async def handle_extra(self) -> None: ...

        async def handle_two(self, a: Any, b: Any) -> None: ...

        def choose(self, what: Any) -> None: ...

    known = {"handle_two": "a, b"}
    check_callbacks(
        Base, async_callbacks=known, sync_callbacks={"choose": "what"}, own_names=["handle_extra"]
    )
    with pytest.raises(CallbackSignatureError, match="handle_extra"):
        check_callbacks(Base, async_callbacks=known)
    with pytest.raises(CallbackSignatureError, match="choose"):
        check_callbacks(
            Base,
            async_callbacks=known,
            sync_callbacks={"choose": "what, how"},
            own_names=["handle_extra"],
        )
