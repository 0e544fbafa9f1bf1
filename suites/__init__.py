# SPDX-License-Identifier: GPL-2.0-only
"""The rules as tests, one folder for each ioctl or capability."""
