# SPDX-License-Identifier: GPL-2.0-only
"""What the environment says of compiler and flags is what make builds with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel import ready, resolve
from pytest_iommufd.kernel.build import toolchain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def _machine(fakes: Path, cache: Path) -> None:
    del fakes, cache


@pytest.fixture
def wrapper(tmp_path: Path) -> Path:
    """A script that stands in for the compiler, and writes down each file that it compiles."""
    script = tmp_path / "wrapped-gcc"
    script.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "Wrapped 1.0" && exit\n'
        f'echo "$*" >>{tmp_path}/ran\n'
    )
    script.chmod(0o755)
    return script


def test_a_wrapper_as_cc_compiles(
    tree: Path, tmp_path: Path, wrapper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "x.c").write_text("int x;\n")
    plain = resolve(str(tree))
    assert not (tmp_path / "ran").exists()
    monkeypatch.setenv("CC", str(wrapper))
    assert ready(str(tree)) is None
    wrapped = resolve(str(tree))
    assert wrapped.image != plain.image
    assert (tmp_path / "ran").read_text() == f"-c {tree}/x.c\n"
    assert ready(str(tree)) == wrapped
    monkeypatch.delenv("CC")
    assert ready(str(tree)) == plain


@pytest.mark.parametrize("variable", ["KCFLAGS", "KAFLAGS", "KCPPFLAGS", "HOSTCC", "LD"])
def test_other_flags_are_another_kernel(
    tree: Path,
    calls: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    plain = resolve(str(tree))
    made = len(calls("make"))
    monkeypatch.setenv(variable, "-O1 -g")
    assert ready(str(tree)) is None
    assert resolve(str(tree)).image != plain.image
    assert all(f" {variable}=-O1 -g " in call for call in calls("make")[made:])
    monkeypatch.setenv(variable, "")
    assert ready(str(tree)) == plain


@pytest.mark.parametrize(
    ("value", "program"), [("1", "clang"), ("-18", "clang-18"), ("{folder}/", "clang")]
)
def test_llvm(fakes: Path, monkeypatch: pytest.MonkeyPatch, value: str, program: str) -> None:
    elsewhere = fakes.parent / "llvm"
    elsewhere.mkdir()
    folder = elsewhere if value.startswith("{") else fakes
    (folder / program).write_text(f'#!/bin/sh\necho "{program} of {folder}"\n')
    (folder / program).chmod(0o755)
    monkeypatch.setenv("LLVM", value.format(folder=elsewhere))
    assert toolchain.compiler() == f"{program} of {folder}"
    assert toolchain.words() == [f"LLVM={value.format(folder=elsewhere)}"]


@pytest.mark.parametrize(("variable", "value"), [("CC", "/no/such/cc"), ("LLVM", "1")])
def test_compiler_that_does_not_run(
    tree: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Problem, match=f"{variable}={value} in the environment names") as caught:
        resolve(str(tree))
    assert caught.value.mend == f"install it, or unset {variable}"


def test_cc_with_a_launcher(fakes: Path, wrapper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fakes / "launcher").write_text('#!/bin/sh\nexec "$@"\n')
    (fakes / "launcher").chmod(0o755)
    monkeypatch.setenv("CC", f"launcher {wrapper}")
    assert toolchain.compiler() == "Wrapped 1.0"
