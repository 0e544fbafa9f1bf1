# SPDX-License-Identifier: GPL-2.0-only
"""Checks of the lives of objects that are removed, and the rules that notice."""

from functools import partial

from mutant import Mutant as _Mutant

Main = partial(_Mutant, spec="7.3", file="main.c")
REMOVE, RELEASE = "iommufd_object_remove", "iommufd_fops_release"
# fmt: off
MUTANTS = (
    Main("missing", "} else if (xa_is_zero(obj) || !obj) { ret = -ENOENT;",
         "} else if (xa_is_zero(obj) || !obj) { ret = -EINVAL;",
         "id twice other_context id.tombstone unfinished", REMOVE),
    Main("busy", "ret = -EBUSY; goto err_xa;", "ret = -ENOENT; goto err_xa;",
         "device access auto_hwpt held held.file held.each", REMOVE),
    Main("erased", "xas_store(&xas, (flags & REMOVE_OBJ_TOMBSTONE) ? XA_ZERO_ENTRY : NULL);",
         "xas_store(&xas, (flags & REMOVE_OBJ_TOMBSTONE) ? NULL : NULL);", "id.tombstone", REMOVE),
    Main("kept_id", "xas_store(&xas, (flags & REMOVE_OBJ_TOMBSTONE) ? XA_ZERO_ENTRY : NULL);",
         "xas_store(&xas, XA_ZERO_ENTRY);", "id.lowest id.other_type", REMOVE),
    Main("vfio", "ictx->vfio_ioas = NULL;", "", "vfio_ioas", REMOVE),
    Main("vfio_other", "if (ictx->vfio_ioas == container_of(obj, struct iommufd_ioas, obj))", "",
         "vfio_ioas.other", REMOVE),
    Main("first_id", "XA_FLAGS_ALLOC1 |", "XA_FLAGS_ALLOC |", "id.first id.order",
         "iommufd_fops_open"),
    Main("aborted_id", "old = xas_store(&xas, NULL);", "old = xas_load(&xas);", "id.failed",
         "void iommufd_object_abort"),
    Main("type", "(type != IOMMUFD_OBJ_ANY && obj->type != type) ||",
         "(type == IOMMUFD_OBJ_IOAS && obj->type == IOMMUFD_OBJ_HWPT_PAGING ? (obj = NULL, 0) : "
         "0) ||", "id.other_type", "iommufd_get_object"),
    Main("errno", "obj = ERR_PTR(-ENOENT);", "obj = ERR_PTR(-EINVAL);", "id.other_type",
         "iommufd_get_object"),
    Main("not_destroyed", "iommufd_object_ops[obj->type].destroy(obj); kfree(obj); return 0;",
         "if (obj->type != IOMMUFD_OBJ_HWPT_PAGING) iommufd_object_ops[obj->type].destroy(obj); "
         "kfree(obj); return 0;", "held", REMOVE),
    Main("close", "if (!refcount_dec_if_one(&obj->users)) continue;",
         "if (!refcount_dec_if_one(&obj->users)) break;", "close.depth", RELEASE),
    Main("close_once", "if (WARN_ON(!destroyed)) break;", "break;", "close.depth", RELEASE),
    # references that are not taken
    _Mutant("ioas_users", "refcount_inc(&ioas->obj.users);", "", "held held.changes_nothing",
            "iommufd_hwpt_paging_alloc", "7.3", "hw_pagetable.c"),
    _Mutant("selftest_unbind", "iommufd_device_unbind(sobj->idev.idev);", "", "device.gone close",
            "iommufd_selftest_destroy", "7.3", "selftest.c"),
)
# fmt: on
