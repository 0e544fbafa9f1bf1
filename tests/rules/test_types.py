# SPDX-License-Identifier: GPL-2.0-only
"""The bodies of the suites' tests are type-checked, with what fixtures say that they return.

Signatures of tests have no annotations. Copies of the suites get them here: from the fixture of an
argument's name that is nearest to the test; what is parametrized is Any.
"""

from __future__ import annotations

import ast
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PLANTED = """
from __future__ import annotations

def test_planted(iommufd, page_size):
    iommufd.no_such_ioctl(page_size)
"""
GENERATORS = {"Iterator", "Generator"}


class Type(NamedTuple):
    """What a fixture returns, and the imports of the names in that."""

    name: str
    imports: tuple[str, ...]


BUILT_IN = {"request": Type("_pytest.FixtureRequest", ("import pytest as _pytest",))}


def _imports(path: Path) -> dict[str, str]:
    """Return how each name of a module is imported elsewhere, with a "_" before it."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            found[node.name] = f"from .{path.stem} import {node.name} as _{node.name}"
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for each in node.names:
                name = each.asname or each.name
                found[name] = f"from {module} import {each.name} as _{name}"
        elif isinstance(node, ast.Import):
            for each in node.names:
                found[each.name] = f"import {each.name} as _{each.name}"
    return found


def fixtures(path: Path) -> Iterator[tuple[str, Type]]:
    """Return the fixtures of a module."""
    imports = _imports(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef) or not node.returns:
            continue
        if not any("pytest.fixture" in ast.unparse(one) for one in node.decorator_list):
            continue
        returns = node.returns
        if isinstance(returns, ast.Subscript) and ast.unparse(returns.value) in GENERATORS:
            inner = returns.slice
            returns = inner.elts[0] if isinstance(inner, ast.Tuple) else inner
        used = {one.id for one in ast.walk(returns) if isinstance(one, ast.Name)} & imports.keys()
        for one in ast.walk(returns):
            if isinstance(one, ast.Name) and one.id in used:
                one.id = f"_{one.id}"
        needed = tuple(imports[name] for name in sorted(used))
        yield node.name, Type(ast.unparse(returns), needed)


def annotated(path: Path, known: dict[str, Type]) -> str:
    """Return the text of a module with signatures of its tests; each line stays where it is."""
    data = path.read_bytes()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    edits: list[tuple[int, str]] = []
    imports = {"from typing import Any as _Any"}
    for node in ast.walk(ast.parse(data)):
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
            continue
        strings = (one for mark in node.decorator_list for one in ast.walk(mark))
        made = {one.value for one in strings if isinstance(one, ast.Constant)}
        end = starts[node.lineno - 1] + node.col_offset
        for arg in node.args.args:
            end = starts[(arg.end_lineno or 0) - 1] + (arg.end_col_offset or 0)
            found = Type("_Any", ()) if arg.arg in made else known.get(arg.arg, Type("_Any", ()))
            imports |= set(found.imports)
            edits.append((end, f": {found.name}"))
        edits.append((data.index(b")", end) + 1, " -> None"))
    for place, text in sorted(edits, reverse=True):
        data = data[:place] + text.encode() + data[place:]
    future = "from __future__ import annotations"
    return data.decode().replace(future, "; ".join([future, *sorted(imports)]), 1)


def test_bodies_fit_what_fixtures_return(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "suites", tmp_path / "suites")
    (tmp_path / "suites/ioas/test_planted.py").write_text(PLANTED)
    shared = dict(BUILT_IN)
    for path in (ROOT / "fixtures").glob("*.py"):
        shared |= dict(fixtures(path))
    for path in (tmp_path / "suites").rglob("test_*.py"):
        near = [fixtures(each) for each in (path.with_name("conftest.py"), path) if each.exists()]
        path.write_text(annotated(path, shared | dict(itertools.chain(*near))))
    cache = f"--cache-dir={ROOT / '.mypy_cache' / 'suites'}"
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", cache, "suites"],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    *errors, _ = run.stdout.splitlines()
    planted = '"Context" has no attribute "no_such_ioctl"  [attr-defined]'
    assert errors == [f"suites/ioas/test_planted.py:5: error: {planted}"]
