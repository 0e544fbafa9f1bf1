# SPDX-License-Identifier: GPL-2.0-only
"""Kernels without iommufd_test: what needs no mock device is tested, the rest is absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd.uapi.absence import NO_IOMMUFD_TEST

if TYPE_CHECKING:
    from collections.abc import Callable

UNSET = "unset.h"
CHOSEN = ("ioas.*", "generic.number.*", "generic.file.*", "generic.valid_call")
PASSED = {"6.12": 175, "7.3": 212}
"""By kernel: how many tests of these rules pass, at least."""


def without_test(folder: Path) -> None:
    """Have the module built as without CONFIG_IOMMUFD_TEST."""
    (folder / UNSET).write_text("#undef CONFIG_IOMMUFD_TEST\n")
    path = folder / "Makefile"
    kept = path.read_text().replace("iommufd-$(CONFIG_IOMMUFD_TEST) += selftest.o\n", "")
    path.write_text(f"{kept}\nccflags-y += -include $(src)/{UNSET}\n")


def results(spec: str) -> list[dict[str, Any]]:
    rules = json.loads(Path("rules.json").read_text())["rules"]
    return [rule["results"][spec] for rule in rules]


@pytest.mark.parametrize("spec", PASSED)
def test_what_needs_no_device_is_tested(
    spec: str, run_edited: Callable[..., pytest.RunResult]
) -> None:
    chosen = [f"--rule={slug}" for slug in CHOSEN]
    output = "--rules-json=rules.json"
    result = run_edited(spec, without_test, *chosen, output, suites=["ioas", "generic"])
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] >= PASSED[spec]
    reasons = [each["reason"] for each in results(spec) if each["mark"] == "absent"]
    assert all(reasons)
    assert any(reason.startswith(NO_IOMMUFD_TEST) for reason in reasons)
