"""The commands and their arguments."""

import json
import logging
import sys
from typing import Any, NoReturn

import click
from rich.console import Console

from slipstream import __version__
from slipstream.config import Config
from slipstream.errors import ConfigError

from ._demo import run_demo
from ._listen import Listening, run_listen

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


@app.command()
@click.argument("uri")
@click.argument("topic")
@click.option("--params", default="{}", metavar="JSON", help="Params of the join.")
@click.option("--event", default=None, metavar="NAME", help="Print this event only.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for pipes.")
def listen(uri: str, topic: str, params: str, event: str | None, as_json: bool) -> None:  # noqa: FBT001 - click hands it over
    """Join TOPIC at URI and print what it hears, reconnecting for ever.

    Ctrl-C leaves the channel, closes the connection and exits with 0.
    """
    _quiet_logs()
    try:
        join_params: Any = json.loads(params, parse_constant=_refuse_constant)
    except ValueError as error:
        raise click.BadParameter(f"it is no JSON: {error}", param_hint="--params") from None
    except RecursionError:
        raise click.BadParameter("it is nested too deeply", param_hint="--params") from None
    if not topic:
        raise click.BadParameter("it is empty", param_hint="TOPIC")
    try:
        config = Config(uri)
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="URI") from None
    sys.exit(run_listen(Listening(config, topic, join_params, event, as_json=as_json)))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"there is no {name} in it")


def _quiet_logs() -> None:
    # What a library logs is for programs; a command says what there is to say itself.
    logger = logging.getLogger("slipstream")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
