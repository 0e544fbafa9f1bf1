# SPDX-License-Identifier: GPL-2.0-only
"""Where source comes from and which it is: Debian's packages, trees, git, and copies of trees."""
