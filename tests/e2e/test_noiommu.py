# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_IOAS_NOIOMMU_GET_PA on a kernel that has it: only VFIO_NOIOMMU selects that otherwise."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from mutant import ALL, SOME, Mutant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SWITCHED_ON = """
iommufd-y += hwpt_noiommu.o
ccflags-y += -DCONFIG_IOMMUFD_NOIOMMU=1
"""
IOCTL, LOOKUP = "iommufd_ioas_noiommu_get_pa", "iopt_get_phys"
IOAS, TABLE = ("7.3", "ioas.c"), ("7.3", "io_pagetable.c")
# fmt: off
MUTANTS = (
    Mutant("privilege", "if (!capable(CAP_SYS_RAWIO))", "if (0)", "privilege", IOCTL, *IOAS),
    Mutant("flags", "if (cmd->flags || cmd->__reserved)", "if (0)", "reserved", IOCTL, *IOAS),
    Mutant("length", "if (!cmd->length)", "if (0)", "length_zero", IOCTL, *IOAS),
    Mutant("iova", "if (cmd->iova >= ULONG_MAX)", "if (0)", "iova_huge", IOCTL, *IOAS),
    Mutant("ioas", "return PTR_ERR(ioas);", "return -EINVAL;", "no_ioas", IOCTL, *IOAS),
    Mutant("unmapped", "rc = -ENOENT;", "rc = -EINVAL;", "unmapped", LOOKUP, *TABLE),
    Mutant("revoked", "if (iopt_dmabuf_revoked(pages))", "if (0)", "revoked", LOOKUP, *TABLE),
    Mutant("storage", "rc = -EOPNOTSUPP;", "", "with_iommu", LOOKUP, *TABLE),
)
# fmt: on


def switch_on(folder: Path) -> None:
    with (folder / "Makefile").open("a") as file:
        file.write(SWITCHED_ON)


def verdicts(result: pytest.RunResult, verdict: str) -> set[str]:
    found = re.findall(
        rf"^ioas\.noiommu_get_pa\.(\S+) +{verdict}", result.stdout.str(), re.MULTILINE
    )
    return set(found)


def test_rules_hold(run_edited: Callable[..., pytest.RunResult]) -> None:
    result = run_edited("7.3", switch_on, "-v", "--rule=ioas.noiommu_get_pa.*", suite="ioas")
    assert result.ret == 0
    assert verdicts(result, "holds") >= {mutant.rules for mutant in MUTANTS}


@pytest.mark.parametrize("mutant", MUTANTS[:: 1 if ALL else SOME], ids=lambda mutant: mutant.name)
def test_a_rule_notices(mutant: Mutant, run_edited: Callable[..., pytest.RunResult]) -> None:
    def edit(folder: Path) -> None:
        switch_on(folder)
        mutant.apply(folder)

    result = run_edited("7.3", edit, f"--rule=ioas.noiommu_get_pa.{mutant.rules}", suite="ioas")
    assert verdicts(result, "(?:violated|crashed)") == {mutant.rules}
