# SPDX-License-Identifier: GPL-2.0-only
"""What is quoted of a header: fields that a rule names, paragraphs that have an errno."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.rules.quote import quote

if TYPE_CHECKING:
    from pathlib import Path

HEADER = """\
/**
 * DOC: General ioctl format
 *
 *  - EOPNOTSUPP: The structure is understood, however a known field has a
 *    value the kernel does not support.
 *  - EINVAL: Everything about the IOCTL was understood, but a field is not
 *    correct.
 */

/**
 * struct iommu_ioas_map - ioctl(IOMMU_IOAS_MAP)
 * @size: sizeof(struct iommu_ioas_map)
 * @iova: IOVA the mapping was placed at. If IOMMU_IOAS_MAP_FIXED_IOVA is set
 *        then this must be provided as input.
 * @__reserved: Must be 0
 *
 * Set an IOVA mapping from a user pointer.
 */
struct iommu_ioas_map {
	__u32 size;
};
/* a word of code only */
#define IOMMU_NOT_DESCRIBED 1
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A kernel's source."""
    path = tmp_path / "include/uapi/linux/iommufd.h"
    path.parent.mkdir(parents=True)
    path.write_text(HEADER)
    return tmp_path


@pytest.mark.parametrize(
    ("place", "about", "lines"),
    [
        ("iommu_ioas_map", "A bit in __reserved of it.", ["@__reserved: Must be 0"]),
        (
            "iommu_ioas_map",
            "Its iova is one.",
            [
                "@iova: IOVA the mapping was placed at. If IOMMU_IOAS_MAP_FIXED_IOVA is set",
                "       then this must be provided as input.",
            ],
        ),
        ("iommu_ioas_map", "It maps.", ["Set an IOVA mapping from a user pointer."]),
        (
            "EOPNOTSUPP",
            "",
            [
                " - EOPNOTSUPP: The structure is understood, however a known field has a",
                "   value the kernel does not support.",
            ],
        ),
        ("IOMMU_NOT_DESCRIBED", "", []),
        ("IOMMU_IOAS_MA", "", []),
    ],
)
def test_what_is_quoted(tree: Path, place: str, about: str, lines: list[str]) -> None:
    assert quote(tree, f"iommufd.h:{place}", about) == lines


def test_long_text_is_cut(tree: Path) -> None:
    path = tree / "include/uapi/linux/iommufd.h"
    path.write_text(HEADER.replace(" * Set an IOVA", " * Set\n" * 40 + " * Set an IOVA"))
    lines = quote(tree, "iommufd.h:iommu_ioas_map", "")
    assert len(lines) == 17
    assert lines[-1] == "[...]"


def test_other_documents_are_not_quoted(tree: Path) -> None:
    for promise in ("vfio.h:VFIO_GROUP", "selftest:alloc", "mlock(2)", "patch:iommu_ioas_map"):
        assert quote(tree, promise, "") == []
