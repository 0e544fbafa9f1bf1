# SPDX-License-Identifier: GPL-2.0-only
"""The `pytest-iommufd` command."""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from pytest_iommufd.commands import (
    caps,
    defects,
    doctor,
    history,
    kernel,
    parity,
    rules,
    shell,
    watch,
)
from pytest_iommufd.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Each adds its command; the parser of a command sets `run`.
_COMMANDS = (
    caps.add_parser,
    defects.add_parser,
    doctor.add_parser,
    history.add_parser,
    kernel.add_parser,
    parity.add_parser,
    rules.add_parser,
    shell.add_parser,
    watch.add_parser,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments, those of this process by default.

    Returns:
        Exit status: 0, or 2 for something that the user can mend, or 130 when interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="pytest-iommufd", description="Kernels, machines and rules of the iommufd test suites."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in _COMMANDS:
        add(commands)
    args = parser.parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        return run(args)
    except Problem as problem:
        print(f"pytest-iommufd: {problem}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # whoever read it has seen enough; the interpreter must not try to flush what is left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("pytest-iommufd: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
