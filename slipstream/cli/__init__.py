"""The ``slipstream`` command. It needs the extra ``cli``."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command; where its packages are missing, say what to install."""
    try:
        from ._app import run_app  # noqa: PLC0415 - without the extra there is nothing to import
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in {"click", "rich"}:
            raise
        print(
            f"the slipstream command needs {package}: pip install 'slipstream[cli]'",
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:  # while its packages are read, which takes a moment
        sys.exit(130)
    sys.exit(run_app())
