# SPDX-License-Identifier: GPL-2.0-only
"""Where a kernel's source comes from: Debian's packages, and copies of trees."""
