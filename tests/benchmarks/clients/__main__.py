"""One measurement, in a process of its own: ``python -m tests.benchmarks.clients``.

Prints one JSON object: how many messages, calls or connections the last pass had, and what the
stopwatch said of it. Started by ``tests.benchmarks``.
"""

import argparse
import asyncio
import importlib
import json
import os
import ssl
from collections.abc import Callable
from functools import partial

import trio

from .job import Job, Stopwatch


def check(heard: int, count: int) -> None:
    """See to it that nothing got lost, or came twice.

    Raises:
        RuntimeError: if *heard* is not *count*.
    """
    if heard != count:
        raise RuntimeError(f"{count} were sent or asked for, and {heard} arrived")


def run_pass(options: argparse.Namespace, count: int) -> Stopwatch:
    """Do the work once, *count* times."""
    context = ssl.create_default_context(cafile=options.ca) if options.ca else None
    mark = "&" if "?" in options.uri else "?"
    job = Job(f"{options.uri}{mark}count={count}", count, Stopwatch(), context, options.tuned)
    work = getattr(importlib.import_module(f"{__package__}.{options.module}"), options.work)
    heard = asyncio.run(work(job)) if options.loop == "asyncio" else trio.run(work, job)
    check(heard, count)
    return job.watch


def best_pass(
    run: Callable[[int], Stopwatch], count: int, seconds: float, passes: int
) -> tuple[int, Stopwatch]:
    """Make passes until one takes *seconds*, then as many of that length; give the fastest of those.

    Each warms up for the next. The fastest, since what else the machine does only ever takes time.
    """
    while (watch := run(count)).seconds < seconds:
        count = max(count + 1, int(count * min(10.0, 1.2 * seconds / watch.seconds)))
    watches = [watch, *(run(count) for _ in range(passes - 1))]
    return count, min(watches, key=lambda each: each.seconds)


def main(arguments: list[str] | None = None) -> None:
    """Measure what the command line says, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", help="a module of this package")
    parser.add_argument("work", help="a function of it")
    parser.add_argument("uri", help="where to; the count is added to its query")
    parser.add_argument("--loop", choices=("trio", "asyncio"), default="trio")
    parser.add_argument("--count", type=int, default=100, help="of the first pass")
    parser.add_argument("--seconds", type=float, default=0.0, help="of a pass, at least")
    parser.add_argument("--passes", type=int, default=1, help="of that length")
    parser.add_argument("--cpu", type=int, help="the core to stay on")
    parser.add_argument("--ca", help="a file with the certificate authority to trust")
    parser.add_argument("--tuned", action="store_true")
    options = parser.parse_args(arguments)
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    run = partial(run_pass, options)
    count, watch = best_pass(run, options.count, options.seconds, options.passes)
    print(
        json.dumps(
            {
                "count": count,
                "seconds": watch.seconds,
                "cpu_seconds": watch.cpu_seconds,
                "resident_bytes": watch.resident_bytes,
            }
        )
    )


if __name__ == "__main__":
    main()
