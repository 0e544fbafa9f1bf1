# SPDX-License-Identifier: GPL-2.0-only
"""The descriptions that come with the plugin, against the compiler and against known facts."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.uapi import Uapi, UapiError

if TYPE_CHECKING:
    from pathlib import Path

SHIPPED = {uapi.name: uapi for uapi in Uapi.shipped()}

PRINT_LAYOUT = """
#include <stdio.h>
int main(void)
{
    for (size_t i = 0; i < sizeof(layout) / sizeof(layout[0]); i++)
        printf("%s %lu\\n", layout[i].name, layout[i].value);
    return 0;
}
"""


@pytest.fixture(params=SHIPPED)
def uapi(request: pytest.FixtureRequest) -> Uapi:
    return SHIPPED[request.param]


def test_the_newest_comes_first() -> None:
    assert list(SHIPPED) == ["7.3", "6.12"]


def test_a_compiler_agrees_on_every_size_and_offset(uapi: Uapi, tmp_path: Path) -> None:
    program = tmp_path / "layout"
    subprocess.run(
        ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-x", "c", "-o", program, "-"],
        input=uapi.layout_source() + PRINT_LAYOUT,
        text=True,
        check=True,
    )
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    layout = {name: int(value) for name, value in map(str.split, printed.splitlines())}
    assert len(layout) > 100
    uapi.check_layout(layout)


def test_the_layout_source_is_freestanding(uapi: Uapi) -> None:
    use = "\nunsigned long first(void) { return layout[0].value; }\n"
    flags = ["-std=c11", "-ffreestanding", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    subprocess.run(
        ["gcc", *flags, "-x", "c", "-"], input=uapi.layout_source() + use, text=True, check=True
    )


def test_every_command_has_its_struct(uapi: Uapi) -> None:
    assert [ioctl.name for ioctl in uapi.ioctls if not uapi.has(ioctl.struct)] == []


def test_every_test_operation_has_its_member(uapi: Uapi) -> None:
    members = set(uapi.fields("iommu_test_cmd"))
    operations = uapi.names_of("iommu_test_cmd.op")
    assert [name for name, op in operations.items() if uapi.test_member(op) not in members] == []


@pytest.mark.parametrize(("version", "commands"), [("6.12", 15), ("7.3", 22)])
def test_commands_of_a_kernel(version: str, commands: int) -> None:
    names = [ioctl.name for ioctl in SHIPPED[version].ioctls]
    assert len(names) == commands + 1
    assert names[-1] == "IOMMU_TEST_CMD"


def test_hwpt_alloc(uapi: Uapi) -> None:
    assert uapi.sizeof("iommu_hwpt_alloc") == 48
    assert uapi.offsetof("iommu_hwpt_alloc", "fault_id") == 40
    assert uapi.sizeof("iommu_hwpt_alloc", "data_uptr") == 8
    assert uapi.ioctl("hwpt_alloc").number == 0x3B89


@pytest.mark.parametrize(("version", "size"), [("6.12", 4), ("7.3", 8)])
def test_what_grew_between_the_two(version: str, size: int) -> None:
    assert SHIPPED[version].sizeof("iommu_hwpt_selftest") == size


def test_constants_wider_than_31_bits(uapi: Uapi) -> None:
    assert uapi.IOMMU_HW_INFO_TYPE_SELFTEST == 0xFEEDBEEF
    assert uapi.MOCK_APERTURE_LAST == 2**31 - 1


def test_a_different_offset_names_the_field_and_both_numbers(newest: Uapi) -> None:
    layout = newest.layout() | {"iommu_hwpt_alloc.fault_id": 36}
    with pytest.raises(UapiError) as error:
        newest.check_layout(layout)
    assert str(error.value) == (
        "struct iommu_hwpt_alloc.fault_id: the agent has it at offset 36, "
        "the description 7.3 has it at offset 40"
    )


def test_a_struct_that_only_one_side_has(newest: Uapi) -> None:
    layout = newest.layout()
    del layout["iommu_destroy"]
    with pytest.raises(UapiError) as error:
        newest.check_layout(layout)
    assert str(error.value) == (
        "struct iommu_destroy: the agent has no such name, the description 7.3 has it with size 8"
    )
    with pytest.raises(UapiError) as error:
        newest.check_layout(newest.layout() | {"iommu_new": 8})
    assert str(error.value) == "struct iommu_new: the agent has it, the description 7.3 does not"


def test_loading_compiles_nothing() -> None:
    program = (
        "import subprocess; subprocess.Popen = None\n"
        "from pytest_iommufd.uapi import Uapi; print(len(Uapi.shipped()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"2\n"
