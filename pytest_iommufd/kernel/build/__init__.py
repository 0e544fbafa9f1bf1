# SPDX-License-Identifier: GPL-2.0-only
"""From a source tree to an image and modules: options, make, and what it leaves in its folder."""
