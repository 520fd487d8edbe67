"""What a Phoenix server says, as a script: steps that are values, and what plays them.

A conversation is a sequence of steps. A step that does not apply just then (an answer where nothing
was asked, the crash of a channel that is not there) says nothing: so whatever the client does, and
whatever is left out of a conversation, it stays one. That is what lets Hypothesis cut a failing
conversation down to the steps that matter; :mod:`slipstream.testing.strategies` draws them.
"""

from ._player import Player, open_player, play
from ._speaker import Speaker
from ._steps import (
    AnswerAgain,
    AnswerNext,
    CloseChannel,
    CloseConnection,
    Conversation,
    CrashChannel,
    DropConnection,
    IllegalStep,
    LegalStep,
    RefuseConnect,
    SendBroadcast,
    SendData,
    SendMessage,
    SendPush,
    Step,
    Wait,
)

__all__ = [
    "AnswerAgain",
    "AnswerNext",
    "CloseChannel",
    "CloseConnection",
    "Conversation",
    "CrashChannel",
    "DropConnection",
    "IllegalStep",
    "LegalStep",
    "Player",
    "RefuseConnect",
    "SendBroadcast",
    "SendData",
    "SendMessage",
    "SendPush",
    "Speaker",
    "Step",
    "Wait",
    "open_player",
    "play",
]
