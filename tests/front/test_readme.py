# SPDX-License-Identifier: GPL-2.0-only
"""README.md says what is so: its commands, options, fixtures, folders and its example."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.plugin.options import PREFIX, SHORT

if TYPE_CHECKING:
    import pytest

    from pytest_iommufd.kernel import Kernel

ROOT = Path(__file__).resolve().parents[2]
MAIN = "pytest_iommufd.commands.main"
README = (ROOT / "README.md").read_text("utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def _help(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command, "--help"], capture_output=True, text=True, check=True
    )
    return done.stdout


def _fixtures() -> set[str]:
    """Names of all fixtures that are not private."""
    return {
        node.name
        for path in (ROOT / "fixtures").glob("*.py")
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and any("fixture" in ast.unparse(decorator) for decorator in node.decorator_list)
    }


def test_two_commands_of_one_line_each() -> None:
    suites, tests = _blocks("sh")
    assert suites.count("\n") == tests.count("\n") == 1
    assert " pytest" in suites.replace("/", " ")
    assert tests.rstrip().endswith("tox")


def test_ci_runs_the_same_line() -> None:
    _, tests = _blocks("sh")
    assert tests in (ROOT / ".ci" / "run").read_text("utf-8").splitlines(keepends=True)


def test_tox_runs_everything() -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    commands = tox["testenv"]["commands"].strip().splitlines()
    assert commands == [
        *("ruff check", "ruff format --check", "mypy"),
        "pytest {[parallel]options} --iommufd-strict --durations=25 {posargs}",
    ]
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    assert settings["mypy"]["strict"]
    assert settings["pytest"]["ini_options"]["testpaths"] == ["suites", "tests"]


def test_options_are_those_of_the_help() -> None:
    pytest_help = _help("pytest")
    commands = (("kernel", "build"), ("kernel", "clean"), ("defects",), ("caps",))
    ours = "".join(_help("pytest_iommufd.commands.main", *words) for words in commands)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - {"--pyargs"}
    assert [option for option in sorted(named) if option not in pytest_help + ours] == []
    offered = set(re.findall(r"--iommufd-[a-z-]+", pytest_help))
    assert len(offered) > len(SHORT)
    named |= {PREFIX + option[2:] for option in named & set(SHORT)}
    assert sorted(offered - named) == []


def test_commands_exist() -> None:
    offered = _help("pytest_iommufd.commands.main") + _help(
        "pytest_iommufd.commands.main", "kernel"
    )
    named = set(re.findall(r"(?:`|^ +)pytest-iommufd (kernel [a-z]+|[a-z]+)", README, re.MULTILINE))
    assert named
    for words in named:
        assert re.search(rf"^ +{words.split()[-1]} ", offered, re.MULTILINE), words


def test_fixtures_are_all_there() -> None:
    table = re.findall(r"^\| (`.*?`) \| ", README, re.MULTILINE)
    named = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    assert sorted(_fixtures() - named) == []


def test_folders_are_all_there() -> None:
    rows = re.findall(r"^\| (`[\w/]+/`.*?) \|", README, re.MULTILINE)
    named = {folder for row in rows for folder in re.findall(r"`([\w/]+/)`", row)}
    assert [folder for folder in sorted(named) if not (ROOT / folder).is_dir()] == []
    packages = {
        f"pytest_iommufd/{path.parent.name}/"
        for path in (ROOT / "pytest_iommufd").glob("*/__init__.py")
    }
    assert sorted(packages - named) == []


def test_example_passes(kernel: Kernel, pytester: pytest.Pytester) -> None:
    (example,) = _blocks("python")
    (catalogue,) = _blocks("toml")
    pytester.makepyfile(example)
    (pytester.path / "rules.toml").write_text(catalogue)
    result = pytester.runpytest_subprocess("--kernel", kernel.spec)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*: 1 holds"])


def test_links_and_paths_exist() -> None:
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / path).exists(), path
    assert list(ROOT.glob("pytest_iommufd/kernel/build/*.config"))
