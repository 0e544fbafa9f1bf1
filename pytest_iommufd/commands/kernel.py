# SPDX-License-Identifier: GPL-2.0-only
"""`pytest-iommufd kernel`: build, list, compare and remove kernels."""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import time
from pathlib import Path
from stat import S_ISDIR
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel import diff
from pytest_iommufd.kernel.cache import entries
from pytest_iommufd.kernel.cache.store import FOLDERS, PARTIAL, VARIABLE, Cache, gigabytes
from pytest_iommufd.kernel.resolver import ready, resolve
from pytest_iommufd.kernel.source import export, packages
from pytest_iommufd.kernel.spec import FORMS, parse

if TYPE_CHECKING:
    import argparse


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `kernel` command.

    Args:
        commands: the subparsers of `pytest-iommufd`. Each parser sets `run`, a function of the
            parsed arguments that returns an exit status.
    """
    parser = commands.add_parser(
        "kernel",
        help="build, list, compare and remove kernels",
        description=f"Kernels are kept in ${VARIABLE}, else in the user's cache directory.",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    verb = verbs.add_parser("build", help="build kernels that are not in the cache")
    verb.add_argument("specs", nargs="+", metavar="SPEC", help=FORMS)
    verb.add_argument(
        "--update", action="store_true", help="look for a newer package of each X.Y first"
    )
    add_config(verb)
    verb.set_defaults(run=_build)

    verb = verbs.add_parser("list", help="show the kernels in the cache")
    verb.set_defaults(run=_list)

    verb = verbs.add_parser("path", help="print the image of a kernel in the cache")
    verb.add_argument("spec", metavar="SPEC", help=FORMS)
    add_config(verb)
    verb.set_defaults(run=_path)

    verb = verbs.add_parser(
        "diff",
        help="show what differs between two kernels",
        description="Exit status: 0 if nothing differs, 1 if something does, 2 for trouble.",
    )
    verb.add_argument("old", metavar="A", help=FORMS)
    verb.add_argument("new", metavar="B", help="likewise")
    verb.add_argument(
        "--patch", action="store_true", help="print the source's differences, not only their size"
    )
    verb.set_defaults(run=_diff)

    verb = verbs.add_parser("clean", help="remove kernels and sources from the cache")
    verb.add_argument(
        "specs", nargs="*", metavar="SPEC", help="whose kernels to remove, or a name of `list`"
    )
    verb.add_argument("--all", action="store_true", help="remove the whole cache")
    verb.set_defaults(run=_clean, parser=verb)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the option for files of the user's configuration.

    Args:
        parser: sets `config`, a list of paths.
    """
    parser.add_argument(
        *("--config", "--iommufd-config"),
        dest="config",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="a fragment of a configuration; the last of several wins. The first may be a whole "
        ".config",
    )


def _build(args: argparse.Namespace) -> int:
    for spec in args.specs:
        kernel = resolve(spec, update=args.update, configs=args.config)
        print(f"{kernel.name}: {kernel.release or 'release not known'}, {kernel.source}")
    return 0


def _list(_: argparse.Namespace) -> int:
    cache = Cache.at(None)
    found = entries.find(cache, "", {}) + entries.find_in(cache.watched, "", {})
    if not found:
        print(f"no kernels in {cache.root}")
    for entry in found:
        record = entries.read(entry)
        if record:
            built = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.built))
            watched = " (watch)" if entry.parent == cache.watched else ""
            print(
                f"{record.name}{watched}\t{record.release}\t{built}\t{_size(entry)}\t{record.described}"
            )
    return 0


def _path(args: argparse.Namespace) -> int:
    kernel = ready(args.spec, configs=args.config)
    if kernel is None:
        raise Problem(
            f"kernel {args.spec} is not built", mend=f"pytest-iommufd kernel build {args.spec}"
        )
    if kernel.image is None:
        raise Problem(f"kernel {args.spec} is this machine's own; it has no image here")
    print(kernel.image)
    return 0


def _clean(args: argparse.Namespace) -> int:
    if args.all == bool(args.specs):
        args.parser.error("give either SPECs or --all")
    cache = Cache.at(None)
    doomed: list[Path] = []
    if args.all:
        # One by one: the folder may hold other people's things, and locks must outlive clean.
        names = (*(f"{folder}/*" for folder in FOLDERS), "apt")
        doomed = [path for name in names for path in cache.root.glob(name) if cache.made(path)]
        doomed += cache.root.glob("estimates.json")
        logs = list(cache.root.glob("logs/*"))
        if logs and all(cache.made(cache.kernels / log.stem) for log in logs):
            doomed.append(logs[0].parent)
    for text in args.specs:
        doomed += _doomed(text, cache)
    freed = 0
    for path in doomed:
        size = _bytes(path)
        if cache.remove(path.with_name(path.name.removesuffix(PARTIAL))):
            freed += size
        else:
            print(f"{path} is in use by another run")
    print(f"removed {gigabytes(freed)} from {cache.root}")
    return 0


def _doomed(text: str, cache: Cache) -> list[Path]:
    folders = (cache.kernels, cache.watched)
    try:
        spec = parse(text)
    except Problem:
        # a tree or a series that is gone: its kernels still have their name
        named = [one for kept in folders for one in entries.find_in(kept, text, {}) if text]
        if named:
            return named + export.only_of(named, cache)
        raise
    if spec.kind == "built" and spec.path:
        return [spec.path] if spec.path.parent in folders else []
    key = {"tree": "tree", "commit": "repository"}.get(spec.kind)
    about = {key: str(spec.path)} if key else {}
    found = [one for kept in folders for one in entries.find_in(kept, spec.name, about)]
    if spec.offered and (cache.downloads / spec.offered).is_dir():
        found.append(cache.downloads / spec.offered)
    if spec.version and not spec.series:
        found += packages.trees(spec.version, cache)
    return found + export.only_of(found, cache, "" if spec.series else spec.commit)


def _diff(args: argparse.Namespace) -> int:
    sections = diff.compare(resolve(args.old), resolve(args.new), patch=args.patch)
    for section in sections:
        print("\n".join((f"{section.title}:", *(f"  {line}" for line in section.lines))))
    return int(any(section.differs for section in sections))


def _size(path: Path) -> str:
    return gigabytes(_bytes(path))


def _bytes(path: Path) -> int:
    """What removing a folder frees: not what another has too, as patched sources do."""
    stats = (file.lstat() for file in (path, *path.rglob("*")))
    return sum(
        stat.st_blocks * 512 for stat in stats if stat.st_nlink == 1 or S_ISDIR(stat.st_mode)
    )
