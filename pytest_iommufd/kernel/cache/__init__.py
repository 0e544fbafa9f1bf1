# SPDX-License-Identifier: GPL-2.0-only
"""What was fetched or built, kept: the folder with its locks, and finished kernels in it."""
