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
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel.cache.store import partial_of
from pytest_iommufd.lab import LAB
from pytest_iommufd.machine import Verdict
from pytest_iommufd.plugin.kernels import is_worker

if TYPE_CHECKING:
    from pytest_iommufd.kernel import Kernel
    from pytest_iommufd.machine import Machine

SERIES = "gcov"
_DEBUGFS = "/sys/kernel/debug/gcov"
_COUNTED = "drivers/iommu/iommufd"
_MOST = 1 << 20
# What says that a folder is ours.
_MARK = ".pytest-iommufd-coverage"


def pytest_configure(config: pytest.Config) -> None:
    """Begin with a folder that has nothing in it but the mark that it is ours."""
    folder = _folder(config)
    if folder and not is_worker(config):
        try:
            _clear(folder)
        except OSError as error:
            raise pytest.UsageError(
                f"--iommufd-coverage {folder} cannot be written to: {error.strerror}"
            ) from None


def _folder(config: pytest.Config) -> Path | None:
    given = config.option.iommufd_coverage
    if not given or config.option.collectonly:
        return None
    return config.invocation_params.dir / Path(given).expanduser()


def _clear(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / _MARK
    inside = list(folder.iterdir())
    if inside and mark not in inside:
        raise pytest.UsageError(
            f"--iommufd-coverage {folder}: it has files that are not of an earlier run\n"
            "expected: a folder that is new or empty, or that coverage was written to before"
        )
    for path in inside:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    mark.write_text("The next run of pytest --iommufd-coverage removes all that is in here.\n")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fetch the counters, in each process that has machines, while those still run."""
    config = session.config
    folder = _folder(config)
    if not folder:
        return
    worker = getattr(config, "workerinput", {}).get("workerid", "run")
    for bench in config.stash[LAB].benches:
        if bench.machine.running:
            collect(bench.kernel, bench.machine, folder / bench.kernel.name / worker)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the sums."""
    config = terminalreporter.config
    folder = _folder(config)
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
