# SPDX-License-Identifier: GPL-2.0-only
"""What a form cannot have."""


class Unfit(Exception):  # noqa: N818 - it is no error, but a form that cannot have this
    """The form has no words for what the test did; its text says for what."""
