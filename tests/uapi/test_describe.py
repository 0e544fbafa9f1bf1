# SPDX-License-Identifier: GPL-2.0-only
"""Describing headers: a tree in miniature with every construct that the real ones use."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.errors import Problem
from pytest_iommufd.uapi import Uapi
from pytest_iommufd.uapi.describe import describe, main

if TYPE_CHECKING:
    from pathlib import Path

IOMMUFD = "include/uapi/linux/iommufd.h"
TEST = "drivers/iommu/iommufd/iommufd_test.h"

FILES = {
    "Makefile": "VERSION = 9\nPATCHLEVEL = 1\nSUBLEVEL = 4\nEXTRAVERSION =\n",
    "include/uapi/linux/types.h": """
#include <linux/compiler_types.h>
#include <asm/types.h>
#define __aligned_u64 __u64 __attribute__((aligned(8)))
#define NOT_OURS 1
struct not_ours { int x; };
""",
    "include/uapi/linux/ioctl.h": "#include <asm/ioctl.h>\n",
    "include/uapi/asm-generic/types.h": """
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef signed int __s32;
typedef unsigned int __u32;
typedef unsigned long long __u64;
""",
    "include/uapi/asm-generic/ioctl.h": """
#define _IO(type, nr) (((type) << 8) | (nr))
""",
    IOMMUFD: """
#ifndef GUARD_H
#define GUARD_H
#include <linux/ioctl.h>
#include <linux/types.h>
#define IOMMUFD_TYPE (';')
enum {
	IOMMUFD_CMD_BASE = 0x80,
	IOMMUFD_CMD_NEW_THING = IOMMUFD_CMD_BASE,
};
/* a comment with a brace { */
enum iommufd_new_thing_flags {
	IOMMU_NEW_THING_ONE = 1 << 0,
	IOMMU_NEW_THING_TOP = (1U << (30 + 1)),
};
struct iommu_new_thing {
#define IOMMU_NEW_THING_INSIDE	(1 << 4)
	__u32 size;
	__u32 flags;
	__u8 __reserved[3 + 1], version;
	union {
		__s32 in_type;
		__u16 out_type;
	};
	__aligned_u64 data_uptr;
};
#define IOMMU_NEW_THING \\
	_IO(IOMMUFD_TYPE, IOMMUFD_CMD_NEW_THING)
#define FUNCTION(x) (x)
#define TEXT "text"
#define NONSENSE struct iommu_new_thing
#endif
""",
    TEST: """
