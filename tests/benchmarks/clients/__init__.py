"""The libraries that are measured, a module each: the fastest way that each one documents.

A module has a coroutine function for each piece of work that its library can do. It is given a
:class:`~tests.benchmarks.clients.job.Job`, runs the stopwatch while it does what is measured, and
gives the number of messages that arrived, or of connections that were opened.
"""
