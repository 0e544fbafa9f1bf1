# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that is built again and again, each time with what was edited in its tree.

It has a copy of the source: what goes into a build stays as it is while make runs, however much the
tree is edited meanwhile. The folder is one that `--kernel` takes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pytest_iommufd.errors import Problem
from pytest_iommufd.host import tools
from pytest_iommufd.kernel import description, resolver
from pytest_iommufd.kernel.asis import modules
from pytest_iommufd.kernel.build import make as build
from pytest_iommufd.kernel.build.folder import relocate
from pytest_iommufd.kernel.cache import entries
from pytest_iommufd.kernel.series import derive
from pytest_iommufd.kernel.series.patchseries import identity as identity_of
from pytest_iommufd.kernel.source.identity import describe as describe_tree
from pytest_iommufd.kernel.source.identity import digest
from pytest_iommufd.kernel.source.treecopy import TreeCopy
from pytest_iommufd.kernel.spec import check_make_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_iommufd.host.progress import Progress
    from pytest_iommufd.kernel.cache.store import Cache
    from pytest_iommufd.kernel.spec import Spec

FOLDER = "drivers/iommu/iommufd"
"""What is built into a module: a change of nothing else needs no new image."""
_MODULE = f"{FOLDER}/iommufd.ko"
_IMAGE = "build/arch/x86/boot/bzImage"
_HEADERS = ("include/uapi/", "arch/x86/include/uapi/", f"{FOLDER}/iommufd_test.h")
# Names of files that were copied since the last build that went well.
_UNBUILT = "unbuilt.json"


class Workspace:
    """A source tree's copy and build directory; `open_workspace` makes it.

    Args:
        spec: the tree, and the series that are applied to the copy.
        folder: where all is.
        cache: the cache that the folder is in.

    Attributes:
        folder: the same; a kernel spec.
        source: the copy.
        log: what make said last.
    """

    def __init__(self, spec: Spec, folder: Path, cache: Cache) -> None:
        self.folder = folder
        self.log = cache.log(folder)
        self.log.parent.mkdir(exist_ok=True)
        self._spec = spec
        self._cache = cache
        self.source = folder / derive.SOURCE
        self._build = folder / "build"
        self._copy = TreeCopy(tree_of(spec), self.source, spec.series, f"tree {spec.path}")
        self._unbuilt = self._read_unbuilt()
        # What of FOLDER went into the image; None when that is not known.
        self._linked = None if self._unbuilt else self._built_in()

    @property
    def tree(self) -> Path:
        """The tree that is followed."""
        return self._copy.tree

    def differing(self, paths: Iterable[Path] | None, progress: Progress) -> set[str]:
        """Tell which files of the tree differ from what was brought last; see `TreeCopy`.

        Raises:
            Problem: the tree cannot be read, or the series do not apply any more.
        """
        try:
            return self._copy.differing(paths, progress)
        except OSError as error:
            raise Problem(f"cannot read source tree {self.tree}: {error}") from error

    def bring(self, names: set[str]) -> None:
        """Copy what differs.

        Args:
            names: from `differing`.

        Raises:
            Problem: the cache folder cannot be written.
        """
        if not names:
            return
        with self._cache.writing():
            self._unbuilt |= names
            self._write_unbuilt()
            self._copy.bring(names)
            for name in names:
                if name.endswith((".c", ".S")) and not (self.source / name).exists():
                    # kbuild would go on with it
                    (self._build / name).with_suffix(".o").unlink(missing_ok=True)

    def build(self, progress: Progress) -> str:
        """Build what was copied.

        Args:
            progress: shows what goes on.

        Returns:
            What was built: "module", "kernel", or "" when nothing had to be.

        Raises:
            BuildError: it does not compile.
            Problem: the configuration or the headers are of no use, or there is no space.
        """
        if not self._unbuilt:
            return ""
        with self._cache.writing():
            what = "module" if self._module(progress) else "kernel"
            if what == "kernel":
                self._kernel(progress)
                self._linked = self._built_in()
            if any(name.startswith(_HEADERS) for name in self._unbuilt):
                description.renew(self._cache, self.folder, self._record(), progress)
            self._unbuilt = set()
            self._write_unbuilt()
        return what

    def _module(self, progress: Progress) -> bool:
        """Build the module alone, if there is one and that is enough; tells whether it is."""
        if self._linked is None or not (self._build / _MODULE).is_file():
            return False
        if not all(map(_of_module, self._unbuilt)):
            return False
        progress.step("building the module")
        with self.log.open("wb", buffering=0) as log:
            make = build.Make(self.source, self._build, log)
            try:
                make(f"{FOLDER}/", _MODULE, progress=progress)
            except build.BuildError as error:
                if problem := error.lacking(self._cache):
                    raise problem from error
                raise
        return self._built_in() == self._linked

    def _kernel(self, progress: Progress) -> None:
        self._linked = None
        try:
            built = build.build(
                *(self.source, self._build, self._cache, self.log, progress),
                after="edits",
                own=self._spec.own,
            )
        except Problem as problem:
            error = problem.__cause__
            if isinstance(error, build.BuildError) and not error.lacking(self._cache):
                raise error from None
            raise
        self._remember(
            release=built.release,
            configuration=built.configuration,
            modules=[str(module.relative_to(self.folder)) for module in built.modules],
        )

    def _built_in(self) -> str:
        """Hash what of the module's folder goes into the image: a header is of both."""
        folder = self._build / FOLDER
        listed = folder / "iommufd.mod"
        of_module = listed.read_text("utf-8").split() if listed.is_file() else []
        others = {Path(name).name for name in of_module} | {"iommufd.o", "iommufd.mod.o"}
        objects = sorted(path for path in folder.glob("*.o") if path.name not in others)
        return digest(*(part for path in objects for part in (path.name, path.read_bytes())))

    def _record(self) -> entries.Record:
        record = entries.read(self.folder)
        assert record  # noqa: S101 - open_workspace() has seen to it
        return record

    def _remember(self, **changed: object) -> None:
        source = " + ".join((describe_tree(self.tree), *map(str, self._spec.series)))
        values: dict[str, object] = {"source": source, "built": time.time(), **changed}
        dataclasses.replace(self._record(), **values).write(self.folder)  # type: ignore[arg-type]

    def _read_unbuilt(self) -> set[str]:
        try:
            return set(json.loads((self.folder / _UNBUILT).read_text("utf-8")))
        except (OSError, ValueError):
            return set()

    def _write_unbuilt(self) -> None:
        (self.folder / _UNBUILT).write_text(json.dumps(sorted(self._unbuilt)), "utf-8")

    def check(self, progress: Progress) -> Self:
        """Make the description anew if another version of this package wrote it."""
        if self._record().describer != description.describer():
            description.renew(self._cache, self.folder, self._record(), progress)
        return self


