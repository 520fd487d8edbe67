from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from slipstream.transport._masking import apply_mask, apply_mask_in_python, draw_key

Mask = Callable[[bytes, bytes], bytes]


@pytest.mark.parametrize("mask", [apply_mask, apply_mask_in_python], ids=["chosen", "in Python"])
@given(st.binary(min_size=4, max_size=4), st.integers(0, 70), st.sampled_from([0, 8192, 20_000]))
def test_masking_is_what_the_rfc_says(mask: Mask, key: bytes, more: int, size: int) -> None:
    data = bytes((7 * i + more) % 256 for i in range(size + more))
    masked = mask(data, key)
    assert masked == bytes(byte ^ key[i % 4] for i, byte in enumerate(data))


def test_no_key_is_given_twice() -> None:
    drawn = [draw_key() for _ in range(5000)]
    assert {len(key) for key in drawn} == {4}
    # Of 5000 random keys, two are the same in one run of 350, three pairs in one of a hundred million.
    assert len(set(drawn)) >= 4998
