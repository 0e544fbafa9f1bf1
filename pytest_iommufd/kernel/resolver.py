# SPDX-License-Identifier: GPL-2.0-only
"""From a spec to a kernel: out of the cache when it is there, else built."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.host import tools
from pytest_iommufd.host.display import default
from pytest_iommufd.kernel import description
from pytest_iommufd.kernel.asis import kernel as asis
from pytest_iommufd.kernel.build import config, previous, toolchain
from pytest_iommufd.kernel.build import make as build
from pytest_iommufd.kernel.build.folder import keep
from pytest_iommufd.kernel.cache import entries
from pytest_iommufd.kernel.cache.store import Cache, Estimates
from pytest_iommufd.kernel.model import Kernel
from pytest_iommufd.kernel.series import derive, patching, patchseries
from pytest_iommufd.kernel.source import (
    binaries,
    export,
    identity,
    listing,
    packages,
    revision,
    snapshot,
)
from pytest_iommufd.kernel.spec import Spec, check_make_path, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_iommufd.host.progress import Progress

# Builds of one tree or package that are kept: a run that has begun may still boot an earlier one.
_KEPT = 3
# How often a tree is copied in which files are saved meanwhile.
_TRIES = 5
# Among what goes into a kernel: that it is built from a copy of its tree.
_COPY = "source"
# Likewise: the words for make that the environment adds.
_FLAGS = "make"
# Likewise: the user's configuration.
_OWN = "config"


def resolve(
    spec: str,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
    update: bool = False,
    configs: Sequence[Path] = (),
) -> Kernel:
    """Have the kernel that a spec names, building it when it is not in the cache.

    Args:
        spec: `running`, `ssh:[USER@]HOST`, an image, a build folder, packages, `debian:PACKAGE`,
            a tree, `TREE@REV`, or `X.Y`; `+SERIES` may follow the last three.
        cache: the cache folder; None for $PYTEST_IOMMUFD_CACHE or the user's cache directory.
        progress: shows what goes on; None for what suits standard error.
        update: for `X.Y`, look for a package newer than the one that was built.
        configs: files of the user's configuration: fragments, or a whole .config and fragments.

    Returns:
        The kernel, ready to boot.

    Raises:
        Problem: the spec names nothing usable, or the kernel cannot be built here.
    """
    parsed = parse(spec, configs)
    if kernel := _found(parsed, Cache.at(cache), update=update):
        return kernel
    progress = progress or default()
    try:
        return _make(parsed, Cache.at(cache), progress, update=update)
    finally:
        progress.done()


def ready(spec: str, cache: Path | None = None, configs: Sequence[Path] = ()) -> Kernel | None:
    """Have the kernel that a spec names only if nothing needs to be built for it.

    Args:
        spec: as for `resolve`.
        cache: as for `resolve`.
        configs: as for `resolve`.

    Returns:
        The kernel, None when it would have to be built.

    Raises:
        Problem: the spec names nothing usable.
    """
    return _found(parse(spec, configs), Cache.at(cache), update=False)


def _found(spec: Spec, cache: Cache, *, update: bool) -> Kernel | None:
    if spec.kind in {"running", "ssh"}:
        release = "" if spec.host else os.uname().release
        source = f"the machine {spec.host}" if spec.host else "this machine"
        return Kernel(spec.text, spec.name, release, source, host=spec.host)
    if spec.kind in {"image", "build", "packages"}:
        return _as_it_is(spec, cache)
    if spec.kind == "built" and spec.path:
        return _built(spec, spec.path, cache)
    if update:
        return None
    # Without flags is not with any; likewise a configuration.
    known = {_FLAGS: "", _OWN: "", **_inputs(spec)}
    if spec.base:
        # A patched kernel goes with the unpatched one that is used now, not with an older one.
        plain = {name: value for name, value in known.items() if name != "series"}
        base = next(iter(entries.find(cache, spec.base.name, plain)), None)
        if base and (record := entries.read(base)):
            known |= _with_series(record.inputs, spec)
    for entry in entries.find(cache, spec.name, known):
        record = entries.read(entry)
        if record and record.describer == description.describer():
            return entries.load(cache, entry, record, spec.text)
    return None


def _as_it_is(spec: Spec, cache: Cache) -> Kernel | None:
    if spec.path:
        return asis.load(spec, spec.path, cache)
    files = binaries.downloaded(spec.offered, cache)
    return _of_packages(spec, files, cache) if files else None


def _of_packages(spec: Spec, files: tuple[Path, ...], cache: Cache) -> Kernel:
    return asis.load(dataclasses.replace(spec, packages=files), files[0], cache)


def _built(spec: Spec, folder: Path, cache: Cache) -> Kernel:
    record = entries.read(folder)
    if record is None or record.describer != description.describer():
        raise Problem(
            f"kernel {spec.name} in {folder} was made by another version of pytest-iommufd",
            mend="build it anew: give its source tree or X.Y",
        )
    return entries.load(cache, folder, record, spec.text)


def _inputs(spec: Spec) -> dict[str, str]:
    """What goes into the kernel of a spec, as far as it is known without looking for a package."""
    known = made_with(spec)
    if spec.kind == "tree" and spec.path:
        known["tree"] = str(spec.path)
        known["content"] = _content(spec.path)
        if not listing.is_clean(spec.path):
            known[_COPY] = "copy"
    elif spec.kind == "commit":
        known["repository"] = str(spec.path)
        known["commit"] = spec.commit
    else:
        known["package"] = packages.package_of(spec.version)
    return _with_series(known, spec) if spec.series else known


def made_with(spec: Spec) -> dict[str, str]:
    """Tell what goes into every kernel that is built now with the spec's configuration.

    Args:
        spec: of the kernel.

    Returns:
        Names and values.

    Raises:
        Problem: the compiler that the environment names does not run.
    """
    known = {
        "options": identity.digest(config.render(config.options())),
        "recipe": build.RECIPE,
    }
    # Without a compiler nothing can be built: what another one built here is good enough.
    if compiler := toolchain.compiler():
        known["compiler"] = compiler
    if words := toolchain.words():
        known[_FLAGS] = shlex.join(words)
    if spec.own:
        known[_OWN] = spec.own.identity()
    return known


def _with_series(inputs: dict[str, str], spec: Spec) -> dict[str, str]:
    return inputs | {"series": patchseries.identity(spec.series)}


def _content(tree: Path) -> str:
    try:
        return identity.of_tree(tree)
    except OSError as error:
        raise Problem(f"cannot read source tree {tree}: {error}") from error


def _make(spec: Spec, cache: Cache, progress: Progress, *, update: bool) -> Kernel:
    if spec.offered:
        with cache.writing():
            cache.sweep()
        return _of_packages(spec, binaries.fetch(spec.offered, cache, progress), cache)
    check_make_path(cache.root)
    if os.uname().machine != "x86_64":
        raise Problem(f"kernels are built for x86_64, and this machine is {os.uname().machine}")
    tools.ensure(*tools.KERNEL_BUILD, progress=progress)
    with cache.writing():
        cache.sweep()
    if spec.base:
        tools.ensure(*tools.PATCH, progress=progress)
    elif spec.kind == "tree" and spec.path and not listing.is_clean(spec.path):
        tools.ensure("git", progress=progress)
    for _ in range(_TRIES):
        with contextlib.suppress(snapshot.ChangedError):
            return _made(spec, cache, progress, update=update)
    raise Problem(
        f"files of {spec.path} were saved each of the {_TRIES} times that it was copied",
        expected="a tree in which nothing is written for a minute",
        mend="end what writes there, and run again",
    )


def _made(spec: Spec, cache: Cache, progress: Progress, *, update: bool) -> Kernel:
    plan = _plan(spec, cache, progress, update=update)
    entry = entries.path_of(cache, spec.name, plan.inputs)
    with cache.lock(entry, progress):
        record = entries.read(entry)
        if record is None:
            record = _build(plan, entry, cache, progress)
            _prune(plan, cache)
        elif record.describer != description.describer():
            record = description.renew(cache, entry, record, progress)
    return entries.load(cache, entry, record, spec.text)


@dataclass(frozen=True)
class _Plan:
    """What to build.

    Attributes:
        spec: of what.
        tree: the source tree.
        source: what that is, for people.
        inputs: all that goes in.
        base: the unpatched kernel of a series.
        before: a kernel to begin with; what the tree has otherwise is newer than its build.
    """

    spec: Spec
    tree: Path
    source: str
    inputs: dict[str, str]
    base: derive.Base | None = None
    before: Path | None = None


def _plan(spec: Spec, cache: Cache, progress: Progress, *, update: bool) -> _Plan:
    if spec.base:
        base = _base(spec.base, cache, progress, update=update)
        source = " + ".join((base.source, *map(str, spec.series)))
        return _Plan(spec, base.tree, source, _with_series(base.inputs, spec), base)
    inputs = _inputs(spec)
    if spec.kind == "tree" and spec.path:
        before = previous.find(cache, spec.name, inputs, but="content")
        if before is None and _COPY in inputs:
            # perhaps the tree was built here before anything was built in it
            plain = {name: value for name, value in inputs.items() if name != _COPY}
            before = previous.find(cache, spec.name, plain, but="content")
        return _Plan(spec, spec.path, identity.describe(spec.path), inputs, before=before)
    if spec.kind == "commit" and spec.path:
        tree, before = _exported(spec.path, inputs, cache, progress)
        source = revision.describe(spec.path, spec.commit)
        return _Plan(spec, tree, source, inputs, before=before)
    tree = packages.fetch(spec.version, cache, progress, update=update)
    package, version = packages.content(tree)
    return _Plan(spec, tree, f"{package} {version} (Debian)", inputs | {"content": version})


def _base(spec: Spec, cache: Cache, progress: Progress, *, update: bool) -> derive.Base:
    kernel = _found(spec, cache, update=update) or _make(spec, cache, progress, update=update)
    entry = kernel.build.parent if kernel.build else None
    record = entries.read(entry) if entry else None
    if not (entry and record and kernel.tree and kernel.tree.is_dir()):
        raise Problem(
            f"the source of kernel {spec.name} is gone: {kernel.tree}",
            mend=f"pytest-iommufd kernel clean {spec.text} and run again",
        )
    shared = kernel.tree.is_relative_to(cache.root)
    return derive.Base(entry, spec.name, kernel.tree, record.source, record.inputs, shared)


def _build(plan: _Plan, entry: Path, cache: Cache, progress: Progress) -> entries.Record:
    copied = _COPY in plan.inputs and not plan.base
    copy_size = plan.base.copy_size if plan.base else copied * patching.TREE_SIZE
    cache.need(build.BUILD_SIZE + copy_size)
    with cache.making(entry) as partial:
        folder = partial / "build"
        tree = kept = plan.tree
        after: build.After = ""
        if plan.base:
            after = "patches"
            tree = derive.derive(plan.base, plan.spec.series, partial, cache, progress)
            kept = entry / derive.SOURCE
        elif copied:
            tree, kept = partial / derive.SOURCE, entry / derive.SOURCE
            _copy(plan, tree, cache, progress)
        before = None if plan.base else plan.before
        if before and previous.take(before, tree, folder, cache, progress):
            after = "edits"
        built = build.build(
            *(tree, folder, cache, cache.log(entry), progress),
            after=after,
            own=plan.spec.own,
            copy_of=plan.tree if copied else None,
        )
        in_place = plan.spec.kind == "tree" and _COPY not in plan.inputs
        if in_place and _content(plan.tree) != plan.inputs["content"]:
            raise Problem(f"{plan.tree} changed while it was being built", mend="run again")
        image, modules = keep(built, partial)
        uapi = f"{plan.spec.name}.json"
        description.describe(tree, folder, partial / uapi, progress)
        record = entries.Record(
            name=plan.spec.name,
            release=built.release,
            source=plan.source,
            tree=str(kept),
            image=image,
            modules=list(modules),
            uapi=uapi,
            describer=description.describer(),
            built=time.time(),
            inputs=plan.inputs,
            configuration=built.configuration,
        )
        record.write(partial)
    return record


def _copy(plan: _Plan, copy: Path, cache: Cache, progress: Progress) -> None:
    with contextlib.ExitStack() as held:
        earlier = None
        if plan.before:
            # Others may remove it to make room, but not while it is copied.
            held.enter_context(cache.lock(plan.before, progress))
            there = plan.before / derive.SOURCE
            earlier = there if there.is_dir() else None
        kind, guess = ("link source", 4) if earlier else ("copy source", 40)
        what = f"copying the source of {plan.tree}"
        with Estimates(cache.root).timed(kind, guess, what, progress):
            snapshot.take(plan.tree, copy, earlier, progress)
    if _content(plan.tree) != plan.inputs["content"]:
        raise snapshot.ChangedError


def _exported(
    checkout: Path, inputs: dict[str, str], cache: Cache, progress: Progress
) -> tuple[Path, Path | None]:
    """Have a commit's source tree, and a kernel to begin its build with."""
    commit = inputs["commit"]
    tree = export.path_of(cache, commit)
    earlier = None
    last = previous.find(cache, "", inputs, but="commit")
    if last and (record := entries.read(last)):
        earlier = export.Earlier(record.inputs["commit"], Path(record.tree))
    if export.export(checkout, commit, cache, progress, earlier):
        return tree, last
    # A tree that was there has files older than the last build of another commit, and yet not
    # alike: make would not compile them. The same commit under another name has no such files.
    return tree, previous.find(cache, "", inputs)


def _prune(plan: _Plan, cache: Cache) -> None:
    same: dict[str, str] = {
        name: plan.inputs[name] for name in ("tree", "repository", "package") if name in plan.inputs
    }
    outdated = entries.find(cache, plan.spec.name, same)[_KEPT:]
    for path in (*outdated, *export.only_of(outdated, cache)):
        cache.remove(path)
