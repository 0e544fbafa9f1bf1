# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_IOAS_NOIOMMU_GET_PA on a kernel that has it: only VFIO_NOIOMMU selects that otherwise."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from mutant import ALL, Batch, Mutant, batches

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SWITCHED_ON = """
iommufd-y += hwpt_noiommu.o
ccflags-y += -DCONFIG_IOMMUFD_NOIOMMU=1
"""
AREA = "ioas.noiommu_get_pa"
IOCTL, LOOKUP = "iommufd_ioas_noiommu_get_pa", "iopt_get_phys"
IOAS, TABLE = ("7.3", "ioas.c"), ("7.3", "io_pagetable.c")
# fmt: off
MUTANTS = (
    Mutant("privilege", "if (!capable(CAP_SYS_RAWIO))", "if (0)", "privilege", IOCTL, *IOAS),
    Mutant("flags", "if (cmd->flags || cmd->__reserved)", "if (0)", "reserved", IOCTL, *IOAS),
    Mutant("length", "if (!cmd->length)", "if (0)", "length_zero", IOCTL, *IOAS),
    Mutant("iova", "if (cmd->iova >= ULONG_MAX)", "if (0)", "iova_huge", IOCTL, *IOAS),
    Mutant("ioas", "return PTR_ERR(ioas);", "return -EINVAL;", "no_ioas no_ioas.other_type", IOCTL,
           *IOAS),
    Mutant("unmapped", "rc = -ENOENT;", "rc = -EINVAL;", "unmapped", LOOKUP, *TABLE),
    Mutant("revoked", "if (iopt_dmabuf_revoked(pages))", "if (0)", "revoked", LOOKUP, *TABLE),
    Mutant("storage", "rc = -EOPNOTSUPP;", "", "with_iommu", LOOKUP, *TABLE),
)
# fmt: on
# The EINVAL of this one is what a length of 0 would give without its check, if they were together.
TOGETHER = [mutant for mutant in MUTANTS if ALL or mutant.name != "ioas"]


def switch_on(folder: Path) -> None:
    with (folder / "Makefile").open("a") as file:
        file.write(SWITCHED_ON)


def verdicts(result: pytest.RunResult, verdict: str) -> set[str]:
    return set(re.findall(rf"^({AREA}\.\S+) +{verdict}", result.stdout.str(), re.MULTILINE))


def test_rules_hold(run_edited: Callable[..., pytest.RunResult]) -> None:
    result = run_edited("7.3", switch_on, "-v", f"--rule={AREA}.*", suites=["ioas"])
    assert result.ret == 0
    assert verdicts(result, "holds") >= {slug for mutant in MUTANTS for slug in mutant.slugs(AREA)}


@pytest.mark.parametrize("batch", batches((AREA, mutant) for mutant in TOGETHER), ids=str)
def test_a_rule_notices(batch: Batch, run_edited: Callable[..., pytest.RunResult]) -> None:
    def edit(folder: Path) -> None:
        switch_on(folder)
        batch.apply(folder)

    chosen = [f"--rule={slug}" for slug in batch.slugs]
    result = run_edited("7.3", edit, *chosen, suites=["ioas"])
    assert verdicts(result, "(?:violated|crashed)") == batch.slugs
