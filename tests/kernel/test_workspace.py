# SPDX-License-Identifier: GPL-2.0-only
"""A workspace builds what was edited: the module alone when that is enough."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

import pytest
from kernel_helpers import AMD, HWPT, Recorder, add_sources, make_diff, make_series

from pytest_iommufd.commands.main import main
from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel import ready
from pytest_iommufd.kernel.build.make import BuildError
from pytest_iommufd.kernel.cache.store import Cache
from pytest_iommufd.kernel.spec import parse
from pytest_iommufd.kernel.workspace import Workspace, open_workspace, tree_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IOMMUFD = "drivers/iommu/iommufd"
DRIVER = f"{IOMMUFD}/driver.c"
MODULE = f" {IOMMUFD}/ {IOMMUFD}/iommufd.ko"
KERNEL = " bzImage modules"
UAPI = "include/uapi/linux/iommufd.h"


@pytest.fixture(autouse=True)
def _machine(fakes: Path, cache: Path, tree: Path) -> None:
    del fakes, cache
    add_sources(tree)
    (tree / DRIVER).write_text("int built_in;\n")


@contextlib.contextmanager
def opened(spec: object) -> Iterator[Workspace]:
    with open_workspace(parse(str(spec)), Cache.at(None), Recorder()) as workspace:
        yield workspace


def build(workspace: Workspace) -> str:
    """Bring all that differs, and build that."""
    workspace.bring(workspace.differing(None, Recorder()))
    return workspace.build(Recorder())


@pytest.fixture
def targets(calls: Callable[[str], list[str]]) -> Callable[[], list[str]]:
    """What make was asked for since the last time: the words behind its options."""
    seen = 0

    def read() -> list[str]:
        nonlocal seen
        lines = [line for line in calls("make") if "allnoconfig" not in line]
        new, seen = lines[seen:], len(lines)
        return [line.partition(" -j")[2].partition(" ")[2] for line in new]

    return read


def test_is_made_of_the_trees_kernel(tree: Path, targets: Callable[[], list[str]]) -> None:
    with opened(tree) as workspace:
        assert targets() == [KERNEL.strip()]
        assert build(workspace) == ""
        kernel = ready(str(workspace.folder))
        made = ready(str(tree))
    assert targets() == []
    assert kernel
    assert made
    assert (kernel.name, kernel.release) == (made.name, made.release) == ("linux", "6.12.1-fake")
    assert [path.name for path in kernel.modules] == ["tree.ko", "iommufd.ko"]
    paths = [kernel.image, kernel.uapi, *kernel.modules]
    assert all(path and path.is_file() for path in paths)
    assert all(path and path.is_relative_to(workspace.folder) for path in paths)


def test_is_kept(tree: Path, targets: Callable[[], list[str]]) -> None:
    with opened(tree) as workspace:
        folder = workspace.folder
    targets()
    with opened(tree) as workspace:
        assert workspace.folder == folder
    assert targets() == []


def test_edits_while_nobody_watched(tree: Path, targets: Callable[[], list[str]]) -> None:
    with opened(tree):
        targets()
    (tree / HWPT).write_text("int x;\n")
    with opened(tree) as workspace:
        assert build(workspace) == "module"
    assert targets() == [MODULE.strip()]


def test_tree_is_not_written_to(tree: Path) -> None:
    with opened(tree) as workspace:
        (tree / HWPT).write_text("int x;\n")
        before = {path: path.lstat().st_mtime_ns for path in (tree, *tree.rglob("*"))}
        build(workspace)
    assert {path: path.lstat().st_mtime_ns for path in (tree, *tree.rglob("*"))} == before


def test_the_module_alone(tree: Path, targets: Callable[[], list[str]]) -> None:
    with opened(tree) as workspace:
        targets()
        (tree / HWPT).write_text("int x;\n")
        assert build(workspace) == "module"
        assert build(workspace) == ""
        made = workspace.folder / "build" / HWPT
    assert targets() == [MODULE.strip()]
    assert made.with_suffix(".o").read_text() == "int x;\n"


def test_no_object_of_a_deleted_file_is_left(tree: Path) -> None:
    with opened(tree) as workspace:
        made = (workspace.folder / "build" / AMD).with_suffix(".o")
        assert made.exists()
        (tree / AMD).unlink()
        build(workspace)
        assert not made.exists()


@pytest.mark.parametrize("name", [AMD, "include/linux/iommu.h", f"{IOMMUFD}/Makefile"])
def test_all_of_the_kernel(tree: Path, targets: Callable[[], list[str]], name: str) -> None:
    with opened(tree) as workspace:
        targets()
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("new\n")
        (tree / HWPT).write_text("int x;\n")
        assert build(workspace) == "kernel"
        assert targets() == [KERNEL.strip()]
        (tree / HWPT).write_text("int y;\n")
        assert build(workspace) == "module"


def test_what_is_built_in_needs_an_image(tree: Path, targets: Callable[[], list[str]]) -> None:
    """A file beside the module's, or a header that both include."""
    with opened(tree) as workspace:
        targets()
        (tree / DRIVER).write_text("int other;\n")
        assert build(workspace) == "kernel"
    assert targets() == [MODULE.strip(), KERNEL.strip()]


def test_an_image_that_was_not_finished_is_made_later(
    tree: Path, targets: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tree) as workspace:
        (tree / DRIVER).write_text("int other;\n")
        workspace.bring(workspace.differing(None, Recorder()))

        class Interrupts(Recorder):
            def step(self, name: str, expected_seconds: float | None = None) -> None:
                super().step(name, expected_seconds)
                if name == "configuring":
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            workspace.build(Interrupts())
        targets()
        (tree / HWPT).write_text("int x;\n")
        assert build(workspace) == "kernel"
        assert targets() == [KERNEL.strip()]
        (tree / AMD).write_text("int x;\n")
        monkeypatch.setenv("FAKE_MODE", "fail")
        with pytest.raises(BuildError):
            build(workspace)
        monkeypatch.delenv("FAKE_MODE")
    with opened(tree) as workspace:  # by the next run, too
        assert build(workspace) == "kernel"


