# SPDX-License-Identifier: GPL-2.0-only
"""`pytest-iommufd caps`: what kernels have, asked of the kernels."""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pytest_iommufd.caps.ask import ask, ask_behind
from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel.cache.store import default_root
from pytest_iommufd.kernel.spec import FORMS
from pytest_iommufd.lab import Lab, Settings
from pytest_iommufd.machine import Verdict
from pytest_iommufd.machine.iommu import IOMMUS
from pytest_iommufd.reports import caps

if TYPE_CHECKING:
    import argparse


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
    parser.set_defaults(run=_caps)


def _caps(args: argparse.Namespace) -> int:
    if args.iommu and "running" in args.specs:
        raise Problem("--iommu is for guests", expected="no kernel `running` beside it")
    try:
        print(_page(args), end="")
    except Verdict as verdict:
        print(f"pytest-iommufd: {verdict}", file=sys.stderr)
        return 1
    return 0


def _page(args: argparse.Namespace) -> str:
    iommus = list(dict.fromkeys(args.iommu))
    with ExitStack() as stack:
        labs = {}
        for iommu in (None, *iommus):
            given = {"iommu": iommu} if iommu else {}
            labs[iommu] = Lab(Settings(default_root(), acceleration=args.accel, **given))
            stack.callback(labs[iommu].close)
        specs = list(dict.fromkeys(args.specs))
        benches = [labs[None].bench(spec) for spec in specs]
        headers = [bench.header for bench in benches if bench.header]
        columns = []
        for bench in benches:
            column = ask(bench, headers)
            bench.machine.stop()
            for iommu in iommus:
                with_iommu = labs[iommu].bench(bench.kernel.spec)
                ask_behind(with_iommu, headers, column, iommu)
                with_iommu.machine.stop()
            columns.append(column)
    names = [column.name for column in columns]
    for column in columns:
        # kernels of several trees may have the same name
        if names.count(column.name) > 1:
            column.name = column.spec
    return caps.render(caps.gather(columns), args.format)
