# SPDX-License-Identifier: GPL-2.0-only
"""The C program that makes the calls under test, its protocol and its initramfs."""
