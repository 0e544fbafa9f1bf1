# SPDX-License-Identifier: GPL-2.0-only
"""With a check of IOMMU_HWPT_ALLOC removed from the kernel, the rule of that check is violated.

Each mutant is one edit of drivers/iommu/iommufd/hw_pagetable.c; only the module is built anew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOURCE = "hw_pagetable.c"


@dataclass(frozen=True)
class Mutant:
    """One edit.

    Attributes:
        name: of the check.
        old: a pattern that matches once within the function; white space matches any.
        new: what takes its place.
        rules: rules of hwpt_alloc that must be violated, with spaces between.
        function: the function that is edited.
        spec: the kernel; one that has the check.
    """

    name: str
    old: str
    new: str
    rules: str
    function: str = "iommufd_hwpt_alloc"
    spec: str = "6.12"

    def apply(self, folder: Path) -> None:
        path = folder / SOURCE
        text = path.read_text()
        found = re.search(rf"^(int )?{self.function}\(.*?^}}", text, re.MULTILINE | re.DOTALL)
        assert found, self.function
        pattern = r"\s+".join(re.escape(word) for word in self.old.split())
        edited, count = re.subn(pattern, self.new, found[0])
        assert count == 1, f"{self.name}: {self.old!r} is {count} times in {self.function}"
        path.write_text(text[: found.start()] + edited + text[found.end() :])


PAGING = "iommufd_hwpt_paging_alloc"
NESTED = "iommufd_hwpt_nested_alloc"
VIOMMU = "iommufd_viommu_alloc_hwpt_nested"
# fmt: off
MUTANTS = (
    # checks that are gone; the mock driver refuses some of that too, but only later
    Mutant("reserved", "if (cmd->__reserved)", "if (0)", "reserved"),
    Mutant("none_with_length", "(cmd->data_type == IOMMU_HWPT_DATA_NONE && cmd->data_len)", "(0)",
           "data.length_without_type"),
    Mutant("type_without_length", "(cmd->data_type != IOMMU_HWPT_DATA_NONE && !cmd->data_len)",
           "(0)", "data.type_without_length"),
    Mutant("respond", "if (rc) goto out_hwpt; iommufd_object_finalize", "iommufd_object_finalize",
           "undone.unwritable_paging undone.unwritable_nested"),
    Mutant("paging_flags", "if (flags & ~valid_flags)", "if (0)", "flags.unknown_before_memory",
           PAGING),
    Mutant("nested_flags", "(flags & ~IOMMU_HWPT_FAULT_ID_VALID) ||", "",
           "parent.flags_before_parent", NESTED),
    Mutant("nested_without_data", "!user_data->len ||", "", "parent.no_data.before_parent",
           NESTED),
    Mutant("nested_parent", "parent->auto_domain || !parent->nest_parent ||", "",
           "parent.without_nest_parent parent.auto", NESTED),
    Mutant("nest_parent_with_fault_id", "if ((flags & IOMMU_HWPT_FAULT_ID_VALID) &&", "if (0 &&",
           "flags.parent_with_fault_id", PAGING, "7.3"),
    Mutant("viommu_flags", "if (flags & ~(IOMMU_HWPT_FAULT_ID_VALID | IOMMU_HWPT_ALLOC_PASID))",
           "if (0)", "viommu.flags_before_memory", VIOMMU, "7.3"),
    Mutant("viommu_without_data", "if (!user_data->len)", "if (0)",
           "viommu.no_data_before_memory", VIOMMU, "7.3"),
    # references that are not taken
    Mutant("parent_users", "refcount_inc(&parent->common.obj.users);", "", "lifetime.parent",
           NESTED),
    Mutant("fault_users", "refcount_inc(&fault->obj.users);", "", "fault_id.nested"),
    Mutant("viommu_users", "refcount_inc(&viommu->obj.users);", "", "viommu.holds", VIOMMU, "7.3"),
    # another errno
    Mutant("device_errno", "return PTR_ERR(idev);", "return -EINVAL;",
           "dev_id.names_nothing dev_id.other_type"),
    Mutant("pt_errno", "rc = -EINVAL; goto out_put_idev;", "rc = -ENOENT; goto out_put_idev;",
           "pt_id.names_nothing"),
    Mutant("pt_type_errno", "rc = -EINVAL; goto out_put_pt;", "rc = -ENOENT; goto out_put_pt;",
           "pt_id.other_type parent.nested"),
    Mutant("fault_errno", "rc = PTR_ERR(fault);", "rc = -EINVAL;",
           "fault_id.nested.names_nothing"),
)
# fmt: on


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_rule_notices(mutant: Mutant, run_edited: Callable[..., pytest.RunResult]) -> None:
    rules = mutant.rules.split()
    chosen = [f"--rule=hwpt_alloc.{rule}" for rule in rules]
    result = run_edited(mutant.spec, mutant.apply, *chosen)
    violated = re.findall(
        r"^hwpt_alloc\.(\S+) +(?:violated|crashed)", result.stdout.str(), re.MULTILINE
    )
    assert set(violated) == set(rules)


def test_a_kernel_without_iommufd_test_is_told_so(
    run_edited: Callable[..., pytest.RunResult],
) -> None:
    def leave_out(folder: Path) -> None:
        path = folder / "main.c"
        path.write_text(path.read_text().replace("#ifdef CONFIG_IOMMUFD_TEST", "#if 0"))

    result = run_edited("6.12", leave_out)
    assert result.ret != 0
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "kernel 6.12 has iommufd without iommufd_test: IOMMU_TEST_CMD gives ENOTTY",
            "expected: CONFIG_IOMMUFD_TEST=y*",
            "to mend it: *",
        ]
    )
