"""How the keys of a registry are compared."""

from typing import Any

__all__ = ["tagged"]


def tagged(key: Any) -> Any:
    """Give what keys are compared by: the key with its type, in tuples and frozen sets too.

    To Python, 1, 1.0 and True are one key.
    """
    cls: Any = key.__class__
    if cls is str:  # equal to nothing but strings
        return key
    parts: Any = key
    if isinstance(key, tuple):
        return cls, tuple([tagged(part) for part in parts])
    if isinstance(key, frozenset):
        return cls, frozenset([tagged(part) for part in parts])
    return cls, key
