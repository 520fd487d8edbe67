"""What is said where the server cannot be compiled."""

from pathlib import Path

import pytest

from tests.benchmarks.building import NoCompilerError, build_server


def test_without_a_compiler_one_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(
        NoCompilerError, match=r"no compiler was found \(cc, gcc, clang\): install one"
    ):
        build_server(tmp_path)


def test_a_compiler_that_is_named_and_not_there_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(NoCompilerError, match="no-such-compiler"):
        build_server(tmp_path)


def test_what_a_compiler_complains_of_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\necho too old >&2\nexit 1\n", "utf-8")
    compiler.chmod(0o700)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(NoCompilerError, match="failed:\ntoo old"):
        build_server(tmp_path)


def test_the_program_is_put_into_the_folder(compiler: str, tmp_path: Path) -> None:
    assert build_server(tmp_path).parent == tmp_path