@contextlib.contextmanager
def open_workspace(spec: Spec, cache: Cache, progress: Progress) -> Iterator[Workspace]:
    """Have the workspace of a tree, made from its kernel if there is none; nobody else has it.

    Args:
        spec: of a tree, with or without series; see `tree_of`.
        cache: where it is kept.
        progress: shows what goes on.

    Yields:
        It; what differs from the tree is not copied yet.

    Raises:
        Problem: the spec is of something else, the kernel cannot be built, or another run has it.
    """
    check_make_path(cache.root)
    tools.ensure(*tools.KERNEL_BUILD, *(tools.PATCH if spec.series else ()), progress=progress)
    inputs = {**resolver.made_with(spec), "tree": str(spec.path)}
    inputs["series"] = identity_of(spec.series) if spec.series else ""
    key = digest(json.dumps(inputs, sort_keys=True))[:12]
    folder = cache.watched / f"{spec.name}-{key}"
    with cache.claim(folder, Problem(f"{spec.text} is being watched by another run")):
        if entries.read(folder) is None:
            _make(spec, folder, inputs, cache, progress)
        yield Workspace(spec, folder, cache).check(progress)


def tree_of(spec: Spec) -> Path:
    """Return the tree that a spec names.

    Args:
        spec: as the user gave it.

    Raises:
        Problem: it is of something else.
    """
    if spec.kind != "tree" or not spec.path:
        raise Problem(f"not a source tree: {spec.text}", expected="a tree whose files are edited")
    return spec.path


def _make(
    spec: Spec, folder: Path, inputs: dict[str, str], cache: Cache, progress: Progress
) -> None:
    for outdated in entries.find_in(cache.watched, spec.name, {"tree": inputs["tree"]}):
        cache.remove(outdated)
    configs = spec.own.files if spec.own else ()
    kernel = resolver.resolve(spec.text, cache=cache.root, progress=progress, configs=configs)
    record = entries.read(kernel.build.parent) if kernel.build else None
    if not (record and kernel.build and kernel.tree and kernel.uapi):
        raise Problem(f"kernel {spec.name} was removed from the cache", mend="run again")
    # What is in the cache is the cache's own, and nothing here writes to a file in place.
    shared = kernel.tree.is_relative_to(cache.root)
    base = derive.Base(
        kernel.build.parent, spec.name, kernel.tree, record.source, record.inputs, shared
    )
    order = modules.of_build(kernel.build).load_order("")
    cache.need(build.BUILD_SIZE + base.copy_size)
    with cache.making(folder) as partial:
        source = derive.derive(base, (), partial, cache, progress)
        moved = {partial / "build": folder / "build", source: folder / derive.SOURCE}
        relocate(partial / "build", moved)
        shutil.copy2(kernel.uapi, partial)
        dataclasses.replace(
            record,
            tree=str(folder / derive.SOURCE),
            image=_IMAGE,
            modules=[f"build/{path.relative_to(kernel.build)}" for path in order],
            inputs=inputs,
        ).write(partial)


def _of_module(name: str) -> bool:
    """Whether a file can be of the module alone; Kconfig and Makefile say what is built at all."""
    return name.startswith(f"{FOLDER}/") and name.endswith((".c", ".h"))
