# SPDX-License-Identifier: GPL-2.0-only
"""What follows from the declaration of a hwpt_type, for each that is declared."""
