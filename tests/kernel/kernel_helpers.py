# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import difflib
from pathlib import Path

from pytest_iommufd.host.progress import Progress


def make_tree(path: Path) -> Path:
    path.mkdir()
    (path / "Makefile").write_text("VERSION = 6\n")
    (path / "Kconfig").write_text(
        "config IOMMUFD\n\ttristate\n\tdepends on IOMMU_SUPPORT\n\tdepends on MMU\n"
    )
    return path


HWPT = "drivers/iommu/iommufd/hwpt.c"
AMD = "drivers/iommu/amd/amd.c"


def add_sources(tree: Path) -> None:
    """What the fake source package has."""
    for name in (HWPT, AMD):
        (tree / name).parent.mkdir(parents=True)
        (tree / name).write_text(_text())


def make_diff(name: str = HWPT, at: int = 20, old: str = "", new: str = "new") -> str:
    """A diff of a file of `add_sources`: its line `at` was `old` if that is given."""
    before = _text().splitlines()
    before[at] = old or before[at]
    after = [*before[:at], new, *before[at + 1 :]]
    lines = difflib.unified_diff(before, after, f"a/{name}", f"b/{name}", lineterm="")
    return "\n".join([*lines, ""])


def make_series(folder: Path, *diffs: str) -> Path:
    """A folder with a patch for each diff."""
    folder.mkdir()
    for number, diff in enumerate(diffs, 1):
        text = f"From: A <a@example.org>\nSubject: [PATCH v2 {number}/9] change {number}\n\nWhy.\n"
        (folder / f"000{number}-x.patch").write_text(f"{text}---\n{diff}-- \n2.39\n")
    return folder


def _text() -> str:
    return "".join(f"line {number}\n" for number in range(40))


class Recorder(Progress):
    """Remembers the steps it was shown."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.texts: list[str] = []

    def step(self, name: str, expected_seconds: float | None = None) -> None:
        del expected_seconds
        self.steps.append(name)

    def update(self, text: str, fraction: float | None = None) -> None:
        del fraction
        self.texts.append(text)

    def done(self) -> None:
        self.steps.append("done")


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def entries(cache: Path) -> list[str]:
    return (
        sorted(p.name for p in (cache / "kernels").iterdir())
        if (cache / "kernels").exists()
        else []
    )
