# SPDX-License-Identifier: GPL-2.0-only
"""The error that a user can mend."""


class Problem(Exception):  # noqa: N818 - it names what the user has, not an exception's kind
    """Something the user can mend: what is wrong, what was expected, and how to mend it.

    The command line prints it and exits with status 2; pytest ends with a usage error. Neither
    shows a traceback.

    Args:
        what: what is wrong, one sentence.
        expected: what was expected instead, or empty.
        mend: a command or a step that mends it, or empty.
        detail: longer text shown after those, such as the last lines of a log.
    """

    def __init__(self, what: str, *, expected: str = "", mend: str = "", detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.mend = mend
        self.detail = detail

    def __str__(self) -> str:
        lines = [self.what]
        if self.expected:
            lines.append(f"expected: {self.expected}")
        if self.mend:
            lines.append(f"to mend it: {self.mend}")
        if self.detail:
            lines.append(self.detail.rstrip("\n"))
        return "\n".join(lines)
