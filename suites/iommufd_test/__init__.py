# SPDX-License-Identifier: GPL-2.0-only
"""What the operations of the kernel's own iommufd_test refuse."""
