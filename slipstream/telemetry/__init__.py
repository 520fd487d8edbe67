"""Events to observe: attach a function to a name or a prefix.

With nobody attached an event costs a look-up in a dict. Durations are in seconds.

================================================ ==================================================
event                                            data
================================================ ==================================================
``slipstream.client.connect.start/stop/…``       ``generation config uri``; ``duration headers reason``
``slipstream.client.join.start/stop/…``          ``topic params``; ``duration response reason``
``slipstream.client.<callback>.start/stop/…``    ``client``; at the end ``duration``, ``error``
``slipstream.client.rejoin``                     ``topic reason delay attempt``
``slipstream.client.gap``                        ``topic seconds``: it is joined again, after so long
``slipstream.client.too_many_topics``            ``topic joined``: the server has no room for it
``slipstream.client.link_error``                 ``client callback error``: it ended a callback
``slipstream.client.malformed_presence``         ``client topic event error``
``slipstream.client.bad_payload``                ``client topic event error``: of an ``on_message``
``slipstream.connection.connect.start/stop/…``   ``generation config uri``; ``duration``, ``error``
``slipstream.connection.disconnect``             ``generation reason``
``slipstream.connection.reconnect``              ``delay attempt reason``: what was decided
``slipstream.connection.gave_up``                ``why attempt reason``: no further attempt
``slipstream.connection.handle``                 ``generation frames size events``: one batch
``slipstream.connection.heartbeat``              ``generation seconds``: it was answered
``slipstream.connection.heartbeat_timeout``      ``generation``
``slipstream.connection.pause``, ``.resume``     ``generation messages size``; ``seconds``
``slipstream.connection.dropped``                ``generation count``: by ``drop_oldest``
``slipstream.connection.coalesced``              ``generation count``: by ``coalesce(key)``
``slipstream.connection.discarded``              ``generation why topic event``
``slipstream.connection.undecodable``            ``generation error``
``slipstream.supervisor.child.<what>``           ``supervisor id reason``: start, restart, stop
================================================ ==================================================

``start/stop/…``: a span ends in ``.stop`` or in ``.exception``. ``<callback>`` is a name such as
``handle_join``. ``params`` and ``response`` are there only with ``Config.log_payloads``.
"""

from ._dispatch import Handler, attach, attached, capture_events, detach, execute, span
from ._logging import attach_logging, detach_logging

__all__ = [
    "Handler",
    "attach",
    "attach_logging",
    "attached",
    "capture_events",
    "detach",
    "detach_logging",
    "execute",
    "span",
]
