# SPDX-License-Identifier: GPL-2.0-only
"""The commands of `pytest-iommufd`, thin: what they do is in other rooms."""
