# SPDX-License-Identifier: GPL-2.0-only
"""The developer's loop: a file is saved, the kernel built, rules tested, what differs shown.

`changes` tells what was saved, kernel/workspace.py builds it, `tests` runs pytest, `difference`
compares with the run before, `display` shows that, and `loop` has the order of it all.
"""
