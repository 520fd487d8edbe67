"""The process of a channel: it asks the channel, and answers for it."""

from typing import Any

import attrs

from slipstream.errors import BadReturnError
from slipstream.interfaces import Frame, Message, Payload
from slipstream.otp import GenServer, Ignore, Stop
from slipstream.reasons import ExitReason, Shutdown

from ._channel import WAKE, Channel, Error, Ok, ReplyRef, ReplyWith

__all__ = ["ChannelProcess", "Crash", "Intercepted"]


@attrs.frozen
class Crash:
    """Lets a channel crash from outside."""

    error: Exception


@attrs.frozen
class Intercepted:
    """A broadcast that the channel wants to see before its client does."""

    event: str
    payload: Payload


class ChannelProcess(GenServer, restart="temporary", shutdown=1.0):
    """The process of one joined channel."""

    async def init(
        self, channel: Channel, payload: Payload, replies: list[Frame], /
    ) -> Ignore | None:
        """Ask the channel to let the client in; put the reply into *replies*."""
        self._channel = channel
        answer: Any = await channel.join(channel.topic, payload, channel.socket)
        if answer is None:
            answer = Ok()
        if not isinstance(answer, Ok | Error):
            raise BadReturnError(
                f"{type(channel).__qualname__}.join gave {answer!r}; accepted are "
                "Ok(response), Refuse(response) and None",
                value=answer,
            )
        ref = channel.reply_ref
        replies.append(channel.socket.encode_reply(ref.join_ref, ref.ref, channel.topic, answer))
        return Ignore() if isinstance(answer, Error) else None

    async def handle_info(self, item: Any, /) -> Stop | None:
        """Hand a push of the client, or any other message, to the channel."""
        channel = self._channel
        match item:
            case Message(event="phx_leave"):
                channel.reply(ReplyRef(item.ref, channel.reply_ref.join_ref), Ok())
                return Stop(Shutdown("left"))
            case Message():
                await self._handle_in(item)
            case Intercepted(event=event, payload=payload):
                await channel.handle_out(event, payload, channel.socket)
            case Crash(error=error):
                raise error
            case _ if item is not WAKE:
                await channel.handle_info(item)
            case _:
                pass
        return None if channel.stop_reason is None else Stop(channel.stop_reason)

    async def _handle_in(self, message: Message) -> None:
        channel = self._channel
        channel.reply_ref = ReplyRef(message.ref, channel.reply_ref.join_ref)
        answer: Any = await channel.handle_in(message.event, message.payload, channel.socket)
        if answer is None:
            return
        if not isinstance(answer, Ok | Error | ReplyWith):
            raise BadReturnError(
                f"{type(channel).__qualname__}.handle_in gave {answer!r}; accepted are "
                "Ok(response), Error(response), ReplyWith(status, response) and None",
                value=answer,
            )
        channel.reply(channel.reply_ref, answer)

    async def terminate(self, reason: ExitReason, /) -> None:
        """Let the channel clean up."""
        await self._channel.terminate(reason)
