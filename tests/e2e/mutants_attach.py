# SPDX-License-Identifier: GPL-2.0-only
"""Checks of attaching that are removed, and the rules that notice."""

from functools import partial

from mutant import Mutant as _Mutant

Device = partial(_Mutant, spec="7.3", file="device.c")
Test = partial(_Mutant, spec="7.3", file="selftest.c")
ATTACH, REPLACE = "iommufd_hw_pagetable_attach", "iommufd_device_do_replace"
CHANGE, AUTO = "iommufd_device_change_pt", "iommufd_device_auto_get_domain"
COMPAT = "iommufd_hwpt_pasid_compat"
# fmt: off
MUTANTS = (
    Device("pt_errno", "return PTR_ERR(pt_obj);", "return -EINVAL;",
           "new.pt_id replace.pt_id pasid.pt_id pasid_replace.pt_id", CHANGE),
    Device("pt_type", "destroy_hwpt = ERR_PTR(-EINVAL);", "destroy_hwpt = ERR_PTR(-ENOENT);",
           "new.pt_type replace.pt_type pasid.pt_type pasid_replace.pt_type", CHANGE),
    Device("pt_type_accepted", "destroy_hwpt = ERR_PTR(-EINVAL); goto out_put_pt_obj;",
           "destroy_hwpt = NULL; break;", "replace.pt_type pasid_replace.pt_type", CHANGE),
    Device("manual", "if (!hwpt_paging->auto_domain) continue;", "", "auto.not_manual", AUTO),
    Device("auto_kept", "hwpt_paging->auto_domain = true;", "",
           "auto.shared auto.last auto.replaced", AUTO),
    Device("attach_busy", "goto err_free_attach; }",
           "rc = rc == -EBUSY ? -EINVAL : rc; goto err_free_attach; }", "pasid.twice pasid.zero",
           ATTACH),
    Device("unattached", "if (!attach) { rc = -EINVAL;", "if (!attach) { rc = -ENOENT;",
           "replace.detached pasid_replace.unattached", REPLACE),
    Device("replaced_errno", "if (rc) goto err_unresv;",
           "if (rc && rc != -ENOMEM) goto err_unresv;", "pasid_replace.driver_fails", REPLACE),
    Device("pasid_compat", "if (!hwpt->pasid_compat) return -EINVAL; attach =", "attach =",
           "pasid.hwpt pasid.ioas pasid_replace.hwpt", COMPAT),
    Device("device_compat", "if (attach && attach->hwpt && !attach->hwpt->pasid_compat)", "if (0)",
           "pasid.device_hwpt", COMPAT),
    Device("device_kept", "if (!hwpt->pasid_compat && xa_find_after", "if (0 && xa_find_after",
           "pasid.device_kept pasid.device_attached", COMPAT),
    Device("detached_twice", "if (!attach) { mutex_unlock(&igroup->lock); return NULL; }",
           "if (!attach && pasid < 1000) { mutex_unlock(&igroup->lock); return NULL; }",
           "pasid_detach.unattached", "iommufd_hw_pagetable_detach"),
    # the mock driver
    Test("device_flags", "if (dev_flags & ~valid_flags)", "if (0)",
         "new.flags new.flags.huge_iova new.flags.before_pt", "mock_dev_create"),
    Test("no_dirty", "if (domain->dirty_ops && (mdev->flags & MOCK_FLAGS_DEVICE_NO_DIRTY))",
         "if (0)", "new.no_dirty new.no_dirty.undone replace.no_dirty", "mock_domain_nop_attach"),
    Test("driver_fails", "return -ENOMEM;", "return 0;", "pasid_replace.driver_fails",
         "mock_domain_set_dev_pasid_nop"),
    Test("told_device", "if (rc) goto out_detach;", "", "new.unwritable",
         "iommufd_test_mock_domain"),
    Test("told_pasid", "iommufd_device_detach(sobj->idev.idev, cmd->pasid_attach.pasid);", "",
         "pasid.unwritable", "iommufd_test_pasid_attach"),
    Test("width", '"pasid-num-bits", MOCK_PASID_WIDTH', '"pasid-num-bits", MOCK_PASID_WIDTH - 1',
         "pasid.last", "mock_dev_create"),
    Test("check", "if (attached_domain != hwpt->domain)", "if (0)", "pasid_check.wrong",
         "iommufd_test_pasid_check_hwpt"),
    Test("check_none", "if (attached_domain) rc", "if (0) rc", "pasid_check.wrong",
         "iommufd_test_pasid_check_hwpt"),
    # io_pagetable.c
    _Mutant("aperture_start", "if (geometry->aperture_start != 0)", "if (0)",
            "area.outside_aperture area.allowed aperture", "iopt_table_add_domain", "7.3",
            "io_pagetable.c"),
    _Mutant("alignment", "if (new_iova_alignment != iopt->iova_alignment)", "if (0)",
            "area.unaligned replace.area", "iopt_table_add_domain", "6.12", "io_pagetable.c"),
    _Mutant("aperture_undone", "__iopt_remove_reserved_iova(iopt, domain);", "",
            "area.undone", "iopt_table_add_domain", "7.3", "io_pagetable.c"),
)
# fmt: on
