# SPDX-License-Identifier: GPL-2.0-only
"""Real devices: VFIO's files bound to iommufd, and what the drivers of VT-d and AMD answer."""
