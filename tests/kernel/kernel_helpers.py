# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from pathlib import Path

from pytest_iommufd.kernel.progress import Progress


def make_tree(path: Path) -> Path:
    path.mkdir()
    (path / "Makefile").write_text("VERSION = 6\n")
    (path / "Kconfig").write_text(
        "config IOMMUFD\n\ttristate\n\tdepends on IOMMU_SUPPORT\n\tdepends on MMU\n"
    )
    return path


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
