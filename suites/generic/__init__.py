# SPDX-License-Identifier: GPL-2.0-only
"""What holds for every command of the kernel's header."""
