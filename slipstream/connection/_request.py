"""What an attempt needs to know: credentials from their providers, and the complete request."""

import base64
import inspect
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import trio

from slipstream.config import (
    ENVIRONMENT,
    Config,
    check_headers,
    check_params,
    check_token,
    proxy_from_environment,
)
from slipstream.errors import ConfigError, ConnectError
from slipstream.interfaces import ConnectRequest

__all__ = ["build_request", "provide"]

# phoenix.js (socket.js, AUTH_TOKEN_PREFIX). In spite of its name, what follows is standard
# base64 without padding: Phoenix decodes it so.
_TOKEN_PREFIX = "base64url.bearer.phx."  # noqa: S105 - the prefix is public, the token is not


async def provide(provider: Any, *, timeout: float, what: str) -> Any:  # noqa: ASYNC109 - it is a setting, and names itself in the error
    """Give the value of *provider*, which is a value or a sync or async function.

    *timeout* is in seconds, *what* names it in errors (their ``provider``). Always a checkpoint. Cancellation goes
    through to the function.

    Raises:
        ConnectError: with step ``"provider"``, if the function raised or took too long.
    """
    await trio.lowlevel.checkpoint()
    if not callable(provider):
        return provider
    started = trio.current_time()
    with trio.move_on_after(timeout):
        try:
            value = provider()
            if inspect.isawaitable(value):
                value = await value
        except Exception as error:
            seconds = trio.current_time() - started
            raise ConnectError(
                f"the provider of {what} raised {error!r}",
                step="provider",
                seconds=seconds,
                provider=what,
            ) from error
        return value
    raise ConnectError(
        f"the provider of {what} took longer than provider_timeout, {timeout:g} s",
        step="provider",
        seconds=timeout,
        provider=what,
    )


async def build_request(config: Config, uri: str | None = None) -> ConnectRequest:
    """Ask all providers of *config*, and put the request of one attempt together.

    *uri* is one of the configuration's, by default the first.

    Raises:
        ConnectError: with step ``"provider"``, if a provider failed or gave what does not fit.
    """
    uri = config.uris[0] if uri is None else uri
    timeout = config.provider_timeout
    params = await provide(config.params, timeout=timeout, what="params")
    headers = await provide(config.headers, timeout=timeout, what="headers")
    token = await provide(config.auth_token, timeout=timeout, what="auth_token")
    with _blaming("params"):
        complete = _complete_uri(config, uri, params)
    with _blaming("headers"):
        pairs = check_headers(headers)
    with _blaming("auth_token"):
        protocols = _token_protocols(token)
    return ConnectRequest(
        uri=complete,
        headers=pairs,
        subprotocols=(*protocols, *config.subprotocols),
        ssl_context=config.ssl_context,
        connect_timeout=config.connect_timeout,
        write_timeout=config.write_timeout,
        close_timeout=config.close_timeout,
        max_message_size=config.max_message_size,
        max_fragments=config.max_fragments,
        compression=config.compression,
        outbound_bytes=config.outbound_bytes,
        tcp_keepalive=config.tcp_keepalive,
        tcp_user_timeout=config.tcp_user_timeout,
        proxy=_proxy(config, uri),
        unix_socket=config.unix_socket,
    )


@contextmanager
def _blaming(provider: str) -> Generator[None]:
    """Let a value that does not fit be a failure of its *provider*."""
    try:
        yield
    except ConfigError as error:
        raise ConnectError(str(error), step="provider", provider=provider) from error


def _proxy(config: Config, uri: str) -> str | None:
    """Decide about the proxy of one attempt: the environment may have changed since the last."""
    if config.unix_socket is not None:
        return None
    return proxy_from_environment(uri) if config.proxy == ENVIRONMENT else config.proxy


def _complete_uri(config: Config, uri: str, params: Any) -> str:
    parts = urlsplit(uri)
    pairs = {**check_params(config, params), "vsn": config.vsn}
    if "vsn" in parse_qs(parts.query, keep_blank_values=True):
        del pairs["vsn"]  # it stands there already, and has been checked
    query = "&".join(filter(None, [parts.query, urlencode(pairs)]))
    return urlunsplit(parts._replace(path=parts.path or "/", query=query))


def _token_protocols(token: Any) -> tuple[str, ...]:
    if token is None:
        return ()
    encoded = base64.b64encode(check_token(token)).decode().rstrip("=")
    return ("phoenix", _TOKEN_PREFIX + encoded)
