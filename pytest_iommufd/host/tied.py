# SPDX-License-Identifier: GPL-2.0-only
"""`tied.py PARENT SIGNAL PROGRAM [ARGUMENT...]` becomes a program that ends with its parent.

The parent-death signal is set between fork and exec. Python's own way, preexec_fn, is not safe with
threads, and setpriv can do it in util-linux since 2.33 only, in BusyBox not at all. Run with -IS it
takes 15 ms.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_NOT_FOUND = 127


def _main(parent: str, number: str, *words: str) -> int:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
    if os.getppid() != int(parent):
        return 1  # it has ended before it could be heard of
    # Python ignores them, and what is ignored stays so in another program
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(words[0], words)  # noqa: S606 - that is what it is for
    except OSError as error:
        sys.stderr.write(f"{words[0]}: {error.strerror}\n")
    return _NOT_FOUND


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
