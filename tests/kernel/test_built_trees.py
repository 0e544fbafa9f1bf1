# SPDX-License-Identifier: GPL-2.0-only
"""Trees as developers have them: with a configuration, with build products, in any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from kernel_helpers import AMD, HWPT, Recorder, add_sources, make_diff, make_series
from kernel_helpers import entries as cached

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel import ready, resolve
from pytest_iommufd.kernel.cache.store import Cache
from pytest_iommufd.kernel.source import identity, listing, snapshot
from pytest_iommufd.kernel.spec import parse
from pytest_iommufd.kernel.workspace import open_workspace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="git is not on this machine")

IGNORED = (
    ".*\n!.gitignore\n*.o\n/include/config/\n/include/generated/\n/arch/*/include/generated/\n"
)
LONG_AGO = 1_000_000_000
CONFIG = ".config"
PRODUCTS = ("include/config/auto.conf", "drivers/iommu/amd/amd.o", "drivers/iommu/zoffset.h")


@pytest.fixture(autouse=True)
def _machine(fakes: Path, cache: Path, tree: Path) -> None:
    del fakes, cache
    add_sources(tree)
    (tree / ".gitignore").write_text(IGNORED)
    (tree / "drivers/iommu/.gitignore").write_text("zoffset.h\n")
    for name in (HWPT, AMD):
        os.utime(tree / name, (LONG_AGO, LONG_AGO))


def git(tree: Path, *words: str) -> bytes:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    done = subprocess.run(["git", "-C", tree, *who, *words], check=True, capture_output=True)
    return done.stdout


def commit(tree: Path) -> None:
    for words in (["init"], ["add", "."], ["commit", "-m", "x"]):
        git(tree, *words)


def make_in_place(tree: Path, *names: str) -> None:
    for name in names or (CONFIG, *PRODUCTS):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("made\n")


@pytest.fixture(params=["git", "no git"])
def built(request: pytest.FixtureRequest, tree: Path) -> Path:
    """A tree that was built in place."""
    if request.param == "git":
        commit(tree)
    make_in_place(tree)
    return tree


def state(tree: Path) -> dict[Path, tuple[int, int]]:
    stats = {path: path.lstat() for path in (tree, *tree.rglob("*"))}
    return {path: (stat.st_mtime_ns, stat.st_ctime_ns) for path, stat in stats.items()}


def sources(folder: Path | None) -> set[str]:
    assert folder
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {
        ".gitignore",
        "drivers/iommu/.gitignore",
    }


def test_is_built_from_a_copy_and_left_as_it_is(built: Path, cache: Path) -> None:
    before = state(built)
    kernel = resolve(str(built))
    assert state(built) == before
    assert kernel.tree
    assert kernel.tree.is_relative_to(cache)
    assert sources(kernel.tree) == {"Makefile", "Kconfig", HWPT, AMD}
    assert kernel.source.startswith(f"tree {built}")
    assert ready(str(built)) == kernel


@pytest.mark.parametrize("mark", [CONFIG, PRODUCTS[0], "arch/x86/include/generated/x.h"])
def test_any_mark_of_a_build(tree: Path, mark: str) -> None:
    commit(tree)
    make_in_place(tree, mark)
    assert resolve(str(tree)).release


@pytest.mark.parametrize("name", ["my linux", "linux:7"])
def test_path_that_make_refuses(tree: Path, name: str) -> None:
    odd = tree.rename(tree.with_name(name))
    kernel = resolve(str(odd))
    assert kernel.name == name.replace(" ", "_").replace(":", "_")
    assert sources(kernel.tree) == {"Makefile", "Kconfig", HWPT, AMD}
    link = tree.with_name("link")
    link.symlink_to(odd)
    assert resolve(str(link)).image == kernel.image


def test_edits_and_new_files_are_copied_and_deleted_ones_are_not(tree: Path) -> None:
    commit(tree)
    make_in_place(tree)
    (tree / HWPT).write_text("edited\n")
    (tree / "new.c").write_text("int x;\n")
    (tree / AMD).unlink()
    kernel = resolve(str(tree))
    assert kernel.tree
    assert sources(kernel.tree) == {"Makefile", "Kconfig", HWPT, "new.c"}
    assert (kernel.tree / HWPT).read_text() == "edited\n"


def test_a_build_in_place_is_no_edit(built: Path) -> None:
    kernel = resolve(str(built))
    make_in_place(built, "lib/crc.o", "include/generated/autoconf.h")
    assert ready(str(built)) == kernel


def compiled(log: Path | None) -> list[str]:
    assert log
    lines = log.read_text().splitlines()
    return [line.split()[1] for line in lines if line.split()[:1] == ["CC"]][1:]


@pytest.mark.parametrize("old", [False, True], ids=["new time", "old time"])
def test_only_what_was_edited_is_compiled_again(built: Path, old: bool) -> None:  # noqa: FBT001
    first = resolve(str(built))
    assert len(compiled(first.log)) == 2
    (built / HWPT).write_text("edited\n")
    if old:  # as an unpacked archive or rsync has it
        os.utime(built / HWPT, (LONG_AGO, LONG_AGO))
    second = resolve(str(built))
    assert compiled(second.log) == [HWPT.replace(".c", ".o")]
    assert first.tree
    assert second.tree
    assert (second.tree / AMD).samefile(first.tree / AMD)
    assert "line 1\n" in (first.tree / HWPT).read_text(), "an earlier kernel keeps its source"


def test_only_what_was_edited_since_a_build_out_of_place(tree: Path) -> None:
    commit(tree)
    clean = resolve(str(tree))
    make_in_place(tree)
    assert ready(str(tree)) is None, "its source is of no use to make any more"
    (tree / HWPT).write_text("edited\n")
    assert compiled(resolve(str(tree)).log) == [HWPT.replace(".c", ".o")]
    assert clean.tree == tree


@pytest.mark.skipif(not shutil.which("patch"), reason="patch is not on this machine")
def test_errors_are_those_of_the_user_s_tree(
    built: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "fail with path")
    with pytest.raises(Problem, match="does not build") as caught:
        resolve(str(built))
    assert caught.value.what == f"the kernel in {built} does not build"
    assert f"{built}/drivers/iommu/iommufd/main.c:7:1: error" in caught.value.detail
    assert str(cache) not in caught.value.detail


def test_series(built: Path, tmp_path: Path) -> None:
    made = make_series(tmp_path / "v2", make_diff(at=10))
    patched = resolve(f"{built}+{made}")
    assert patched.tree
    assert (patched.tree / HWPT).read_text().splitlines()[10] == "new"
    assert compiled(patched.log) == [HWPT.replace(".c", ".o")]
    assert not (patched.tree / CONFIG).exists()


class Saving(Recorder):
    """Saves a file whenever the copy is shown to go on."""

    def __init__(self, path: Path, times: int) -> None:
        super().__init__()
        self._path = path
        self._left = times

    def update(self, text: str, fraction: float | None = None) -> None:
        super().update(text, fraction)
        if text.endswith(" files") and self._left:
            self._left -= 1
            self._path.write_text(f"version {self._left}\n")


@pytest.mark.parametrize("name", ["zzz.c", "Kconfig", "new.c"])
def test_a_file_that_is_saved_while_the_tree_is_copied(built: Path, name: str) -> None:
    progress = Saving(built / name, times=2)
    kernel = resolve(str(built), progress=progress)
    assert sum(step.startswith("copying the source") for step in progress.steps) == 3
    assert kernel.tree
    assert (kernel.tree / name).read_text() == "version 0\n"
    assert ready(str(built)) == kernel


def test_a_file_that_is_saved_all_the_time(built: Path, cache: Path) -> None:
    with pytest.raises(Problem, match="were saved each of the 5 times"):
        resolve(str(built), progress=Saving(built / HWPT, times=99))
    assert cached(cache) == []


def test_a_file_that_changes_as_it_is_copied(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its content is put back, so that the identity of the tree is the same after it."""
    text = (built / HWPT).read_text()
    content = identity.of_tree(built)
    copy2 = shutil.copy2

    def copy(source: Path, target: Path) -> None:
        if source == built / HWPT:
            source.write_text("half")
            copy2(source, target)
            source.write_text(text)
            os.utime(source, (LONG_AGO, LONG_AGO))
        else:
            copy2(source, target)

    monkeypatch.setattr("pytest_iommufd.kernel.source.snapshot.shutil.copy2", copy)
    with pytest.raises(snapshot.ChangedError):
        snapshot.take(built, tmp_path / "copy", None, Recorder())
    assert identity.of_tree(built) == content


