# SPDX-License-Identifier: GPL-2.0-only
"""With a check of IOMMU_HWPT_ALLOC removed from the kernel, the rule of that check is violated.

Each mutant is one edit of drivers/iommu/iommufd/hw_pagetable.c; only the module is built anew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.kernel import rebuild_module, resolve

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_iommufd.kernel import Kernel

SPEC = "6.12"
SOURCE = "hw_pagetable.c"
# The mutated module takes the place of the kernel's in the run under test.
CONFTEST = """
import dataclasses
from pathlib import Path
import pytest_iommufd.lab as lab

resolve = lab.resolve

def mutated(spec, **options):
    modules = tuple(Path(line) for line in Path({modules!r}).read_text().splitlines())
    return dataclasses.replace(resolve(spec, **options), modules=modules)

lab.resolve = mutated
"""


@dataclass(frozen=True)
class Mutant:
    """One edit.

    Attributes:
        name: of the check.
        old: a pattern that matches once within the function; white space matches any.
        new: what takes its place.
        rules: rules of hwpt_alloc that must be violated.
        function: the function that is edited, "" for the whole file.
    """

    name: str
    old: str
    new: str
    rules: tuple[str, ...]
    function: str = "iommufd_hwpt_alloc"

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
MUTANTS = (
    Mutant("reserved", "if (cmd->__reserved)", "if (0)", ("reserved",)),
    Mutant(
        "none_with_length",
        "(cmd->data_type == IOMMU_HWPT_DATA_NONE && cmd->data_len)",
        "(0)",
        ("data.length_without_type",),
    ),
    Mutant(
        "type_without_length",
        "(cmd->data_type != IOMMU_HWPT_DATA_NONE && !cmd->data_len)",
        "(0)",
        ("data.type_without_length",),
    ),
    Mutant(
        "device_errno",
        "return PTR_ERR(idev);",
        "return -EINVAL;",
        (
            "dev_id.names_nothing",
            "dev_id.other_type",
        ),
    ),
    Mutant(
        "pt_errno",
        "rc = -EINVAL; goto out_put_idev;",
        "rc = -ENOENT; goto out_put_idev;",
        ("pt_id.names_nothing",),
    ),
    Mutant(
        "pt_type_errno",
        "rc = -EINVAL; goto out_put_pt;",
        "rc = -ENOENT; goto out_put_pt;",
        (
            "pt_id.other_type",
            "parent.nested",
        ),
    ),
    Mutant("paging_flags", "if (flags & ~valid_flags)", "if (0)", ("flags.unknown",), PAGING),
    Mutant(
        "nested_flags",
        "(flags & ~IOMMU_HWPT_FAULT_ID_VALID) ||",
        "",
        ("flags.nested.unknown",),
        NESTED,
    ),
    Mutant("nested_without_data", "!user_data->len ||", "", ("parent.no_data",), NESTED),
    Mutant(
        "nested_parent",
        "parent->auto_domain || !parent->nest_parent ||",
        "",
        (
            "parent.without_nest_parent",
            "parent.auto",
        ),
        NESTED,
    ),
    Mutant(
        "parent_users", "refcount_inc(&parent->common.obj.users);", "", ("lifetime.XX",), NESTED
    ),
    Mutant(
        "fault_errno", "rc = PTR_ERR(fault);", "rc = -EINVAL;", ("fault_id.nested.names_nothing",)
    ),
    Mutant("fault_users", "refcount_inc(&fault->obj.users);", "", ("fault_id.nested",)),
    Mutant(
        "respond",
        "if (rc) goto out_hwpt; iommufd_object_finalize",
        "iommufd_object_finalize",
        ("output.unwritable",),
    ),
)


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return resolve(SPEC)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_rule_notices(mutant: Mutant, kernel: Kernel, pytester: pytest.Pytester) -> None:
    modules = rebuild_module(kernel, mutant.apply, pytester.path / "modules")
    listed = pytester.path / "modules.txt"
    listed.write_text("\n".join(map(str, modules)))
    (pytester.path / "mutated.py").write_text(CONFTEST.format(modules=str(listed)))
    pytester.syspathinsert()
    result = pytester.runpytest_subprocess(
        *("-p", "mutated", "-p", "no:cacheprovider", "--tb=line", "--kernel", SPEC),
        *(f"--rule=hwpt_alloc.{rule}" for rule in mutant.rules),
        *("--pyargs", "pytest_iommufd.suites.hwpt_alloc"),
    )
    violated = re.findall(
        r"^hwpt_alloc\.(\S+) +(?:violated|crashed)", result.stdout.str(), re.MULTILINE
    )
    assert set(violated) == set(mutant.rules)
