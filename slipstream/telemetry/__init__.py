"""Events to observe: attach a function to a name or a prefix.

With nobody attached an event costs a look-up in a dict. Durations are in seconds.

=========================================== ======================================== ===================================
event                                       always                                   sometimes
=========================================== ======================================== ===================================
``slipstream.client.connect.*``             ``client generation config uri``         ``duration headers reason``
``slipstream.client.join.*``                ``client topic``                         ``duration reason params response``
``slipstream.client.<callback>.*``          ``client``                               ``topic duration error``
``slipstream.client.request.*``             ``client topic event``                   ``duration status error``
``slipstream.client.rejoin``                ``client topic reason delay attempt``
``slipstream.client.gap``                   ``client topic seconds``
``slipstream.client.too_many_topics``       ``client topic joined``
``slipstream.client.link_error``            ``client callback error``
``slipstream.client.malformed_presence``    ``client topic event error``
``slipstream.client.bad_payload``           ``client topic event error``
``slipstream.connection.connect.*``         ``client generation config uri``         ``duration error``
``slipstream.connection.disconnect``        ``client generation reason frames``
``slipstream.connection.reconnect``         ``client delay attempt reason``
``slipstream.connection.gave_up``           ``client attempt reason why``
``slipstream.connection.handle``            ``client generation frames size events``
``slipstream.connection.heartbeat``         ``client generation seconds``
``slipstream.connection.heartbeat_timeout`` ``client generation``
``slipstream.connection.pause``             ``client generation messages size``
``slipstream.connection.resume``            ``client generation seconds``
``slipstream.connection.dropped``           ``client generation count``
``slipstream.connection.coalesced``         ``client generation count``
``slipstream.connection.discarded``         ``client generation why topic event``
``slipstream.connection.undecodable``       ``client generation error``
``slipstream.supervisor.child.start``       ``supervisor id reason``
``slipstream.supervisor.child.stop``        ``supervisor id reason``
``slipstream.supervisor.child.restart``     ``supervisor id reason``
=========================================== ======================================== ===================================

``.*`` is a span: it begins with ``.start`` and ends with ``.stop`` or ``.exception``, which have the
same ``span``, a number of its own; its end has the ``duration``. ``<callback>`` is a name such as
``handle_join``, or that of a method of ``@on_message``.

``client`` names the client (or its script); ``supervisor`` and ``id`` name a child. ``generation``
counts the client's attempts to connect, ``attempt`` its failures in a row. ``reason`` is one of
:mod:`slipstream.reasons`, of a connection, a topic or (of a child, ``None`` at its start) a process;
``error`` is an exception. ``config`` is a :class:`.Config`, which shows no secrets, ``headers`` are
the server's. ``delay``, ``seconds`` and ``duration`` are in seconds, ``size`` is in bytes. In
``disconnect``, ``frames`` is what the flight recorder kept; in ``handle``, it is how many were read.
``params`` and ``response`` are there only with ``Config.log_payloads``.
"""

from ._dispatch import (
    Handler,
    attach,
    attached,
    capture_events,
    detach,
    execute,
    new_span,
    span,
)
from ._logging import attach_logging, detach_logging
from ._opentelemetry import attach_opentelemetry, detach_opentelemetry

__all__ = [
    "Handler",
    "attach",
    "attach_logging",
    "attach_opentelemetry",
    "attached",
    "capture_events",
    "detach",
    "detach_logging",
    "detach_opentelemetry",
    "execute",
    "new_span",
    "span",
]
