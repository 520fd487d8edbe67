"""Compiles the server, which is one C file, with whatever compiler is there."""

import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["NoCompilerError", "build_server"]

SOURCE = Path(__file__).with_name("server.c")


class NoCompilerError(RuntimeError):
    """There is no C compiler, or it does not want to."""


def find_compiler() -> str:
    """Give the compiler that ``CC`` names, or the first usual one that is there.

    Raises:
        NoCompilerError: if there is none.
    """
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    for name in names:
        if path := shutil.which(name):
            return path
    raise NoCompilerError(
        f"the benchmarks' server is written in C, and no compiler was found ({', '.join(names)}): "
        "install one, such as gcc or clang, or name it in the environment variable CC"
    )


def build_server(folder: Path) -> Path:
    """Compile the server into *folder*; give the program.

    Raises:
        NoCompilerError: if there is no compiler, or it fails.
    """
    program = folder / "server"
    command = [find_compiler(), "-O2", "-pthread", "-o", str(program), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own source
    if done.returncode:
        raise NoCompilerError(f"{' '.join(command)} failed:\n{done.stderr}")
    return program
