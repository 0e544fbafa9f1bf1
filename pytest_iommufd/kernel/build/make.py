# SPDX-License-Identifier: GPL-2.0-only
"""Configuring and building a kernel, out of its tree."""

from __future__ import annotations

import os
import re
import shutil
import time
from typing import TYPE_CHECKING, Literal

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.resources import jobs
from pytest_iommufd.host.run import run
from pytest_iommufd.kernel.asis import modules
from pytest_iommufd.kernel.build import config, toolchain
from pytest_iommufd.kernel.build.folder import Built
from pytest_iommufd.kernel.cache.store import Estimate, Estimates

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_iommufd.host.progress import Progress
    from pytest_iommufd.host.run import Log
    from pytest_iommufd.kernel.build.own import Own
    from pytest_iommufd.kernel.cache.store import Cache

RECIPE = "1"
"""Changes whenever this module would build something else from the same source and options."""
BUILD_SIZE = 500_000_000
After = Literal["", "edits", "patches"]
"""What came after the build with whose directory a build begins; empty when it begins with none."""
# CPU seconds and lines of output, as a first guess.
_CPU_SECONDS: dict[After, float] = {"": 300.0, "edits": 100.0, "patches": 40.0}
_LINES = 1500
_TAIL = 25
# What gcc says of its compiler, make of what it started, ld and bash of themselves.
_OUT_OF_MEMORY = (
    r"Killed signal terminated program|\*\*\* .* Killed$|out of memory|Cannot allocate memory"
)
# Builds that differ in nothing else give the same bytes.
_FIXED = {
    "KBUILD_BUILD_TIMESTAMP": "1970-01-01",
    "KBUILD_BUILD_USER": "pytest-iommufd",
    "KBUILD_BUILD_HOST": "localhost",
}


class Make:
    """Runs make for a source tree and a build directory.

    Args:
        tree: the source tree, never written to.
        build: the build directory.
        log: receives what make prints.
    """

    def __init__(self, tree: Path, build: Path, log: Log) -> None:
        self._words = ["make", "-C", os.fspath(tree), f"O={build}", f"-j{jobs()}"]
        self._words += toolchain.words()
        self._log = log

    def __call__(self, *words: str, progress: Progress, lines: int = 0) -> list[str]:
        """Run it.

        Args:
            words: targets and variables.
            progress: shows the last line of output, and how far it is.
            lines: how many lines it is likely to print, 0 when not known.

        Returns:
            The lines that it printed.

        Raises:
            BuildError: it failed.
        """
        seen = 0

        def watch(line: str) -> None:
            nonlocal seen
            seen += bool(line)
            progress.update(line.strip(), min(seen / lines, 1.0) if lines else None)

        status, output = run([*self._words, *words], env=_FIXED, log=self._log, watch=watch)
        if status:
            raise BuildError(output)
        return output

    def note(self, lines: Iterable[str]) -> None:
        """Write lines to the log."""
        self._log.write("".join(f"{line}\n" for line in lines).encode())


