# SPDX-License-Identifier: GPL-2.0-only
"""Checks of dirty tracking that are removed, and the rules that notice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mutant import Mutant

if TYPE_CHECKING:
    from pathlib import Path


class BitmapMutant(Mutant):
    """An edit of iova_bitmap.c, which is part of the kernel proper: its copy goes into the module.

    Only for kernels whose mock driver, in the same module, is all that calls it.
    """

    def apply(self, folder: Path) -> None:
        super().apply(folder)
        source, makefile = folder / self.file, folder / "Makefile"
        source.write_text(re.sub(r"^EXPORT_SYMBOL.*$", "", source.read_text(), flags=re.MULTILINE))
        lines = makefile.read_text().splitlines()
        kept = [line for line in lines if "iova_bitmap.o" not in line]
        makefile.write_text("\n".join([*kept, "iommufd-y += iova_bitmap.o", ""]))


SET, GET = "iommufd_hwpt_set_dirty_tracking", "iommufd_hwpt_get_dirty_bitmap"
HWPT, IOPT, BITMAP, TEST = "hw_pagetable.c", "io_pagetable.c", "iova_bitmap.c", "selftest.c"
RANGE, READ = "iommufd_check_iova_range", "iommu_read_and_clear_dirty"
# fmt: off
MUTANTS = (
    # hw_pagetable.c
    Mutant("set_flags", "if (cmd->flags & ~IOMMU_HWPT_DIRTY_TRACKING_ENABLE)", "if (0)",
           "set.flags set.flags.changes_nothing", SET, "7.3", HWPT),
    Mutant("set_errno", "return PTR_ERR(hwpt_paging);", "return -EINVAL;",
           "set.hwpt_id order.set.hwpt_id", SET, "7.3", HWPT),
    Mutant("set_enable", "cmd->flags & IOMMU_HWPT_DIRTY_TRACKING_ENABLE;", "1;",
           "set.off set.off_clears_not", SET, "7.3", HWPT),
    Mutant("get_flags", "(cmd->flags & ~(IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR)) ||", "",
           "get.flags", GET, "7.3", HWPT),
    Mutant("get_reserved", "|| cmd->__reserved", "", "get.reserved", GET, "7.3", HWPT),
    Mutant("get_errno", "return PTR_ERR(hwpt_paging);", "return -EINVAL;",
           "get.hwpt_id get.other_context", GET, "6.12", HWPT),
    # io_pagetable.c
    Mutant("length", "if (!bitmap->length)", "if (0)", "get.length_zero", RANGE, "7.3", IOPT),
    Mutant("overflow",
           "if (check_add_overflow(bitmap->iova, bitmap->length - 1, &last_iova))",
           "if (check_add_overflow(bitmap->iova, bitmap->length - 1, &last_iova) && 0)",
           "get.overflow", RANGE, "7.3", IOPT),
    Mutant("iova", "(bitmap->iova & (iommu_pgsize - 1)) ||", "", "get.iova_unaligned", RANGE,
           "7.3", IOPT),
    Mutant("end", "|| ((last_iova + 1) & (iommu_pgsize - 1))", "", "get.end_unaligned", RANGE,
           "6.12", IOPT),
    Mutant("page_size_iova", "(bitmap->iova & (bitmap->page_size - 1)) ||", "",
           "get.page_size_iova", RANGE, "7.3", IOPT),
    Mutant("page_size_end", "|| ((last_iova + 1) & (bitmap->page_size - 1))", "",
           "get.page_size_end", RANGE, "7.3", IOPT),
    Mutant("no_ops", "return -EOPNOTSUPP;", "return 0;", "get.not_tracking", READ, "7.3", IOPT),
    Mutant("alloc_errno", "return -ENOMEM;", "return -EINVAL;", "get.memory get.memory.keeps",
           READ, "7.3", IOPT),
    Mutant("told_flags", "arg.flags = flags;", "arg.flags = 0;", "get.no_clear", READ, "7.3",
           IOPT),
    Mutant("part", "min(last_iova, iopt_area_last_iova(area));", "iopt_area_last_iova(area);",
           "get.part get.areas_in_part", "__iommu_read_and_clear_dirty", "7.3", IOPT),
    Mutant("set_no_ops", "if (!ops) return -EOPNOTSUPP;", "if (!ops) return 0;",
           "set.not_tracking", "iopt_set_dirty_tracking", "7.3", IOPT),
    Mutant("clear", "if (enable) {", "if (0) {",
           "set.clears set.clears_each_area set.again_clears", "iopt_set_dirty_tracking", "7.3",
           IOPT),
    Mutant("clear_errno", "if (ret) break;", "break;", "set.clears_each_area",
           "iopt_clear_dirty_data", "7.3", IOPT),
    # iova_bitmap.c
    BitmapMutant("page_offset", "mapped->pgoff = offset_in_page(addr);", "mapped->pgoff = 0;",
                 "get.alignment get.beside", "iova_bitmap_get", "6.12", BITMAP),
    BitmapMutant("put", "unpin_user_pages(mapped->pages, mapped->npages);", "", "get.dirty",
                 "iova_bitmap_put", "6.12", BITMAP),
    BitmapMutant("page_shift", "mapped->pgshift = __ffs(page_size);",
                 "mapped->pgshift = PAGE_SHIFT;",
                 "get.page_size get.page_size.whole get.mock_pages", "iova_bitmap_alloc", "6.12",
                 BITMAP),
    BitmapMutant("bit_after", "(((iova + length - 1) - mapped->iova) >>",
                 "(((iova + length) - mapped->iova) >>", "get.page_size",
                 "void iova_bitmap_set", "6.12", BITMAP),
    BitmapMutant("windows", "bitmap->mapped_base_index = index;", "bitmap->mapped_base_index = 0;",
                 "get.windows", "iova_bitmap_advance_to", "6.12", BITMAP),
    # selftest.c
    Mutant("mark_range", "!page_size || !length || iova % page_size ||",
           "!page_size || !length ||", "mark.range", "iommufd_test_dirty", "7.3", TEST),
    Mutant("mark_most", "if (max > SZ_16M * BITS_PER_BYTE)", "if (0)", "mark.too_many",
           "iommufd_test_dirty", "7.3", TEST),
    Mutant("mark_off", "!(mock->flags & MOCK_DIRTY_TRACK) ||", "", "mark.off set.off",
           "iommufd_test_dirty", "7.3", TEST),
    Mutant("mark_copy", "rc = -EFAULT;", "rc = 0;", "mark.unreadable", "iommufd_test_dirty", "7.3",
           TEST),
    Mutant("mark_6_12", "if (ent) {", "count++; if (ent) {", "mark.counts mark.unmapped",
           "iommufd_test_dirty", "6.12", TEST),
    Mutant("untracked", "if (!(mock->flags & MOCK_DIRTY_TRACK) && dirty->bitmap)", "if (0)",
           "get.off", "mock_domain_read_and_clear_dirty", "6.12", TEST),
)
# fmt: on
