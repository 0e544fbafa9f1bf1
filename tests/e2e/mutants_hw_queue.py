# SPDX-License-Identifier: GPL-2.0-only
"""Checks of IOMMU_HW_QUEUE_ALLOC that are removed, and the rules that notice."""

from mutant import Mutant

CALL, PHYS, INIT = (
    "iommufd_hw_queue_alloc_ioctl",
    "iommufd_hw_queue_alloc_phys",
    "mock_hw_queue_init_phys",
)
ON, DRIVER, MOCK = ("7.3", "viommu.c"), ("7.3", "driver.c"), ("7.3", "selftest.c")
# fmt: off
MUTANTS = (
    Mutant("flags", "cmd->flags ||", "", "flags flags.first", CALL, *ON),
    Mutant("type", "|| cmd->type == IOMMU_HW_QUEUE_TYPE_DEFAULT", "", "flags.first", CALL, *ON),
    Mutant("length", "if (!cmd->length)", "if (0)", "length.zero", CALL, *ON),
    Mutant("viommu", "return PTR_ERR(viommu);", "return -EINVAL;", "viommu_id.names_nothing",
           CALL, *ON),
    Mutant("overflow", "return -EOVERFLOW;", ";", "length.overflow length.overflow.before_id",
           CALL, *ON),
    Mutant("overflow_off_by_one", "cmd->length - 1, &last", "cmd->length, &last",
           "memory.unmapped.last_byte", CALL, *ON),
    Mutant("driver_type", "if (!hw_queue_size)", "if (0)", "type.unknown", CALL, *ON),  # WARNs
    Mutant("users", "refcount_inc(&viommu->obj.users);", "", "lifetime.viommu", CALL, *ON),
    Mutant("put", "refcount_dec(&hw_queue->viommu->obj.users);", ";",
           "lifetime.viommu index.beyond", "iommufd_hw_queue_destroy", *ON),
    Mutant("rounded", "check_add_overflow(length, PAGE_SIZE - 1, &length)",
           "(length += PAGE_SIZE - 1, 0)", "length.rounded_overflow", PHYS, *ON),
    Mutant("no_round_up", "check_add_overflow(offset, cmd->length, &length)",
           "(length = cmd->length, 0)", "memory.unmapped memory.not_contiguous", PHYS, *ON),
    Mutant("warns", "GFP_KERNEL | __GFP_NOWARN", "GFP_KERNEL", "length.too_long", PHYS, *ON),
    Mutant("contiguous", "rc = -EFAULT; goto out_unpin;", "", "memory.not_contiguous", PHYS, *ON),
    Mutant("unpinned", "out_unpin: iommufd_access_unpin_pages(access, aligned_iova, length);",
           "out_unpin:", "memory.not_contiguous", PHYS, *ON),
    Mutant("offset", "<< PAGE_SHIFT) + offset;", "<< PAGE_SHIFT);", "memory.any_place", PHYS,
           *ON),
    Mutant("kept", "iommufd_access_unpin_pages(access, aligned_iova, "
           "PAGE_ALIGN(length + offset));", "", "memory.pinned lifetime.context",
           "iommufd_hw_queue_destroy_access", *ON),
    Mutant("dmabuf", "if (iopt_is_dmabuf(pages)) return -EINVAL;", "", "memory.dmabuf",
           "iopt_area_add_access", "7.3", "pages.c"),
    # what drivers call
    Mutant("depend", "refcount_inc(&obj_depended->users);", "", "lifetime.next",
           "_iommufd_object_depend", *DRIVER),
    Mutant("undepend", "refcount_dec(&obj_depended->users);", "", "lifetime.next",
           "_iommufd_object_undepend", *DRIVER),
    # the mock driver's
    Mutant("mock_index", "if (index >= IOMMU_TEST_HW_QUEUE_MAX)",
           "if (index > IOMMU_TEST_HW_QUEUE_MAX)", "index.beyond", INIT, *MOCK),
    Mutant("mock_taken", "if (mock_viommu->hw_queue[index])", "if (0)", "index.taken", INIT,
           *MOCK),
    Mutant("mock_before", "if (!prev)", "if (0)", "index.without_the_one_before", INIT, *MOCK),
    Mutant("mock_depend", "if (prev) { rc =", "prev = NULL; if (0) { rc =", "lifetime.next", INIT,
           *MOCK),
    Mutant("mock_again", "mock_viommu->hw_queue[mock_hw_queue->index] = NULL;", "",
           "index.again", "mock_hw_queue_destroy", *MOCK),
)
# fmt: on
