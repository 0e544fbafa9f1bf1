# SPDX-License-Identifier: GPL-2.0-only
"""`pytest-iommufd watch`: the loop of who edits a kernel."""

from __future__ import annotations

import argparse

from pytest_iommufd.commands.kernel import add_config
from pytest_iommufd.host.display import default
from pytest_iommufd.kernel.cache.store import Cache
from pytest_iommufd.kernel.spec import parse

_DESCRIPTION = """\
Builds a source tree and runs tests on it. Then, whenever something is saved in the tree, builds
that, runs the tests again and shows which rules' verdicts differ from those of the run before.
Ctrl-C ends it.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `watch` command.

    Args:
        commands: the subparsers of `pytest-iommufd`. The parser sets `run`, a function of the
            parsed arguments that returns an exit status.
    """
    parser = commands.add_parser(
        "watch",
        help="build and test a source tree whenever something is saved in it",
        description=_DESCRIPTION,
    )
    add_config(parser)
    parser.add_argument("tree", metavar="TREE[+SERIES]", help="the source tree; never written to")
    parser.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        metavar="...",
        help="for pytest: suites, --rule PATTERN and other options; default: the suite hwpt_alloc",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    # Here: `pytest-iommufd` has other commands, and they are not to wait for these.
    from pytest_iommufd.kernel.workspace import open_workspace, tree_of  # noqa: PLC0415
    from pytest_iommufd.watch.changes import Changes  # noqa: PLC0415
    from pytest_iommufd.watch.display import Display  # noqa: PLC0415
    from pytest_iommufd.watch.loop import Loop  # noqa: PLC0415
    from pytest_iommufd.watch.tests import Tests, arguments  # noqa: PLC0415

    # also among what is for pytest, which is given a kernel that is built
    behind = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_config(behind)
    own, others = behind.parse_known_args(args.arguments)
    spec = parse(args.tree, [*args.config, *own.config])
    given = arguments(others)
    tree = tree_of(spec)
    cache = Cache.at(None)
    progress = default()
    display = Display()
    with Changes(tree) as changes:
        try:
            with open_workspace(spec, cache, progress) as workspace:
                progress.done()
                log = workspace.log.with_suffix(".tests.log")
                display.line(f"watching {tree}: pytest {' '.join(given)}", "bold")
                Loop(workspace, changes, Tests(given, workspace.folder, log), display).run()
        finally:
            progress.done()
    return 0
