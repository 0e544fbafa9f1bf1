# SPDX-License-Identifier: GPL-2.0-only
"""Checks of IOMMU_VIOMMU_ALLOC and mmap that are removed, and the rules that notice."""

from mutant import Mutant

CALL, MMAP, INIT = "iommufd_viommu_alloc_ioctl", "iommufd_fops_mmap", "mock_viommu_init"
ON = ("7.3", "viommu.c")
OFFER, DRIVER = "_iommufd_alloc_mmap", ("7.3", "driver.c")
MAIN, MOCK = ("7.3", "main.c"), ("7.3", "selftest.c")
# fmt: off
MUTANTS = (
    Mutant("flags", "cmd->flags ||", "", "flags flags.first", CALL, *ON),
    Mutant("default_type", "|| cmd->type == IOMMU_VIOMMU_TYPE_DEFAULT", "",
           "type.default.first", CALL, *ON),
    Mutant("device", "return PTR_ERR(idev);", "return -EINVAL;",
           "dev_id.names_nothing dev_id.other_type", CALL, *ON),
    Mutant("type", "if (!viommu_size)", "if (0)", "type.unknown", CALL, *ON),  # WARNs
    Mutant("hwpt", "rc = PTR_ERR(hwpt_paging);", "rc = -EINVAL;",
           "hwpt_id.names_nothing hwpt_id.other_type", CALL, *ON),
    Mutant("nest_parent", "if (!hwpt_paging->nest_parent)", "if (0)",
           "hwpt_id.no_parent hwpt_id.no_parent.before_data", CALL, *ON),
    Mutant("auto_parent", "if (!hwpt_paging->nest_parent)",
           "if (!hwpt_paging->nest_parent && !hwpt_paging->auto_domain)", "hwpt_id.no_parent",
           CALL, *ON),
    Mutant("parent_users", "refcount_inc(&viommu->hwpt->common.obj.users);", "",
           "lifetime.parent lifetime.last", CALL, *ON),
    Mutant("parent_put", "refcount_dec(&viommu->hwpt->common.obj.users);", "",
           "lifetime.parent undone.unwritable data.unreadable", "iommufd_viommu_destroy", *ON),
    Mutant("data_ignored", "user_data.len ? &user_data : NULL", "NULL",
           "data.echo data.length data.unreadable", CALL, *ON),
    Mutant("data_always", "user_data.len ? &user_data : NULL", "&user_data",
           "data.none size.first_version", CALL, *ON),
    Mutant("init", "if (rc) goto out_put_hwpt;", "", "data.unwritable", CALL, *ON),
    Mutant("reserved", "if (cmd->flags ||", "if (cmd->flags || cmd->__reserved ||", "reserved",
           CALL, *ON),
    # mmap
    Mutant("mmap_shared", "if (!(vma->vm_flags & VM_SHARED))", "if (0)",
           "mmap.private mmap.private.of_an_offer", MMAP, *MAIN),
    Mutant("mmap_exec", "if (vma->vm_flags & VM_EXEC)", "if (0)", "mmap.exec", MMAP, *MAIN),
    Mutant("mmap_offset", "vma->vm_pgoff != immap->vm_pgoff ||", "", "mmap.offset", MMAP,
           *MAIN),
    Mutant("mmap_length", "|| length != immap->length", "", "mmap.length", MMAP, *MAIN),
    Mutant("mmap_users", "refcount_dec(&immap->owner->users);", "", "mmap.length mmap.offset",
           MMAP, *MAIN),
    Mutant("vma_open", "refcount_inc(&immap->owner->users);", "",
           "mmap.holds.part mmap.holds.fork", "iommufd_fops_vma_open", *MAIN),
    Mutant("vma_close", "refcount_dec(&immap->owner->users);", "", "mmap.holds mmap.holds.each",
           "iommufd_fops_vma_close", *MAIN),
    # what drivers call
    Mutant("offer_at_zero", "PAGE_SIZE, ULONG_MAX, GFP_KERNEL);", "0, ULONG_MAX, GFP_KERNEL);",
           "data.offer data.offer_undone", OFFER, *DRIVER),
    Mutant("offer_overlaps", "immap, immap->length,", "immap, PAGE_SIZE,", "data.offers_differ",
           OFFER, *DRIVER),
    Mutant("offer_length", "immap->length = length;", "immap->length = PAGE_SIZE;",
           "mmap.page mmap.length", OFFER, *DRIVER),
    Mutant("offer_stays", "mtree_erase(&ictx->mt_mmap, offset);",
           "mtree_load(&ictx->mt_mmap, offset);", "data.offer_given_again",
           "_iommufd_destroy_mmap", *DRIVER),
    # the mock driver's
    Mutant("mock_type", "if (viommu_type != IOMMU_VIOMMU_TYPE_SELFTEST)", "if (0)",
           "type.unknown type.before_hwpt_id", "mock_get_viommu_size", *MOCK),
    Mutant("mock_copy_back", "if (rc) goto err_destroy_mmap;", "", "data.unwritable", INIT,
           *MOCK),
    Mutant("mock_in_data", "*mock_viommu->page = data.in_data;", "", "mmap.page mmap.closed",
           INIT, *MOCK),
    Mutant("mock_undone", "iommufd_viommu_destroy_mmap(&mock_viommu->core, "
           "mock_viommu->mmap_offset); err_free_page:", "err_free_page:", "data.offer_undone",
           INIT, *MOCK),
    Mutant("mock_destroy", "if (mock_viommu->mmap_offset)", "if (0)", "data.offer_given_again",
           "mock_viommu_destroy", *MOCK),
)
# fmt: on
