"""The servers, for as long as a block lasts, and the core that they stay on."""

import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import trustme

from .building import build_server

__all__ = ["ROOT", "Cores", "Servers", "load_per_core", "open_servers"]

ROOT = Path(__file__).parents[2]


@attrs.frozen
class Cores:
    """The core of the clients and that of the servers; ``None`` where the platform cannot tell."""

    client: int | None
    server: int | None

    @classmethod
    def choose(cls) -> "Cores":
        """Take the first and the last of what this process may use."""
        if not hasattr(os, "sched_getaffinity"):
            return cls(None, None)
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[-1])


def load_per_core() -> float | None:
    """Give how many processes wanted each core in the last minute; ``None`` where nobody tells."""
    if not hasattr(os, "getloadavg"):
        return None
    return os.getloadavg()[0] / (os.cpu_count() or 1)


@attrs.frozen
class Servers:
    """Where the servers are, and the authority that signed the certificate of the one with TLS."""

    plain: str
    secure: str
    ca: Path


@contextmanager
def open_servers(folder: Path, cores: Cores) -> Generator[Servers]:
    """Build and run both servers; put what they need into *folder*.

    Raises:
        NoCompilerError: if the server cannot be compiled.
    """
    program = build_server(folder)
    authority, ca, certificate = trustme.CA(), folder / "ca.pem", folder / "server.pem"
    authority.cert_pem.write_to_path(ca)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    tls = [sys.executable, "-m", "tests.benchmarks.tls_server", str(certificate)]
    with ExitStack() as stack:
        plain = stack.enter_context(_run([str(program)], cores.server))
        secure = stack.enter_context(_run(tls, cores.server))
        yield Servers(f"ws://127.0.0.1:{plain}", f"wss://127.0.0.1:{secure}", ca)


@contextmanager
def _run(command: Sequence[str], core: int | None) -> Generator[int]:
    """Run a server, which prints its port and ends with its stdin."""
    with subprocess.Popen(  # noqa: S603 - our own
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as server:
        try:
            assert server.stdout is not None
            if core is not None:
                os.sched_setaffinity(server.pid, {core})
            yield int(server.stdout.readline())
        finally:
            server.kill()
