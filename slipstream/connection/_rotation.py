"""Which of several URIs the next attempt goes to."""

from collections.abc import Sequence

from slipstream.reasons import ConnectFailed, DisconnectReason

__all__ = ["Rotation"]


class Rotation:
    """The URIs of one configuration, in order of preference, and the one whose turn it is.

    A failed attempt, and a connection that did not last, pass the turn to the next one, in a
    circle. A connection that was stable gives it back to the first, for the time after its end.
    """

    def __init__(self, uris: Sequence[str]) -> None:
        self._uris = tuple(uris)
        self._turn = 0
        self._last = 0  # whose turn it was when the last connection or attempt ended
        self._hopeless: set[int] = set()

    @property
    def uri(self) -> str:
        """The URI whose turn it is."""
        return self._uris[self._turn]

    def ended(self, reason: DisconnectReason, *, stable: bool) -> None:
        """Note how a connection to the present URI, or an attempt at one, ended."""
        self._last = self._turn
        if stable:
            self.start_afresh()
        elif not _is_ours(reason):
            self._turn = self._after(self._turn)

    def give_up_last(self) -> bool:
        """Try the URI that ended last no more; tell whether there is another one left to try."""
        self._hopeless.add(self._last)
        if len(self._hopeless) == len(self._uris):
            return False
        if self._turn in self._hopeless:
            self._turn = self._after(self._turn)
        return True

    def start_afresh(self) -> None:
        """Begin with the first one again."""
        self._turn = 0
        self._hopeless.clear()

    def _after(self, turn: int) -> int:
        order = [(turn + step) % len(self._uris) for step in range(1, len(self._uris) + 1)]
        return next((at for at in order if at not in self._hopeless), turn)


def _is_ours(reason: DisconnectReason) -> bool:
    """Tell whether it was our credentials that failed: no other server is asked for that."""
    if not isinstance(reason, ConnectFailed):
        return False
    return reason.status in {401, 403} or getattr(reason.error, "step", None) == "provider"
