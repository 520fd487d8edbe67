"""What holds for the project as a whole, and no tool checks."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import slipstream
from slipstream import errors, reasons

ROOT = Path(__file__).parents[1]
PACKAGE = Path(slipstream.__file__).parent
README = (ROOT / "README.md").read_text("utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

# Seen by users only through the other packages, and through the command.
INTERNAL = {"slipstream.connection", "slipstream.cli", "slipstream.__main__"}
PUBLIC = sorted(
    name
    for name in (f"slipstream.{module.name}" for module in pkgutil.iter_modules([str(PACKAGE)]))
    if name not in INTERNAL
)

# What silences a tool, and how it looks with its reason.
SILENCED = {
    r"#\s*noqa\b": r"# noqa: [A-Z]+\d+(, [A-Z]+\d+)* - \S",
    r"#\s*(type|pyright): ignore": r"# (type|pyright): ignore\[[\w, -]+\]\s+# \S",
    r"#\s*pragma: no cover": r"# pragma: no cover - \S",
}


def python_files(*tops: Path) -> Iterator[Path]:
    for top in tops:
        yield from sorted(path for path in top.rglob("*.py") if "node_modules" not in path.parts)


def test_the_client_in_the_readme_is_the_example_that_is_tested() -> None:
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert code == (ROOT / "guides/examples/readme_client.py").read_text("utf-8")


@pytest.mark.parametrize(
    ("what", "extra", "ends"), [("demo", "cli", "slipstream demo"), ("tests", "test", "pytest")]
)
def test_a_command_of_the_readme_is_one_line_that_does_all(
    what: str, extra: str, ends: str
) -> None:
    [command] = re.findall(rf"<!-- {what} -->\n```\n(.*?)\n```", README, re.DOTALL)
    assert "\n" not in command
    assert command.startswith("python3 -m venv ")
    assert f"install --quiet '.[{extra}]'" in command
    assert command.endswith(ends)
    assert extra in PROJECT["project"]["optional-dependencies"]


def test_the_links_of_the_readme_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).is_file(), link


def test_the_version_is_the_same_everywhere() -> None:
    version = PROJECT["project"]["version"]
    assert slipstream.__version__ == version
    headings = re.findall(
        r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    assert headings[0] in {"Unreleased", version}
    assert len(headings) == len(set(headings))


def test_the_package_tells_type_checkers_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_a_module_is_no_longer_than_one_can_read() -> None:
    """One over 600 lines has to say why, in a comment before anything else."""
    for path in python_files(PACKAGE):
        lines = path.read_text("utf-8").splitlines()
        assert len(lines) <= 600 or lines[0].startswith("#"), f"{path}: {len(lines)} lines"


@pytest.mark.parametrize("name", ["slipstream", *PUBLIC])
def test_every_public_name_is_there_and_described(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, name
    names: list[str] = (
        [name for name in vars(module) if not name.startswith("_")]
        if name == "slipstream"
        else module.__all__
    )
    assert len(names) == len(set(names))
    for public in names:
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"{name}.{public}"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_package_has_a_page_in_the_reference(name: str) -> None:
    pages = [path.read_text("utf-8") for path in (ROOT / "guides/reference").glob("*.md")]
    assert any(f".. automodule:: {name}\n" in page for page in pages)


def test_an_application_has_every_error_and_reason_from_the_facade() -> None:
    for module in (errors, reasons):
        for name in module.__all__:
            assert getattr(slipstream, name) is getattr(module, name)


def test_the_tree_in_the_docstring_is_the_tree_of_the_errors() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    ((?:[│ ]   )*)(?:[├└]── )?(\w+Error)\b", line):
            depth = len(match[1]) // 4 + ("── " in line)
            above[depth:] = [match[2]]
            drawn[match[2]] = above[depth - 1] if depth else "Exception"
    for name, parent in drawn.items():
        bases = [base.__name__ for base in getattr(errors, name).__mro__]
        assert parent in bases[1:], f"{name} is drawn below {parent}"
    assert set(drawn) == set(errors.__all__)


def test_what_is_silenced_has_its_reason_on_the_line() -> None:
    silent: list[str] = []
    for path in set(python_files(PACKAGE, ROOT / "tests", ROOT / "guides")) - {Path(__file__)}:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            silent += [
                f"{path.relative_to(path.parents[1])}:{number}: {line.strip()}"
                for what, reasoned in SILENCED.items()
                if re.search(what, line) and not re.search(reasoned, line)
            ]
    assert not silent, "\n".join(silent)


def test_nothing_names_a_machine() -> None:
    """A path of somebody's home, or a package registry's address, works in one place only."""
    home = re.compile(r"(?<![\w.])/(?:home|root|work|Users)/\w|https?://(?:\w+\.)*(?:pypi|npmjs)\.")
    papers = [path for path in ROOT.iterdir() if path.suffix in {".md", ".toml"}]
    guides = [path for path in (ROOT / "guides").rglob("*.md") if "_build" not in path.parts]
    for path in [*papers, *guides, *python_files(PACKAGE, ROOT / "tests", ROOT / "guides")]:
        if path != Path(__file__):
            assert not home.search(path.read_text("utf-8")), path


def test_an_application_needs_no_extra() -> None:
    """Neither the library nor its embedded server imports what only an extra installs."""
    program = (
        "import sys, slipstream, slipstream.testing\n"
        "print(*{'click', 'rich', 'hypothesis', 'pytest', 'pytest_trio', 'python_socks', 'trustme'} & {*sys.modules})"
    )
    done = subprocess.run(  # noqa: S603 - it is our own program
        [sys.executable, "-c", program],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("part", "asserts", "ignores"), [("otp", 30, 20), ("client", 12, 10)], ids=["otp", "client"]
)
def test_both_type_checkers_read_what_types_are_expected(
    part: str, asserts: int, ignores: int
) -> None:
    """They, and not this run, fail where the types are not what users rely on."""
    expected = f"tests/{part}/expected_types.py"
    assert (ROOT / expected).is_file()
    tools = PROJECT["tool"]
    assert tools["mypy"]["strict"]
    assert "tests" in tools["mypy"]["files"]
    assert not [o for o in tools["mypy"]["overrides"] if f"tests.{part}" in str(o["module"])]
    assert tools["pyright"]["typeCheckingMode"] == "strict"
    assert expected in tools["pyright"]["include"]
    text = (ROOT / expected).read_text("utf-8")
    # mypy, being strict, reports an ignore that is not needed; pyright does so where it is told to.
    assert "# pyright: reportUnnecessaryTypeIgnoreComment=true" in text
    assert text.count("assert_type(") >= asserts
    assert text.count("ignore[") >= ignores
    gate = ROOT / ".ci/run"
    if gate.exists():  # it stays behind where the tests run from a wheel
        assert {'run "$bin/mypy"', 'run "$bin/pyright" --pythonpath "$bin/python"'} <= set(
            gate.read_text("utf-8").splitlines()
        )


SCOPES = re.compile(r"\b(CancelScope|move_on_\w+|fail_(after|at)|open_nursery)\b")
MANAGERS = re.compile(r"\b(async)?contextmanager\b")


def yields_in_scopes(source: str) -> list[str]:
    """Name the generators that yield inside a cancel scope or nursery, and are no context manager.

    Whoever iterates such a one may be cancelled by a scope that was never its own, or leave it open.
    """
    found: list[str] = []

    def visit(node: ast.AST, function: str, scoped: bool) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            managed = any(MANAGERS.search(ast.unparse(d)) for d in node.decorator_list)
            function, scoped = ("" if managed else node.name), False
        elif isinstance(node, ast.Lambda):
            function, scoped = "", False
        elif isinstance(node, ast.With | ast.AsyncWith):
            scoped = scoped or any(
                SCOPES.search(ast.unparse(item.context_expr)) for item in node.items
            )
        elif isinstance(node, ast.Yield | ast.YieldFrom) and function and scoped:
            found.append(function)
        for child in ast.iter_child_nodes(node):
            visit(child, function, scoped)

    visit(ast.parse(source), "", False)
    return found


def test_no_scope_is_held_over_a_yield() -> None:
    """TRI-096: but for context managers, which trio lets do so; the library, tests and guides."""
    bad = "async def ticks():\n with trio.{}:\n  {}\n  yield 1\n"
    for scope in ("CancelScope()", "fail_after(1)", "open_nursery() as n"):
        assert yields_in_scopes(bad.format(scope, "pass")) == ["ticks"]
        assert yields_in_scopes("@asynccontextmanager\n" + bad.format(scope, "pass")) == []
        assert yields_in_scopes(bad.format(scope, "def f(): pass")) == ["ticks"]
    for path in python_files(PACKAGE, ROOT / "tests", ROOT / "guides"):
        assert yields_in_scopes(path.read_text("utf-8")) == [], path
