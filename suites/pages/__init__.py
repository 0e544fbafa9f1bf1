# SPDX-License-Identifier: GPL-2.0-only
"""Pages that are mapped for devices: which, how often they are pinned, and who pays for them."""
