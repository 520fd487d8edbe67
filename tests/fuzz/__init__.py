"""Bytes of a server, found by a fuzzer: ``python -m tests.fuzz parser|handshake --seconds N``.

The targets need no fuzzer, and the corpus is replayed by an ordinary test. To look for more, install
the extra ``fuzz`` (atheris, for CPython 3.11); ``--keep`` adds to the corpus what reaches a line by a
way that nothing in it does.
"""