class BuildError(Exception):
    """A make that failed.

    Args:
        lines: all that it printed.
    """

    def __init__(self, lines: list[str]) -> None:
        super().__init__("make failed")
        self.lines = lines

    def lacking(self, cache: Cache) -> Problem | None:
        """What the machine lacks, when that and not the source is why it failed.

        Args:
            cache: where the build directory is.
        """
        if self._said("No space left on device"):
            return cache.full()
        if self._said(
            r"Killed signal terminated program|\*\*\* .* Killed$|out of memory|Cannot allocate"
        ):
            return Problem(
                "the build ran out of memory: a compiler was killed",
                expected=f"some 250 MB for each of {jobs()} compilers at once",
                mend="end what else takes memory, or raise the container's limit; "
                "with fewer CPUs (taskset -c 0) fewer compilers run",
                detail=self.tail,
            )
        return None

    def _said(self, pattern: str) -> bool:
        return any(re.search(pattern, line) for line in self.lines)

    @property
    def tail(self) -> str:
        """What to show of its output: errors first if they are not at the end anyway."""
        last = self.lines[-_TAIL:]
        # With several jobs the cause can be far above the last line.
        errors = [line for line in self.lines if re.search(r"\berror\b:|\*\*\*", line)]
        early = [line for line in errors[:_TAIL] if line not in last]
        return "\n".join([*early, *(["..."] if early else []), *last])

    @property
    def messages(self) -> list[str]:
        """What compiler and modpost complain of, and the source lines with it; else make."""
        found: list[str] = []
        shown = False
        for line in self.lines:
            if re.search(r"\berror\b:|^ERROR:", line) and not line.startswith("make"):
                shown = True
            elif not re.match(r"\s*\d* \|", line):
                shown = False
            if shown:
                found.append(line)
        of_make = [line for line in self.lines if "***" in line and "Error" not in line]
        return found or of_make or self.tail.splitlines()


def build(
    tree: Path,
    folder: Path,
    cache: Cache,
    log_path: Path,
    progress: Progress,
    *,
    after: After = "",
    own: Own | None = None,
    copy_of: Path | None = None,
) -> Built:
    """Configure and build a kernel.

    Args:
        tree: the source tree, never written to.
        folder: the build directory; what an earlier build of nearly the same left there is reused.
        cache: knows how long builds take.
        log_path: receives the output, and stays.
        progress: shows what goes on.
        after: what came after that earlier build.
        own: the user's configuration.
        copy_of: the user's tree, if the source tree is a copy that does not outlive a failure.

    Returns:
        What was built.

    Raises:
        Problem: it does not compile, or its Kconfig does not accept the options, or there is no
            space.
        OSError: the build directory cannot be written.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    with log_path.open("wb", buffering=0) as log:
        make = Make(tree, folder, log)
        try:
            configuration = _configure(make, tree, folder, own, progress)
            _compile(make, cache, progress, after)
        except BuildError as error:
            raise error.lacking(cache) or Problem(
                f"the kernel in {copy_of or tree} does not build",
                mend=f"see the whole log: {log_path}",
                # make itself sees no symbolic links
                detail=error.tail.replace(os.path.realpath(tree), str(copy_of or tree)),
            ) from error
    return Built(
        release=(folder / "include/config/kernel.release").read_text("utf-8").strip(),
        image=folder / "arch/x86/boot/bzImage",
        modules=modules.of_build(folder).load_order(""),
        configuration=configuration,
    )


def _configure(make: Make, tree: Path, folder: Path, own: Own | None, progress: Progress) -> str:
    """Make the .config; returns what is to be said of the user's configuration."""
    progress.step("configuring")
    wanted = config.options()
    fragment = folder / "pytest-iommufd.config"
    fragment.write_text(own.render() if own else config.render(wanted), "utf-8")
    if own and own.whole:
        shutil.copyfile(fragment, folder / ".config")
        make("olddefconfig", progress=progress)
    else:
        make(f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig", progress=progress)
    if own is None:
        config.check(wanted, folder / ".config", tree)
        return ""
    said, lines = own.check(folder / ".config", tree)
    make.note(lines)
    return said


def _compile(make: Make, cache: Cache, progress: Progress, after: After) -> None:
    known = Estimates(cache.root)
    kind = f"build on {jobs()} CPUs" + (f", after {after}" if after else "")
    expected = known.get(kind, Estimate(_CPU_SECONDS[after] / jobs(), _LINES))
    progress.step("building", expected.seconds)
    began = time.monotonic()
    # Lines of a rebuild say little about the next one: how much it does depends on the edit.
    lines = make("bzImage", "modules", progress=progress, lines=0 if after else expected.lines)
    known.put(kind, Estimate(time.monotonic() - began, len(lines)))
