"""Writes an example as a test that can be pasted."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs

from slipstream.client import SlipstreamClient
from slipstream.config import Config

from ._rules import Rule

__all__ = ["script_of"]

_INDENT: Final = " " * 8
_JITTERY: Final = 2
"""From so many connects on, delays have a part in it, and chance in them."""
_SECRET: Final = frozenset({"headers", "params", "auth_token"})


def script_of(
    client: type[SlipstreamClient],
    config: Any,
    lines: Sequence[str],
    *,
    code: str,
    rules: Iterable[Rule] = (),
) -> str:
    """Write a test that does *lines* to *client*, and holds it to its contract.

    What *config* hides in its ``repr`` is left out, and said so.
    """
    argument, imports, left_out = _source(config)
    rules = list(rules)
    named = [repr(rule) for rule in rules]
    contract = f"contract=[{', '.join(named)}]" if named else "contract=True"
    name = client.__qualname__.rpartition(".")[2]
    head = [f"from {client.__module__} import {name}"]
    head += _imports(rules)
    if imports:
        head.insert(0, f"from slipstream import {', '.join(imports)}")
    body = list(lines)
    if sum("connect()" in line for line in body) >= _JITTERY:
        head.insert(0, "import random\n")
        body.insert(0, "random.seed(0)  # of the delays")
    if any(line.startswith("calls.append") for line in body):
        body.insert(0, "calls = []")
    if left_out:
        body.insert(0, f"# left out of the configuration: {', '.join(left_out)}")
    opening = f"    async with socket_test({name}, {argument}, {contract}) as test:"
    return "\n".join(
        [
            *head,
            "",
            "",
            f"async def test_{_snake(name)}_{_snake(code)}(socket_test):",
            opening,
            *(f"{_INDENT}{line}" for line in body or ["pass  # at its end the client is stopped"]),
        ]
    )


def _imports(rules: Iterable[Rule]) -> list[str]:
    """Write what the rules have to be imported from."""
    names: dict[str, set[str]] = {}
    for module, name in (rule.source for rule in rules):
        names.setdefault(module, set()).add(name)
    return [f"from {module} import {', '.join(sorted(what))}" for module, what in names.items()]


def _snake(name: str) -> str:
    parts = "".join(f"_{char.lower()}" if char.isupper() else char for char in name)
    return parts.strip("_").replace("-", "_").replace("__", "_")


def _source(config: Any) -> tuple[str, list[str], list[str]]:
    """Give the source of *config*, what it needs, and what was left out of it."""
    if not isinstance(config, Config):
        return repr(config), [], []
    plain, left_out, imports = [repr(config).split("'")[1]], list[str](), {"Config"}
    default = Config("ws://server.test/")
    options: list[str] = []
    for field in attrs.fields(Config):
        value = getattr(config, field.name)
        if field.name == "uri" or value == getattr(default, field.name):
            continue
        if field.name in _SECRET or not _is_plain(value):
            left_out.append(field.name)
            continue
        delays = getattr(value, "delays", None)
        if delays is not None and value == type(value)(delays=delays):
            options.append(f"{field.name}={list(delays)!r}")
            continue
        if _has_fields(value):
            imports.add(type(value).__name__)
        options.append(f"{field.name}={value!r}")
    return f"Config({', '.join([repr(plain[0]), *options])})", sorted(imports), left_out


def _is_plain(value: Any) -> bool:
    plain = (str, int, float, bool, tuple, type(None))
    return isinstance(value, plain) or _has_fields(value)


def _has_fields(value: Any) -> bool:
    return hasattr(value, "__attrs_attrs__")
