# SPDX-License-Identifier: GPL-2.0-only
"""`pytest-iommufd shell`: Python at the prompt, with a kernel under test."""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import code
import contextlib
import errno
import sys
import traceback
from typing import TYPE_CHECKING

from pytest_iommufd.iommufd import Buffer, Context, IoctlError, raises_errno
from pytest_iommufd.kernel.cache.store import default_root
from pytest_iommufd.kernel.spec import DEFAULT_KERNEL, FORMS
from pytest_iommufd.lab import Lab, Settings
from pytest_iommufd.machine import Verdict

if TYPE_CHECKING:
    import argparse

    from pytest_iommufd.lab import Bench

_BANNER = """\
{about}

  machine      its machine; machine.sync_log() then machine.log[-9:] is the kernel log
  process      a process under that kernel: process.syscall("getpid")
  uapi         structs and constants of its headers: uapi.IOMMU_HWPT_ALLOC_NEST_PARENT
  iommufd      an open /dev/iommu; its methods are the ioctls, fields by keyword
  ioas         an I/O address space in it
  mock_device  a mock device attached to that
  buffer       sixteen pages of the process's memory: ioas.map(buffer)
  raises_errno, IoctlError, EINVAL and all other error numbers
  fresh()      all of these anew; boots again after a panic

  >>> iommufd.hwpt_alloc(mock_device, ioas, flags=uapi.IOMMU_HWPT_ALLOC_NEST_PARENT)
"""
_BUFFER_PAGES = 16


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `shell` command.

    Args:
        commands: the subparsers of `pytest-iommufd`.
    """
    parser = commands.add_parser(
        "shell",
        help="a Python prompt with a booted kernel",
        description="Boots a kernel and gives a Python prompt with an open /dev/iommu in it. "
        "The guest ends with the prompt.",
    )
    parser.add_argument("--kernel", metavar="SPEC", help=FORMS + "; default: that of the tests")
    parser.add_argument(
        "--accel", choices=("auto", "kvm", "tcg"), default="auto", help="how the guest runs"
    )
    parser.add_argument("-c", dest="code", metavar="CODE", help="run this code and exit")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    lab = Lab(Settings(cache=default_root(), acceleration=args.accel))
    try:
        bench = lab.bench(args.kernel or DEFAULT_KERNEL)
        names = _names(bench)
        if args.code is not None:
            return _once(args.code, names)
        _talk(bench, names)
    except Verdict as verdict:
        # the machine's end at the start; at the prompt the console shows it
        print(f"pytest-iommufd: {verdict}", file=sys.stderr)
        return 1
    finally:
        lab.close()
    return 0


def _names(bench: Bench) -> dict[str, object]:
    """Return what is at hand at the prompt."""
    numbers = {name: value for name, value in vars(errno).items() if name.startswith("E")}
    names: dict[str, object] = {
        **numbers,
        "Buffer": Buffer,
        "IoctlError": IoctlError,
        "raises_errno": raises_errno,
    }

    def fresh() -> None:
        """Make process, iommufd and what is in it anew."""
        bench.ready()
        process = bench.machine.process()
        iommufd = Context(process, bench.uapi)
        ioas = iommufd.ioas_alloc()
        names.update(
            machine=bench.machine,
            process=process,
            uapi=bench.uapi,
            iommufd=iommufd,
            ioas=ioas,
            mock_device=iommufd.mock_device(ioas),
            buffer=Buffer.anonymous(process, _BUFFER_PAGES * bench.machine.hello.page_size),
        )

    names["fresh"] = fresh
    fresh()
    return names


def _once(text: str, names: dict[str, object]) -> int:
    try:
        exec(compile(text, "<-c>", "exec"), names)  # noqa: S102 - that is what was asked for
    except Exception as error:  # noqa: BLE001 - any error of the user's code is shown
        _show(error)
        return 1
    return 0


def _talk(bench: Bench, names: dict[str, object]) -> None:
    # Completion is a comfort, and not every Python has readline.
    with contextlib.suppress(ImportError):
        import readline  # noqa: PLC0415 - see above
        import rlcompleter  # noqa: PLC0415

        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
    with contextlib.suppress(SystemExit):
        _Console(names).interact(banner=_BANNER.format(about=bench.describe()), exitmsg="")


class _Console(code.InteractiveConsole):
    """A console that shows what the kernel answered, without the frames between."""

    def showtraceback(self) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, IoctlError | Verdict):
            _show(error)
        else:
            super().showtraceback()


def _show(error: BaseException) -> None:
    if isinstance(error, IoctlError | Verdict):
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    else:
        # from the user's own code on: the first frame is ours
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(type(error), error, trace)
