"""The commands and their arguments."""

import json
import logging
import sys
from typing import Any

import click
from rich.console import Console

from slipstream import __version__
from slipstream.config import Config
from slipstream.errors import ConfigError

from ._demo import run_demo
from ._listen import Listening, run_listen

__all__ = ["app"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="slipstream")
def app() -> None:
    """Supervised Phoenix channel clients on trio."""


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
        join_params: Any = json.loads(params)
    except ValueError as error:
        raise click.BadParameter(f"{params!r} is no JSON: {error}", param_hint="--params") from None
    if not topic:
        raise click.BadParameter("it is empty", param_hint="TOPIC")
    try:
        config = Config(uri)
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="URI") from None
    sys.exit(run_listen(Listening(config, topic, join_params, event, as_json=as_json)))


def _quiet_logs() -> None:
    # What a library logs is for programs; a command says what there is to say itself.
    logger = logging.getLogger("slipstream")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