def test_debian_s_top_folder_is_ignored_for_its_packagers_only(tree: Path) -> None:
    (tree / ".gitignore").write_text(f"{IGNORED}/*\n!/debian/\n")
    make_in_place(tree)
    assert {"Makefile", "Kconfig", HWPT, AMD} == set(listing.files(tree)) - {
        "drivers/iommu/.gitignore"
    }


def test_git_is_asked_for_where_it_is_missing(tree: Path, fakes: Path) -> None:
    make_in_place(tree)
    (fakes / "git").unlink()
    assert ready(str(tree)) is None
    with pytest.raises(Problem, match="missing on this machine: git") as caught:
        resolve(str(tree))
    assert caught.value.mend.endswith("git")


def test_watch_follows_the_source_alone(built: Path, calls: Callable[[str], list[str]]) -> None:
    progress = Recorder()
    with open_workspace(parse(str(built)), Cache.at(None), progress) as workspace:
        assert workspace.differing(None, progress) == set()
        made = (PRODUCTS[1], "include/generated/autoconf.h")
        make_in_place(built, *made)
        assert workspace.differing([built / name for name in made], progress) == set()
        assert workspace.differing(None, progress) == set()
        (built / HWPT).write_text("edited\n")
        (built / "drivers/new.c").write_text("int x;\n")
        (built / AMD).unlink()
        told = {HWPT, "drivers/new.c", AMD}
        assert workspace.differing([built / name for name in told], progress) == told
        assert workspace.differing(None, progress) == told
        workspace.bring(told)
        assert workspace.build(progress) == "kernel"
        assert sources(workspace.source) == {"Makefile", "Kconfig", HWPT, "drivers/new.c"}
        assert not any(word.startswith(f"-C {built}") for call in calls("make") for word in [call])


def test_watch_goes_on_when_its_tree_is_built_in_place(tree: Path) -> None:
    commit(tree)
    progress = Recorder()
    with open_workspace(parse(str(tree)), Cache.at(None), progress) as workspace:
        make_in_place(tree)
        assert workspace.differing([tree / CONFIG, tree / PRODUCTS[1]], progress) == set()
        assert workspace.differing(None, progress) == set()