#include <linux/iommufd.h>
enum {
	MOCK_APERTURE_START = 1UL << 24,
	MOCK_COUNT = 2,
	MOCK_NEGATIVE = -5,
};
#define IOMMU_TEST_WIDE 0xfeedbeefULL << 8
#define IOMMU_TEST_ALL ~0ULL
struct iommu_test_cmd {
	__u32 size;
	__u32 op;
	union {
		struct {
			__aligned_u64 start;
		} add_reserved;
		struct {
			__u32 id;
			__u32 values[MOCK_COUNT];
		} check;
	};
	__u32 last;
	__u64 __user *uptr;
	__u32 tail[];
};
#define IOMMU_TEST_CMD _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 32)
""",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "a tree"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def declare(tree: Path, text: str) -> None:
    header = tree / IOMMUFD
    header.write_text(header.read_text().replace("#define TEXT", f"{text}\n#define TEXT"))


def test_the_description(tree: Path, tmp_path: Path) -> None:
    destination = tmp_path / "new folder/9.1.json"
    describe(tree, destination)
    description = json.loads(destination.read_text())
    assert description == {
        "format": 1,
        "kernel": "9.1.4",
        "headers": [IOMMUFD, TEST],
        "structs": {
            "iommu_new_thing": {
                "size": 32,
                "decl": "struct iommu_new_thing {\n\t__u32 size;\n\t__u32 flags;\n"
                "\t__u8 __reserved[3 + 1], version;\n"
                "\tunion {\n\t\t__s32 in_type;\n\t\t__u16 out_type;\n\t};\n"
                "\t__u64 data_uptr;\n};",
            },
            "iommu_test_cmd": {
                "size": 40,
                "decl": "struct iommu_test_cmd {\n\t__u32 size;\n\t__u32 op;\n\tunion {\n"
                "\t\tstruct {\n\t\t\t__u64 start;\n\t\t} add_reserved;\n"
                "\t\tstruct {\n\t\t\t__u32 id;\n\t\t\t__u32 values[2];\n\t\t} check;\n\t};\n"
                "\t__u32 last;\n\tuintptr_t uptr;\n\t__u32 tail[];\n};",
            },
        },
        "enums": {
            "iommufd_new_thing_flags": {
                "IOMMU_NEW_THING_ONE": 1,
                "IOMMU_NEW_THING_TOP": 2**31,
            }
        },
        "ioctls": {"IOMMU_NEW_THING": 0x3B80, "IOMMU_TEST_CMD": 0x3BA0},
        "constants": {
            "IOMMUFD_CMD_BASE": 0x80,
            "IOMMUFD_CMD_NEW_THING": 0x80,
            "MOCK_APERTURE_START": 2**24,
            "MOCK_COUNT": 2,
            "MOCK_NEGATIVE": -5,
            "IOMMUFD_TYPE": ord(";"),
            "IOMMU_NEW_THING_INSIDE": 16,
            "IOMMU_TEST_WIDE": 0xFEEDBEEF << 8,
            "IOMMU_TEST_ALL": 2**64 - 1,
        },
    }


def test_it_loads_and_a_new_command_needs_no_table(tree: Path, tmp_path: Path) -> None:
    describe(tree, tmp_path / "9.1.json")
    uapi = Uapi.load(tmp_path / "9.1.json")
    assert (uapi.name, uapi.kernel) == ("9.1", "9.1.4")
    assert uapi.ioctl("new_thing").struct == "iommu_new_thing"
    thing = uapi.struct("iommu_new_thing", size=32, flags=0x80000003, in_type=-1)
    assert repr(thing) == (
        "struct iommu_new_thing(size=32, flags=IOMMU_NEW_THING_ONE|IOMMU_NEW_THING_TOP|0x2, "
        "__reserved=[0, 0, 0, 0], version=0, in_type=-1, out_type=65535, data_uptr=0)"
    )


def test_the_same_tree_gives_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "copy")
    describe(tree, tmp_path / "1.json")
    describe(tmp_path / "copy", tmp_path / "2.json")
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()


def test_relative_paths(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree.parent)
    assert main([tree.name, "9.1.json"]) == 0
    assert (tree.parent / "9.1.json").is_file()


def test_a_build_names_its_release(tree: Path, tmp_path: Path) -> None:
    release = tmp_path / "build/include/config/kernel.release"
    release.parent.mkdir(parents=True)
    release.write_text("9.1.4-mine\n")
    describe(tree, tmp_path / "9.1.json", build=tmp_path / "build")
    assert Uapi.load(tmp_path / "9.1.json").kernel == "9.1.4-mine"


def test_a_tree_without_the_test_header(tree: Path, tmp_path: Path) -> None:
    (tree / TEST).unlink()
    describe(tree, tmp_path / "9.1.json")
    uapi = Uapi.load(tmp_path / "9.1.json")
    assert uapi.headers == (IOMMUFD,)
    assert not uapi.has("iommu_test_cmd")
    with pytest.raises(Problem) as error:
        _ = uapi.IOMMU_TEST_CMD
    assert error.value.what == f"IOMMU_TEST_CMD is no constant of {TEST} of 9.1"
    assert error.value.expected == f"a kernel tree that has {TEST}; this had none"


def test_not_a_tree(tmp_path: Path) -> None:
    with pytest.raises(Problem) as error:
        describe(tmp_path, tmp_path / "x.json")
    assert error.value.what == f"{tmp_path} has no {IOMMUFD}"
    assert error.value.expected == (
        "a Linux source tree with iommufd (6.2 or later); this one is too old or not a kernel tree"
    )


def test_headers_that_do_not_compile(tree: Path, tmp_path: Path) -> None:
    declare(tree, "struct iommu_broken { __u33 size; };")
    with pytest.raises(Problem) as error:
        describe(tree, tmp_path / "x.json")
    assert error.value.what == f"the headers of {tree} do not compile: {IOMMUFD}, {TEST}"
    assert re.search(r"iommufd\.h:\d+:\d+: error: .*__u33", error.value.detail)
    assert not (tmp_path / "x.json").exists()


def test_a_struct_that_cffi_cannot_read(tree: Path, tmp_path: Path) -> None:
    declare(tree, "struct iommu_odd { __typeof__(1) a; };")
    with pytest.raises(Problem) as error:
        describe(tree, tmp_path / "x.json")
    assert error.value.what == f"cffi cannot read a struct of {IOMMUFD}, {TEST}"
    assert error.value.detail.startswith("parse error")


def test_a_layout_that_attributes_change(tree: Path, tmp_path: Path) -> None:
    declare(tree, "struct iommu_odd { __u8 a; __u32 b; } __attribute__((packed));")
    with pytest.raises(Problem) as error:
        describe(tree, tmp_path / "x.json")
    assert str(error.value) == (
        "struct iommu_odd: the compiler has it with size 5, the description x has it with size 8"
    )


def test_no_compiler(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Problem) as error:
        describe(tree, tmp_path / "x.json")
    assert error.value.what == "no C compiler: gcc is needed to read a kernel's headers"
    assert error.value.mend == "apt-get install gcc libc6-dev"


def test_the_program(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tree), str(tmp_path / "9.1.json")]) == 0
    assert capsys.readouterr() == ("", "")
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: python -m pytest_iommufd.uapi.describe ")
    assert main([str(tmp_path), str(tmp_path / "x.json")]) == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path} has no {IOMMUFD}\nexpected: ")
