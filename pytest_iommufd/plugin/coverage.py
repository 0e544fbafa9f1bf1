# SPDX-License-Identifier: GPL-2.0-only
"""Which lines and branches of iommufd ran, from a kernel that counts them (X.Y+gcov).

FOLDER/KERNEL/WORKER/       counters of one boot: .gcda files, each beside its .gcno
FOLDER/KERNEL.html          the sources with their counts
FOLDER/KERNEL.json          the sums
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel.cache.store import partial_of
from pytest_iommufd.lab import LAB
from pytest_iommufd.machine import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from pytest_iommufd.kernel import Kernel
    from pytest_iommufd.machine import Machine

SERIES = "gcov"
_DEBUGFS = "/sys/kernel/debug/gcov"
_COUNTED = "drivers/iommu/iommufd"
_MOST = 1 << 20


def pytest_configure(config: pytest.Config) -> None:
    """Begin with an empty folder."""
    folder = config.getoption("--iommufd-coverage")
    if folder and not hasattr(config, "workerinput"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fetch the counters, in each process that has machines, while those still run."""
    config = session.config
    folder = config.getoption("--iommufd-coverage")
    if not folder:
        return
    worker = getattr(config, "workerinput", {}).get("workerid", "run")
    for bench in config.stash[LAB].benches:
        if bench.machine.running:
            collect(bench.kernel, bench.machine, folder / bench.kernel.name / worker)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the sums."""
    config = terminalreporter.config
    folder = config.getoption("--iommufd-coverage")
    if not folder:
        return
    terminalreporter.section("iommufd coverage")
    for bench in config.stash[LAB].benches:
        terminalreporter.line(summarize(bench.kernel, folder))


def counters(kernel: Kernel) -> list[str]:
    """Return the paths that the kernel's counters were compiled with.

    Raises:
        Problem: the kernel has none.
    """
    found = {
        path.decode()
        for module in kernel.modules
        for path in re.findall(rb"(/[\w./+-]+\.gcda)\0", module.read_bytes())
    }
    if not found or not kernel.build:
        raise Problem(
            f"kernel {kernel.name} does not count which lines run",
            expected=f"a kernel with the patch series {SERIES}",
            mend=f"--kernel {kernel.spec}+{SERIES}",
        )
    return sorted(found)


def collect(kernel: Kernel, machine: Machine, folder: Path) -> None:
    """Fetch the counters of a running machine.

    Args:
        kernel: the kernel, built here with counters.
        machine: runs it.
        folder: receives them; it must not exist.

    Raises:
        Problem: the kernel has no counters.
    """
    assert kernel.build  # noqa: S101 - counters() has seen to it
    paths = counters(kernel)
    folder.mkdir(parents=True)
    process = machine.process()
    try:
        for path in paths:
            place = path[path.index(_COUNTED) :]
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(process.read_file(f"{_DEBUGFS}{path}", _MOST))
            notes = (kernel.build / place).with_suffix(".gcno").read_bytes()
            target.with_suffix(".gcno").write_bytes(_moved(notes, kernel.build.parent))
    except Verdict:
        shutil.rmtree(folder)
    finally:
        process.end()


def _moved(notes: bytes, entry: Path) -> bytes:
    """Name the sources by where they are; when they were compiled the folder had another name.

    The lengths of the names are all over the file, so they must stay.
    """
    before = f"{partial_of(entry)}/".encode()
    after = f"{entry}/".encode()
    return notes.replace(before, after + b"./" * ((len(before) - len(after)) // 2))


def summarize(kernel: Kernel, folder: Path) -> str:
    """Add up what was collected, write the reports, and say the sums in one line."""
    sums, page = folder / f"{kernel.name}.json", folder / f"{kernel.name}.html"
    asked = subprocess.run(
        [
            *(sys.executable, "-m", "gcovr", "--root", str(kernel.tree)),
            *("--object-directory", str(folder / kernel.name), "--filter", f".*/{_COUNTED}/"),
            *("--gcov-ignore-errors=all", "--merge-mode-functions=merge-use-line-min"),
            *("--json-summary", str(sums), "--html-details", str(page)),
            str(folder / kernel.name),
        ],
        cwd=kernel.build,
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode:
        raise Problem("the counters cannot be read", detail=asked.stderr)
    total = json.loads(sums.read_text())
    return (
        f"{kernel.name}: {total['line_covered']} of {total['line_total']} lines "
        f"({total['line_percent']} %), {total['branch_covered']} of {total['branch_total']} "
        f"branches ({total['branch_percent']} %) of iommufd; {page}"
    )
