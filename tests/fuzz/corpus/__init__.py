"""The inputs that are replayed, and that a fuzzer starts from: a line of hexadecimal digits each."""

from pathlib import Path

__all__ = ["load", "save"]

HERE = Path(__file__).parent


def load(name: str) -> list[bytes]:
    """Give the inputs of the target *name*."""
    return [
        bytes.fromhex(line) for line in (HERE / f"{name}.hex").read_text("ascii").split("\n")[:-1]
    ]


def save(name: str, inputs: list[bytes]) -> None:
    """Write the inputs of the target *name*, the shortest first."""
    lines = [data.hex() for data in sorted(set(inputs), key=lambda data: (len(data), data))]
    (HERE / f"{name}.hex").write_text("".join(f"{line}\n" for line in lines), "ascii")