@pytest.mark.parametrize("name", [HWPT, AMD])
def test_what_does_not_compile(
    tree: Path, name: str, monkeypatch: pytest.MonkeyPatch, targets: Callable[[], list[str]]
) -> None:
    with opened(tree) as workspace:
        targets()
        (tree / name).write_text("int x;\n")
        monkeypatch.setenv("FAKE_MODE", "fail")
        with pytest.raises(BuildError) as error:
            build(workspace)
        assert error.value.messages == [
            "drivers/iommu/iommufd/main.c:7:1: error: expected ';' before 'static'"
        ]
        monkeypatch.delenv("FAKE_MODE")
        # though nothing was saved since
        assert build(workspace) == ("module" if name == HWPT else "kernel")


@pytest.mark.parametrize("name", [HWPT, AMD])
def test_full_disk(tree: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tree) as workspace:
        (tree / name).write_text("int x;\n")
        monkeypatch.setenv("FAKE_MODE", "full")
        with pytest.raises(Problem, match="no space left"):
            build(workspace)


def test_headers_are_described_anew(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described: list[str] = []

    def describe(tree: Path, destination: Path, *, build: Path | None) -> None:
        del build
        described.append((tree / UAPI).read_text() if (tree / UAPI).exists() else "")
        destination.write_text(f'{{"count": {len(described)}}}')

    monkeypatch.setattr("pytest_iommufd.uapi.describe.describe", describe)
    with opened(tree) as workspace:
        assert described == [""]
        (tree / HWPT).write_text("int x;\n")
        build(workspace)
        assert described == [""]
        (tree / UAPI).parent.mkdir(parents=True)
        (tree / UAPI).write_text("new\n")
        assert build(workspace) == "kernel"
        assert described == ["", "new\n"]
        (tree / IOMMUFD / "iommufd_test.h").write_text("new\n")
        assert build(workspace) == "module"
        kernel = ready(str(workspace.folder))
    assert kernel
    assert kernel.uapi
    assert kernel.uapi.read_text() == '{"count": 3}'


def test_description_of_another_version_is_made_anew(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tree) as workspace:
        folder = workspace.folder
    monkeypatch.setattr("pytest_iommufd.kernel.description.describer", lambda: "new code")
    with pytest.raises(Problem, match="another version of pytest-iommufd"):
        ready(str(folder))
    with opened(tree) as workspace:
        assert ready(str(folder))


@pytest.mark.skipif(not shutil.which("patch"), reason="patch is not on this machine")
def test_series(tree: Path, tmp_path: Path) -> None:
    made = make_series(tmp_path / "v2", make_diff(at=10))
    with opened(f"{tree}+{made}") as workspace:
        assert build(workspace) == ""
        kernel = ready(f"{tree}+{made}")
        (tree / HWPT).write_text((tree / HWPT).read_text().replace("line 20\n", "mine\n"))
        assert build(workspace) == "module"
        lines = (workspace.folder / "build" / HWPT).with_suffix(".o").read_text().splitlines()
    assert (lines[10], lines[20]) == ("new", "mine")
    # the copy begins as links to the files of that kernel, which stay as they are
    assert kernel
    assert kernel.tree
    assert "line 20\n" in (kernel.tree / HWPT).read_text()


def test_one_at_a_time(tree: Path) -> None:
    with (
        opened(tree),
        pytest.raises(Problem, match="is being watched by another run"),
        opened(tree),
    ):
        pass
    with opened(tree):
        pass


def test_another_compiler_begins_anew(tree: Path, fakes: Path, cache: Path) -> None:
    with opened(tree) as workspace:
        first = workspace.folder
    gcc = fakes / "gcc"
    gcc.write_text(gcc.read_text().replace("1.2.3", "1.2.4"))
    with opened(tree) as workspace:
        assert workspace.folder != first
    assert [path.name for path in (cache / "watched").iterdir()] == [workspace.folder.name]


def test_clean(tree: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def kept() -> list[Path]:
        return list((cache / "watched").iterdir())

    with opened(tree):
        assert main(["kernel", "list"]) == 0
        assert "linux (watch)\t" in capsys.readouterr().out
        assert main(["kernel", "clean", str(tree)]) == 0
        assert "in use" in capsys.readouterr().out
        (folder,) = kept()
    assert main(["kernel", "clean", str(folder)]) == 0
    assert kept() == []
    for words in ([str(tree)], ["--all"]):
        with opened(tree):
            assert kept()
        assert main(["kernel", "clean", *words]) == 0
        assert kept() == []


@pytest.mark.parametrize("text", ["6.12", "running"])
def test_only_a_tree_is_edited(text: str) -> None:
    with pytest.raises(Problem, match=f"not a source tree: {text}"):
        tree_of(parse(text))


def test_a_built_kernel_is_a_spec(tree: Path, tmp_path: Path) -> None:
    with opened(tree) as workspace:
        folder = workspace.folder
    spec = parse(str(folder))
    assert (spec.kind, spec.name, spec.path) == ("built", "linux", folder)
    made = make_series(tmp_path / "v2", make_diff(at=10))
    with pytest.raises(Problem, match="cannot be applied to a kernel that is built"):
        parse(f"{folder}+{made}")
    with pytest.raises(Problem, match="not a source tree"):
        tree_of(spec)
