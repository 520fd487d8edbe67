"""How a stream of bytes comes in."""

from itertools import pairwise

from hypothesis import strategies as st

__all__ = ["chunkings"]


@st.composite
def chunkings(draw: st.DrawFn, data: bytes | st.SearchStrategy[bytes]) -> list[bytes]:
    """Draw how a stream may cut *data* into reads, none of them empty; in one piece at the least.

    Some are cut in a few places, more of them near the beginning, where headers are; some trickle.

    >>> @given(chunkings(b"GET / HTTP/1.1"))
    ... def test_nothing_is_lost(chunks):
    ...     assert b"".join(chunks) == b"GET / HTTP/1.1"
    >>> test_nothing_is_lost()
    """
    whole = data if isinstance(data, bytes) else draw(data)
    size = len(whole)
    if size < 2:
        return [whole] if whole else []
    inside = st.integers(1, min(size - 1, 16)) | st.integers(1, size - 1)
    cuts: set[int] = draw(st.sets(inside, max_size=8))
    if draw(st.integers(0, 3)) == 3:
        # A trickle; of what is large only the beginning, or a test would take for ever.
        step = draw(st.integers(1, 12))
        cuts.update(range(step, min(size, 4096), step))
    return [whole[begin:end] for begin, end in pairwise([0, *sorted(cuts), size])]
