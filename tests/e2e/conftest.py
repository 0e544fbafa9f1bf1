# SPDX-License-Identifier: GPL-2.0-only
"""Runs of a suite on a kernel whose iommufd was edited; only the module is built anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.kernel import rebuild_module, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

# The edited module takes the place of the kernel's in the run under test.
PLUGIN = """
import dataclasses
from pathlib import Path
import pytest_iommufd.lab as lab

resolve = lab.resolve

def edited(spec, **options):
    modules = tuple(Path(line) for line in Path({modules!r}).read_text().splitlines())
    return dataclasses.replace(resolve(spec, **options), modules=modules)

lab.resolve = edited
"""


@pytest.fixture
def run_edited(pytester: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """Runs suites with an edit of drivers/iommu/iommufd and pytest's arguments."""

    def run(
        spec: str,
        edit: Callable[[Path], object],
        *args: str,
        suites: Collection[str] = ("hwpt_alloc",),
    ) -> pytest.RunResult:
        modules = rebuild_module(resolve(spec), edit, pytester.path / "modules")
        listed = pytester.path / "modules.txt"
        listed.write_text("\n".join(map(str, modules)))
        (pytester.path / "edited.py").write_text(PLUGIN.format(modules=str(listed)))
        pytester.syspathinsert()
        return pytester.runpytest_subprocess(
            *("-p", "edited", "-p", "no:cacheprovider", "--tb=line", "--kernel", spec),
            "--iommufd-strict",  # what nobody has promised is to be noticed, too
            *args,
            *("--pyargs", *(f"pytest_iommufd.suites.{suite}" for suite in suites)),
        )

    return run
