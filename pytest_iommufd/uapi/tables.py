# SPDX-License-Identifier: GPL-2.0-only
"""What belongs together although the headers do not say so.

Names that follow the rule beside each table need no entry, so that a newer header's do not.
"""

from __future__ import annotations

# The rule: an ioctl's struct has its name in lower case.
STRUCT_OF_IOCTL = {
    "IOMMU_FAULT_QUEUE_ALLOC": "iommu_fault_alloc",
    "IOMMU_GET_HW_INFO": "iommu_hw_info",
    "VFIO_IOMMU_DIRTY_PAGES": "vfio_iommu_type1_dirty_bitmap",
    "VFIO_IOMMU_GET_INFO": "vfio_iommu_type1_info",
    "VFIO_IOMMU_MAP_DMA": "vfio_iommu_type1_dma_map",
    "VFIO_IOMMU_UNMAP_DMA": "vfio_iommu_type1_dma_unmap",
}

# The rule: an operation's member of iommu_test_cmd has its name in lower case.
TEST_MEMBER_OF_OP = {
    "DEV_CHECK_CACHE": "check_dev_cache",
    "MD_CHECK_IOTLB": "check_iotlb",
    "MD_CHECK_MAP": "check_map",
    "MD_CHECK_REFS": "check_refs",
    "PASID_CHECK_HWPT": "pasid_check",
    "SET_TEMP_MEMORY_LIMIT": "memory_limit",
}

# The rule: the values of iommu_NAME.FIELD are those of enum iommu_NAME_FIELD or
# iommufd_NAME_FIELD. An entry gives enums by name and other constants by prefix.
NAMES_OF_FIELD: dict[str, tuple[str, ...]] = {
    "iommu_hw_info.in_data_type": ("IOMMU_HW_INFO_TYPE_",),
    "iommu_hw_info.out_capabilities": ("iommufd_hw_capabilities",),
    "iommu_hw_info.out_data_type": ("IOMMU_HW_INFO_TYPE_",),
    "iommu_hw_queue_alloc.type": ("IOMMU_HW_QUEUE_TYPE_",),
    "iommu_hwpt_alloc.data_type": ("IOMMU_HWPT_DATA_",),
    "iommu_hwpt_invalidate.data_type": (
        "iommu_hwpt_invalidate_data_type",
        "IOMMU_HWPT_INVALIDATE_DATA_",
        "IOMMU_VIOMMU_INVALIDATE_DATA_",
    ),
    "iommu_hwpt_invalidate_selftest.flags": ("IOMMU_TEST_INVALIDATE_FLAG_",),
    "iommu_hwpt_page_response.code": ("iommufd_page_response_code",),
    "iommu_hwpt_selftest.pagetable_type": ("MOCK_IOMMUPT_",),
    "iommu_ioas_copy.flags": ("iommufd_ioas_map_flags",),
    "iommu_ioas_map_file.flags": ("iommufd_ioas_map_flags",),
    "iommu_option.op": ("iommufd_option_ops",),
    "iommu_option.option_id": ("iommufd_option",),
    "iommu_test_cmd.access_pages.flags": ("MOCK_FLAGS_ACCESS_WRITE", "MOCK_FLAGS_ACCESS_SYZ"),
    "iommu_test_cmd.access_rw.flags": ("MOCK_ACCESS_RW_", "MOCK_FLAGS_ACCESS_SYZ"),
    "iommu_test_cmd.create_access.flags": ("MOCK_FLAGS_ACCESS_CREATE_",),
    "iommu_test_cmd.dirty.flags": ("iommufd_hwpt_get_dirty_bitmap_flags",),
    "iommu_test_cmd.mock_domain_flags.dev_flags": ("MOCK_FLAGS_DEVICE_",),
    "iommu_test_cmd.op": ("IOMMU_TEST_OP_",),
    "iommu_test_cmd.trigger_iopf.perm": ("iommu_hwpt_pgfault_perm",),
    "iommu_veventq_alloc.type": ("IOMMU_VEVENTQ_TYPE_",),
    "iommu_viommu_alloc.type": ("IOMMU_VIOMMU_TYPE_",),
    "iommu_viommu_invalidate_selftest.flags": ("IOMMU_TEST_INVALIDATE_FLAG_",),
    "iommufd_vevent_header.flags": ("iommu_veventq_flag",),
    "vfio_iommu_type1_dirty_bitmap.flags": ("VFIO_IOMMU_DIRTY_PAGES_FLAG_",),
    "vfio_iommu_type1_dma_map.flags": ("VFIO_DMA_MAP_FLAG_",),
    "vfio_iommu_type1_dma_unmap.flags": ("VFIO_DMA_UNMAP_FLAG_",),
    "vfio_iommu_type1_info.flags": ("VFIO_IOMMU_INFO_",),
}

# Names that no shipped header has, of a patch series that a suite describes as a dialect.
DESCRIBED_OF_SERIES = frozenset({"IOMMU_HWPT_TYPE_DEFAULT", "iommu_hwpt_alloc.hwpt_type"})

# Fields that are a set of bits; any other field with names holds one of them.
MASKS = frozenset({"flags", "dev_flags", "perm", "out_capabilities"})
