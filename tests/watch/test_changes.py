# SPDX-License-Identifier: GPL-2.0-only
"""What is saved is told, with when it was."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.errors import Problem
from pytest_iommufd.watch import changes
from pytest_iommufd.watch.changes import Changes, Saved

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 10


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "linux"
    (path / "drivers/iommu").mkdir(parents=True)
    (path / "drivers/iommu/a.c").write_text("int a;\n")
    return path


@pytest.fixture
def watched(tree: Path) -> Iterator[Changes]:
    with Changes(tree) as made:
        yield made


def until(watched: Changes, *paths: Path) -> Saved:
    """Wait for all of them."""
    found = Saved()
    end = time.monotonic() + SECONDS
    while not set(paths) <= (found.paths or set()):
        assert time.monotonic() < end, found
        watched.wait()
        found |= watched.take()
    return found


def test_nothing_at_first(watched: Changes) -> None:
    assert not watched.take()
    assert not Saved()
    assert Saved(None)


def test_saved_in_place_and_by_rename(watched: Changes, tree: Path) -> None:
    path = tree / "drivers/iommu/a.c"
    for save in (
        lambda: path.write_text("int b;\n"),
        lambda: shutil.copy(path, tree / "fresh").replace(path),
    ):
        began = time.time()
        save()
        ended = time.time()
        assert began - 0.1 <= until(watched, path).at <= ended + 0.1


def test_deleted_and_added_in_a_new_folder(watched: Changes, tree: Path) -> None:
    (tree / "drivers/iommu/a.c").unlink()
    until(watched, tree / "drivers/iommu/a.c")
    (tree / "lib").mkdir()
    until(watched, tree / "lib")
    (tree / "lib/new.c").write_text("int new;\n")
    until(watched, tree / "lib/new.c")


def test_many(watched: Changes, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a checkout of thousands of files some may not have been told."""
    monkeypatch.setattr(changes, "_MANY", 3)
    for number in range(10):
        (tree / f"{number}.c").touch()
    watched.wait()
    end = time.monotonic() + SECONDS
    found = watched.take()
    while found.paths is not None and time.monotonic() < end:
        found |= watched.take()
    assert found.paths is None


def test_both() -> None:
    a, b = Path("a"), Path("b")
    assert Saved(frozenset([a]), 2.0) | Saved(frozenset([b]), 1.0) == Saved(frozenset([a, b]), 2.0)
    assert (Saved(None, 1.0) | Saved(frozenset([b]), 2.0)) == Saved(None, 2.0)


def test_tree_that_goes(watched: Changes, tree: Path) -> None:
    shutil.rmtree(tree)
    with pytest.raises(Problem, match="is gone"):
        until(watched, tree / "nothing")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError("OS file watch limit reached."), "sysctl fs.inotify.max_user_watches"),
        (RuntimeError("x y"), "cannot be watched: x y"),
    ],
)
def test_tree_that_cannot_be_watched(
    tree: Path, error: Exception, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watch(*_: object, **__: object) -> Iterator[set[object]]:
        raise error

    monkeypatch.setattr("watchfiles.watch", watch)
    with Changes(tree) as watched, pytest.raises(Problem, match=says):
        watched.take()


def test_no_thread_is_left(tree: Path) -> None:
    before = threading.active_count()
    with Changes(tree):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
