# SPDX-License-Identifier: GPL-2.0-only
"""A user's configuration: fragments over our options, or a whole .config below them.

A file whose head says that kconfig made it is a whole .config: of our options it gets those that
the guest and the suites need and that it has otherwise. Any other file is a fragment, whose lines
take precedence over ours; only what the guest needs it may not change.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel.build import config
from pytest_iommufd.kernel.build.config import Option
from pytest_iommufd.kernel.source.identity import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_HEAD = re.compile(
    r"#\n# Automatically generated file; DO NOT EDIT\.\n(?:# Linux/(?P<architecture>\S+) )?"
)
_LINE = re.compile(
    r"# (?P<off>CONFIG_\w+) is not set"
    r'|(?P<symbol>CONFIG_\w+)=(?P<value>"(?:[^"\\]|\\.)*"|[^\s"#]+)\s*(?:#.*)?'
)
# How many options are named in one line.
_NAMED = 8


@dataclass(frozen=True)
class Setting:
    """A line of a user's file.

    Attributes:
        symbol: with its CONFIG_.
        value: as `Option` has it.
        where: file and line, for people.
    """

    symbol: str
    value: str
    where: str

    @property
    def option(self) -> Option:
        """The same without where it is."""
        return Option(self.symbol, self.value)


@dataclass(frozen=True)
class Own:
    """What a user's files set.

    Attributes:
        files: their absolute paths.
        whole: what a whole .config among them has, else empty.
        changes: what fragments have, each symbol once.
    """

    files: tuple[Path, ...]
    whole: tuple[Setting, ...]
    changes: tuple[Setting, ...]

    @property
    def ours(self) -> list[Option]:
        """Our options that are added, in order."""
        changed = {setting.symbol for setting in self.changes}
        theirs = {setting.symbol: setting.value for setting in self.whole}
        return [
            option
            for option in config.options("own.config")
            if option.symbol not in changed
            and not (self.whole and option.chosen)
            and not (self.whole and option.accepts(theirs.get(option.symbol, "n")))
        ]

    def render(self) -> str:
        """Write all of it as one file, in which the last of a choice's options counts."""
        options = {one.symbol: one.option for one in self.whole}
        for option in (*self.ours, *(one.option for one in self.changes)):
            options.pop(option.symbol, None)
            options[option.symbol] = option
        return config.render(list(options.values()))

    def identity(self) -> str:
        """Hash all of it: names and comments of files do not count."""
        return digest("whole" if self.whole else "fragments", self.render())

    def check(self, made: Path, tree: Path) -> tuple[str, list[str]]:
        """Verify what kconfig made of it.

        Args:
            made: the .config.
            tree: the source tree.

        Returns:
            What is to be said of the configuration, and a line for each option that was added to a
            whole .config or did not survive.

        Raises:
            Problem: the guest needs options that did not survive.
        """
        got = config.values(made.read_text("utf-8"))
        needed = [option for option in config.options("own.config") if option.needed]
        if fatal := config.rejected(needed, got, tree):
            raise Problem(
                f"with {self} the kernel's Kconfig does not accept what the guest needs: "
                f"{_short(list(fatal))}",
                expected="a configuration in which these can be set",
                mend="remove from it what they depend on the absence of",
                detail="\n".join(f"  {line}" for line in fatal.values()),
            )
        ours = self.ours
        replaced = {one.symbol for one in ours} | {one.symbol for one in self.changes}
        whole = [one.option for one in self.whole if one.symbol not in replaced]
        others = [one.option for one in self.changes] + [one for one in ours if not one.chosen]
        lost = config.rejected(whole, got, tree, hidden=False)
        lost |= config.rejected(others, got, tree)
        added = [
            f"{option.symbol}={option.value}"
            for option in (ours if self.whole else ())
            if got.get(option.symbol, "n") == option.value
        ]
        said = f", configured with {self}"
        said += f", to which was added {_short(added)}" if added else ""
        said += f", of which did not survive {_short(list(lost.values()))}" if lost else ""
        return said, [*(f"added: {one}" for one in added), *lost.values()]

    def __str__(self) -> str:
        return " and ".join(map(str, self.files))


def read(files: Sequence[Path]) -> Own | None:
    """Read a user's files.

    Args:
        files: fragments, of which the last wins; the first may be a whole .config.

    Returns:
        What they set; None without files.

    Raises:
        Problem: a file cannot be read, is no configuration, or changes what the guest needs.
    """
    if not files:
        return None
    paths = tuple(path.expanduser().absolute() for path in files)
    texts = [_text(path) for path in paths]
    head = _HEAD.match(texts[0])
    if head and not (head["architecture"] or "x86").startswith("x86"):
        raise Problem(
            f"{paths[0]} is a configuration for {head['architecture']}",
            expected="one for x86: kernels are built for x86_64",
        )
    for path, text in list(zip(paths, texts, strict=True))[1:]:
        if _HEAD.match(text):
            raise Problem(
                f"{path} is a whole configuration and is not the first file",
                expected="a whole .config, then fragments that change it",
                mend=f"give {path} first, or only the lines of it that you want",
            )
    settings = [_settings(path, text) for path, text in zip(paths, texts, strict=True)]
    whole = tuple(settings.pop(0).values()) if head else ()
    changes: dict[str, Setting] = {}
    for one in settings:
        changes |= one
    _check_needed(changes.values())
    return Own(paths, whole, tuple(changes.values()))


def _text(path: Path) -> str:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise Problem(f"cannot read the configuration {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise Problem(
            f"not a configuration: {path} is no text",
            expected="lines such as CONFIG_KASAN=y",
            mend="unpack it, if it is a config.gz: zcat FILE >config",
        )
    return text


def _settings(path: Path, text: str) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        where = f"{path}, line {number}"
        match = _LINE.fullmatch(line)
        if match:
            symbol = match["off"] or match["symbol"]
            found[symbol] = Setting(symbol, match["value"] or "n", where)
        elif line and not line.startswith("#"):
            raise Problem(
                f"not an option: {line[:80]!r} in {where}",
                expected="CONFIG_NAME=VALUE, or # CONFIG_NAME is not set",
            )
    if not found:
        raise Problem(f"{path} sets no option", expected="lines such as CONFIG_KASAN=y")
    return found


def _check_needed(changes: Iterable[Setting]) -> None:
    needed = {one.symbol: one for one in config.options("own.config") if one.needed}
    for setting in changes:
        option = needed.get(setting.symbol)
        if option and not option.accepts(setting.value):
            raise Problem(
                f"{setting.symbol}={setting.value} in {setting.where}: the guest needs "
                f"{option.symbol}={option.value}",
                expected="fragments that leave what the guest needs as it is",
                mend="remove that line",
            )


def _short(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more, see its log" if more > 0 else "")
