# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel has of iommufd, asked of the kernel itself."""
