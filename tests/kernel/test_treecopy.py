# SPDX-License-Identifier: GPL-2.0-only
"""A copy of a tree follows the tree, whichever way an editor or git writes there."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest
from kernel_helpers import HWPT, Recorder, add_sources, make_diff, make_series

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.progress import Silent
from pytest_iommufd.kernel.series import patching
from pytest_iommufd.kernel.series.patchseries import find
from pytest_iommufd.kernel.source.treecopy import TreeCopy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_iommufd.kernel.series.patchseries import Series

LONG_AGO = 1_000_000_000
CREATES = "--- /dev/null\n+++ b/lib/new.c\n@@ -0,0 +1 @@\n+int x;\n"


@pytest.fixture(autouse=True)
def _sources(tree: Path) -> None:
    add_sources(tree)
    (tree / "scripts").mkdir()
    (tree / "scripts/run.sh").write_text("#!/bin/sh\n")
    (tree / "scripts/link").symlink_to("run.sh")


def copied(tree: Path, *series: Series) -> TreeCopy:
    patching.copy(tree, tree.parent / "source", series, Recorder(), share=False)
    made = TreeCopy(tree, tree.parent / "source", series, "tree linux")
    made.bring(made.differing(None, Silent()))
    return made


def follow(copy: TreeCopy, *names: str) -> set[str]:
    """Bring what differs at some names, or anywhere; nothing differs anywhere after that."""
    paths = [copy.tree / name for name in names] if names else None
    brought = copy.differing(paths, Silent())
    copy.bring(brought)
    assert copy.differing(None, Silent()) == set()
    return brought


@pytest.fixture(params=["told", "looked for"])
def bring(request: pytest.FixtureRequest) -> Callable[..., set[str]]:
    """Follows a change whose paths the watcher tells, or one that was made while nobody watched."""
    told = request.param == "told"
    return lambda copy, *names: follow(copy, *(names if told else ()))


def test_nothing_differs_at_first(tree: Path) -> None:
    copy = copied(tree)
    assert copy.differing(None, Silent()) == set()
    assert copy.differing([tree / HWPT, tree], Silent()) == set()


def test_changed(tree: Path, bring: Callable[..., set[str]]) -> None:
    copy = copied(tree)
    (tree / HWPT).write_text("new\n")
    assert bring(copy, HWPT) == {HWPT}
    assert (copy.copy / HWPT).read_text() == "new\n"


def test_what_is_put_back_with_its_old_time_is_new_to_make(tree: Path) -> None:
    os.utime(tree / HWPT, (LONG_AGO, LONG_AGO))
    copy = copied(tree)
    assert (copy.copy / HWPT).stat().st_mtime == LONG_AGO
    text = (tree / HWPT).read_text()
    (tree / HWPT).write_text("new\n")
    follow(copy, HWPT)
    (tree / HWPT).write_text(text)
    os.utime(tree / HWPT, (LONG_AGO, LONG_AGO))
    began = time.time() - 1
    assert follow(copy, HWPT) == {HWPT}
    assert (copy.copy / HWPT).read_text() == text
    assert (copy.copy / HWPT).stat().st_mtime > began


def test_told_file_of_the_same_size_and_time_is_read(tree: Path) -> None:
    copy = copied(tree)
    text = (tree / HWPT).read_text()
    times = (tree / HWPT).stat()
    (tree / HWPT).write_text(text.replace("line 1\n", "LINE 1\n"))
    os.utime(tree / HWPT, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert follow(copy, HWPT) == {HWPT}
    assert "LINE 1\n" in (copy.copy / HWPT).read_text()


def test_touched_only(tree: Path) -> None:
    copy = copied(tree)
    before = (copy.copy / HWPT).stat()
    os.utime(tree / HWPT)
    assert copy.differing(None, Silent()) == copy.differing([tree / HWPT], Silent()) == set()
    assert (copy.copy / HWPT).stat().st_mtime_ns == before.st_mtime_ns


def test_saved_by_rename(tree: Path) -> None:
    copy = copied(tree)
    fresh = tree / f"{HWPT}.new"
    fresh.write_text("new\n")
    fresh.replace(tree / HWPT)
    assert follow(copy, HWPT, f"{HWPT}.new") == {HWPT}
    assert (copy.copy / HWPT).read_text() == "new\n"


def test_added(tree: Path, bring: Callable[..., set[str]]) -> None:
    copy = copied(tree)
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/c.c").write_text("int x;\n")
    # of a folder that was moved here only the folder is told
    assert bring(copy, "a") == {"a/b/c.c"}
    assert (copy.copy / "a/b/c.c").read_text() == "int x;\n"


def test_deleted(tree: Path, bring: Callable[..., set[str]]) -> None:
    copy = copied(tree)
    (tree / HWPT).unlink()
    assert bring(copy, HWPT) == {HWPT}
    assert not (copy.copy / HWPT).exists()


def test_folder_deleted(tree: Path, bring: Callable[..., set[str]]) -> None:
    copy = copied(tree)
    shutil.rmtree(tree / "drivers")
    assert bring(copy, "drivers") == {HWPT, "drivers/iommu/amd/amd.c"}
    assert not (copy.copy / "drivers").exists()


def test_renamed(tree: Path, bring: Callable[..., set[str]]) -> None:
    copy = copied(tree)
    new = "drivers/iommu/iommufd/other.c"
    (tree / HWPT).rename(tree / new)
    assert bring(copy, HWPT, new) == {HWPT, new}
    assert not (copy.copy / HWPT).exists()
    assert (copy.copy / new).read_text() == (tree / new).read_text()


def test_symlink_changed(tree: Path, bring: Callable[..., set[str]]) -> None:
    copy = copied(tree)
    (tree / "scripts/link").unlink()
    (tree / "scripts/link").symlink_to("../Makefile")
    assert bring(copy, "scripts/link") == {"scripts/link"}
    assert str((copy.copy / "scripts/link").readlink()) == "../Makefile"


def test_symlink_becomes_a_file_and_a_file_a_symlink(
    tree: Path, bring: Callable[..., set[str]]
) -> None:
    copy = copied(tree)
    (tree / "scripts/link").unlink()
    (tree / "scripts/run.sh").rename(tree / "scripts/link")
    (tree / "scripts/run.sh").symlink_to("link")
    assert bring(copy, "scripts/link", "scripts/run.sh") == {"scripts/link", "scripts/run.sh"}
    assert (copy.copy / "scripts/run.sh").is_symlink()
    assert not (copy.copy / "scripts/link").is_symlink()


def test_file_becomes_a_folder(tree: Path, bring: Callable[..., set[str]]) -> None:
    copy = copied(tree)
    (tree / HWPT).unlink()
    (tree / HWPT).mkdir()
    (tree / HWPT / "x.c").write_text("x\n")
    assert f"{HWPT}/x.c" in bring(copy, HWPT)
    assert (copy.copy / HWPT / "x.c").read_text() == "x\n"


def test_folder_becomes_a_file(tree: Path, bring: Callable[..., set[str]]) -> None:
    copy = copied(tree)
    shutil.rmtree(tree / "scripts")
    (tree / "scripts").write_text("x\n")
    assert "scripts" in bring(copy, "scripts")
    assert (copy.copy / "scripts").read_text() == "x\n"


def test_mode_changed(tree: Path, bring: Callable[..., set[str]]) -> None:
    copy = copied(tree)
    (tree / "scripts/run.sh").chmod(0o755)
    assert bring(copy, "scripts/run.sh") == {"scripts/run.sh"}
    assert os.access(copy.copy / "scripts/run.sh", os.X_OK)


def test_links_of_the_copy_are_not_written_through(tree: Path) -> None:
    copy = copied(tree)
    other = tree.parent / "other.c"
    other.hardlink_to(copy.copy / HWPT)
    text = other.read_text()
    (tree / HWPT).write_text("new\n")
    follow(copy, HWPT)
    assert other.read_text() == text


@pytest.mark.parametrize(
    "name",
    [
        ".git/index",
        "drivers/.hwpt.c.swp",
        "drivers/hwpt.c~",
        "drivers/4913",
        "drivers/#hwpt.c#",
        "drivers/hwpt.c.orig",
        "tags",
        "Documentation/userspace-api/iommufd.rst",
        "tools/testing/selftests/iommu/iommufd.c",
    ],
)
def test_what_no_kernel_is_built_from(tree: Path, name: str) -> None:
    copy = copied(tree)
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text("x")
    assert copy.differing([tree / name], Silent()) == copy.differing(None, Silent()) == set()


def test_kconfig_is_an_input_wherever_it_is(tree: Path) -> None:
    copy = copied(tree)
    (tree / "Documentation").mkdir()
    (tree / "Documentation/Kconfig").write_text("config X\n")
    assert follow(copy, "Documentation/Kconfig") == {"Documentation/Kconfig"}


def test_what_a_link_leads_to_may_be_told_by_its_name_there(tree: Path) -> None:
    (tree / "include").symlink_to("drivers/iommu")
    copy = copied(tree)
    (tree / HWPT).write_text("new\n")
    assert follow(copy, "include/iommufd/hwpt.c") == {HWPT}


def test_what_is_outside_is_left_alone(tree: Path) -> None:
    copy = copied(tree)
    (tree.parent / "x").write_text("x")
    assert copy.differing([tree.parent / "x", tree / "../x"], Silent()) == set()


@pytest.mark.skipif(not shutil.which("patch"), reason="patch is not on this machine")
class TestSeries:
    @pytest.fixture
    def copy(self, tree: Path, tmp_path: Path) -> TreeCopy:
        made = make_series(tmp_path / "v2", make_diff(at=10), make_diff(at=30), CREATES)
        return copied(tree, find(str(made), tree))

    def lines(self, copy: TreeCopy) -> list[str]:
        return (copy.copy / HWPT).read_text().splitlines()

    def test_is_applied(self, copy: TreeCopy, tree: Path) -> None:
        assert (self.lines(copy)[10], self.lines(copy)[30]) == ("new", "new")
        assert (copy.copy / "lib/new.c").read_text() == "int x;\n"
        assert copy.differing(None, Silent()) == copy.differing([tree / HWPT], Silent()) == set()

    def test_an_edit_beside_it(self, copy: TreeCopy, tree: Path) -> None:
        (tree / HWPT).write_text((tree / HWPT).read_text().replace("line 20\n", "mine\n"))
        assert follow(copy, "drivers") == {HWPT}
        assert [self.lines(copy)[at] for at in (10, 20, 30)] == ["new", "mine", "new"]

    def test_an_edit_in_its_way(self, copy: TreeCopy, tree: Path) -> None:
        before, text = self.lines(copy), (tree / HWPT).read_text()
        (tree / HWPT).write_text(text.replace("line 10\n", "mine\n"))
        for paths in ([tree / HWPT], [tree / "Makefile"], None):
            with pytest.raises(Problem, match="does not apply to tree linux"):
                copy.differing(paths, Silent())
        assert self.lines(copy) == before
        (tree / HWPT).write_text(text.replace("line 20\n", "mine\n"))
        assert follow(copy, HWPT) == {HWPT}
        assert self.lines(copy)[20] == "mine"
