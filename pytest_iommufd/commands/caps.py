# SPDX-License-Identifier: GPL-2.0-only
"""`pytest-iommufd caps`: what kernels have, asked of the kernels."""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from pytest_iommufd.caps.ask import ask, ask_behind
from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel.cache.store import default_root
from pytest_iommufd.kernel.spec import FORMS
from pytest_iommufd.lab import Lab, Settings
from pytest_iommufd.machine import Verdict
from pytest_iommufd.machine.iommu import IOMMUS, NONE
from pytest_iommufd.machine.vm import BOOT_SECONDS
from pytest_iommufd.reports import caps

if TYPE_CHECKING:
    import argparse

    from pytest_iommufd.caps.model import Column


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `caps` command.

    Args:
        commands: the subparsers of `pytest-iommufd`. The parser sets `run`, a function of the
            parsed arguments that returns an exit status.
    """
    parser = commands.add_parser(
        "caps",
        help="show what kernels have of iommufd",
        description="Asks kernels which commands, sizes of structs, flags, types and test "
        "operations they accept, and shows it side by side, with what differs marked. A kernel "
        "without mock devices is asked what needs no device.",
    )
    parser.add_argument("specs", nargs="+", metavar="SPEC", help=FORMS)
    parser.add_argument(
        "--format", choices=caps.FORMATS, default="text", help="how to show it (default: text)"
    )
    parser.add_argument(
        "--iommu",
        choices=sorted(IOMMUS),
        action="append",
        default=[],
        help="ask also with a device behind this IOMMU, which a second guest has; may be repeated",
    )
    parser.add_argument(
        "--accel", choices=("auto", "kvm", "tcg"), default="auto", help="how guests run"
    )
    parser.add_argument(
        "--boot-deadline",
        type=float,
        default=BOOT_SECONDS,
        metavar="SECONDS",
        help=f"until a guest must serve (default: {BOOT_SECONDS:g})",
    )
    parser.set_defaults(run=_caps)


def _caps(args: argparse.Namespace) -> int:
    if args.iommu and "running" in args.specs:
        raise Problem("--iommu is for guests", expected="no kernel `running` beside it")
    specs = list(dict.fromkeys(args.specs))
    columns = []
    with ExitStack() as stack:
        labs = {
            iommu: stack.enter_context(closing(Lab(_settings(args, iommu))))
            for iommu in (NONE, *args.iommu)
        }
        benches = [labs[NONE].bench(spec) for spec in specs]
        headers = [bench.header for bench in benches if bench.header]
        for spec, bench in zip(specs, benches, strict=True):
            try:
                column = ask(bench, headers)
                bench.machine.stop()
                for iommu in dict.fromkeys(args.iommu):
                    behind = labs[iommu].bench(spec)
                    ask_behind(behind, headers, column, iommu)
                    behind.machine.stop()
            except Verdict as verdict:
                print(f"pytest-iommufd: kernel {bench.kernel.name}: {verdict}", file=sys.stderr)
            else:
                columns.append(column)
    if columns:
        print(caps.render(caps.gather(_named_apart(columns)), args.format), end="")
    return int(len(columns) < len(specs))


def _settings(args: argparse.Namespace, iommu: str) -> Settings:
    return Settings(
        default_root(), acceleration=args.accel, boot_seconds=args.boot_deadline, iommu=iommu
    )


def _named_apart(columns: list[Column]) -> list[Column]:
    """Call kernels whose names are the same, as those of two trees may be, by their specs."""
    names = [column.name for column in columns]
    for column in columns:
        if names.count(column.name) > 1:
            column.name = column.spec
    return columns
