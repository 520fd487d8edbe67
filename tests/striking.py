"""SIGINT at one opcode of the library, chosen by its number: for programs, not for tests in pytest.

A tracer and the measuring of coverage exclude each other, so each that uses this is a program of its
own, which a test starts.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["Strike"]


class Strike:
    """One life, with a signal at the opcode number *target* in *package* (0 strikes never).

    Attributes:
        count: the opcodes so far.
        struck_in: where it struck: the file, the line and the function; empty if it has not.
        function: the name of that function.
    """

    def __init__(self, package: str, target: int) -> None:
        self.count = 0
        self.struck_in = ""
        self.function = ""
        self._folder = f"{os.sep}slipstream{os.sep}{package}{os.sep}"
        self._target = target

    def live(self, life: Callable[[], object], *, patience: int) -> BaseException | None:
        """Call *life* and give what it raised. After *patience* seconds the program ends."""
        signal.alarm(patience)
        sys._getframe().f_trace_opcodes = True  # Python 3.12 wants to know it before settrace
        sys.settrace(self._trace)
        try:
            life()
        except BaseException as caught:  # noqa: BLE001 - whatever it is, it is compared
            return caught
        finally:
            sys.settrace(None)
            signal.alarm(0)
        return None

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if self._folder not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._trace_opcode

    def _trace_opcode(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            self.count += 1
            if self.count == self._target:
                code = frame.f_code
                self.function = code.co_name
                self.struck_in = f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}"
                os.kill(os.getpid(), signal.SIGINT)
        return self._trace_opcode
