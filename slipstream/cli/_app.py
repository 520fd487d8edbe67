"""The commands and their arguments."""

import functools
import json
import logging
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click
from rich.console import Console

from slipstream import __version__
from slipstream.config import Config
from slipstream.errors import ConfigError

from ._demo import run_demo
from ._listen import Listening, run_listen
from ._once import Joining, Push, run_once
from ._serve import find_server, make_echo_server, run_serve

__all__ = ["app", "run_app"]


def run_app() -> int:
    """Run the command; give its exit code. An error is one line on stderr."""
    try:
        return int(app.main(prog_name="slipstream", standalone_mode=False) or 0)
    except click.ClickException as error:
        command = (
            error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        )
        hint = f" (see '{command} --help')" if command else ""
        print(f"slipstream: {error.format_message()}{hint}", file=sys.stderr)
        return error.exit_code
    except click.Abort:  # Ctrl-C before a command had its own say
        return 130


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="slipstream")
@click.pass_context
def app(context: click.Context) -> None:
    """Supervised Phoenix channel clients on trio."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


@app.command()
def demo() -> None:
    """Watch a supervised client lose everything, and get it back.

    Starts a Phoenix server of its own on a free port of this machine and a client; then cuts the
    connection, crashes the channel, crashes the client and restarts the server. Needs no network.
    Exits with 0 only if each recovery really happened.
    """
    _quiet_logs()
    sys.exit(run_demo(Console(highlight=False)))


def _for_a_topic(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command*, which takes a ``Joining`` first, what all have in common that join a topic."""

    @functools.wraps(command)
    def prepared(
        uri: str,
        topic: str,
        params: str,
        token: str | None,
        as_json: bool,  # noqa: FBT001 - click hands it over
        timeout: float | None = None,
        **rest: Any,
    ) -> None:
        _quiet_logs()
        join_params = _read_json(params, "--params")
        if not topic:
            raise click.BadParameter("it is empty", param_hint="TOPIC")
        config = _configure(uri, token, timeout)
        command(Joining(config, topic, join_params, as_json=as_json), **rest)

    decorated: Callable[..., None] = prepared
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for pipes."),
        click.option(
            "--token",
            envvar="SLIPSTREAM_TOKEN",
            show_envvar=True,
            metavar="TEXT",
            help="Auth token, sent as phoenix.js does. Others may see arguments: better have it in "
            "the environment.",
        ),
        click.option("--params", default="{}", metavar="JSON", help="Params of the join."),
        click.argument("topic"),
        click.argument("uri"),
    ):
        decorated = decorate(decorated)
    return decorated


_timeout = click.option(
    "--timeout",
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(min=0.0, min_open=True, max=1e6),
    help="For the connection, the join and the reply, each.",
)
_CODES = """\b
Exits with
  0         it is done: joined, or answered with ok (with --no-reply: written)
  1         there was no connection, or it or the channel was lost
  2         the command line is wrong
  3         the server refused the join, or answered with another status
  4         the server did not answer in time
  130, 143  Ctrl-C, SIGTERM
"""


@app.command()
@_for_a_topic
@click.option("--event", default=None, metavar="NAME", help="Print this event only.")
def listen(joining: Joining, event: str | None) -> None:
    """Join TOPIC at URI and print what it hears, reconnecting as long as there is hope.

    Ctrl-C leaves the channel, closes the connection and exits with 0. A server that refuses for good
    makes it exit with 1, a topic or parameters that cannot be sent with 2.
    """
    listening = Listening(
        joining.config, joining.topic, joining.params, event, as_json=joining.as_json
    )
    sys.exit(run_listen(listening))


@app.command(epilog=_CODES)
@_for_a_topic
@_timeout
def join(joining: Joining) -> None:
    """Join TOPIC at URI, print what the server answers, and leave."""
    sys.exit(run_once(joining))


@app.command(epilog=_CODES)
@_for_a_topic
@click.argument("event")
@click.argument("payload", default="{}")
@_timeout
@click.option("--no-reply", is_flag=True, help="Do not wait for a reply.")
def push(joining: Joining, event: str, payload: str, *, no_reply: bool) -> None:
    """Join TOPIC at URI, push EVENT with PAYLOAD, print the reply, and leave.

    PAYLOAD is JSON, by default {}; "-" reads it from stdin.
    """
    if not event:
        raise click.BadParameter("it is empty", param_hint="EVENT")
    value = _read_json(sys.stdin.read() if payload == "-" else payload, "PAYLOAD")
    sys.exit(run_once(joining, Push(event, value, waits=not no_reply)))


def _configure(uri: str, token: str | None, timeout: float | None) -> Config:
    options: dict[str, Any] = {}
    if timeout is not None:
        names = ("connect_timeout", "join_timeout", "push_timeout", "leave_timeout")
        options = dict.fromkeys(names, timeout)
    try:
        return Config(uri, auth_token=token or None, **options)
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="URI") from None


def _read_json(text: str, hint: str) -> Any:
    # The text is not shown: a token may stand in it.
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise click.BadParameter(f"it is no JSON: {error}", param_hint=hint) from None
    except RecursionError:
        raise click.BadParameter("it is nested too deeply", param_hint=hint) from None


@app.command()
@click.argument("application", metavar="[APP]", required=False)
@click.option("--echo", is_flag=True, help="Serve a ready channel instead of an APP.")
@click.option(
    "--host", default=None, metavar="ADDRESS", help="Where to listen, if not as APP says."
)
@click.option("--port", default=None, type=click.IntRange(0, 65535), help="0 is any free one.")
def serve(application: str | None, echo: bool, host: str | None, port: int | None) -> None:  # noqa: FBT001 - click hands it over
    """Run an embedded Phoenix server, and print its address and its traffic.

    APP is module:name of a slipstream.testing.PhoenixServer, or of a function that makes one.

    With --echo every topic may be joined, and a push is answered with its payload. The event shout is
    also broadcast, push is also pushed, silence is not answered, stop and crash end the channel. Who
    joins with a name is present under it.

    It listens on loopback unless told otherwise, and is for tests: not for a network. Ctrl-C closes all
    connections with 1012 and exits with 0.
    """
    if echo == (application is not None):
        raise click.UsageError("serve takes an APP, or --echo")
    try:
        server = make_echo_server() if application is None else find_server(application)
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="APP") from None
    server.bind(host=host, port=port)
    sys.exit(run_serve(server))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"there is no {name} in it")


def _quiet_logs() -> None:
    # What a library logs is for programs; a command says what there is to say itself.
    logger = logging.getLogger("slipstream")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
