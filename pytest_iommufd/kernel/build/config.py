# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's configuration: fragments over allnoconfig, and proof that they were heeded.

A fragment line is `CONFIG_X=VALUE  # reason`. A reason may begin with "if known" (kernels without
the symbol go without), "needed" (no guest works without it) or "by choice" (guest and suites do as
well without it); own.py tells what that means for a configuration of the user.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LINE = re.compile(r"(?P<symbol>CONFIG_\w+)=(?P<value>\"[^\"]*\"|\S+)\s*(?:#\s*(?P<reason>.*))?")
_PROMPT = re.compile(r"^\s+(?:bool|tristate|int|hex|string|prompt)\s+[\"']", re.MULTILINE)
_SET = re.compile(r"(?P<symbol>CONFIG_\w+)=(?P<value>.*)")


@dataclass(frozen=True)
class Option:
    """A line of a fragment.

    Attributes:
        symbol: with its CONFIG_.
        value: `y`, `m`, `n`, or a number or string as .config has it.
        reason: why it is wanted; its first words may be those that this module's docstring has.
    """

    symbol: str
    value: str
    reason: str = ""

    @property
    def optional(self) -> bool:
        """Whether kernels without the symbol are fine."""
        return self.reason.startswith("if known")

    @property
    def needed(self) -> bool:
        """Whether no guest works without it."""
        return self.reason.startswith("needed")

    @property
    def chosen(self) -> bool:
        """Whether guest and suites do as well without it."""
        return self.reason.startswith("by choice")

    def accepts(self, value: str) -> bool:
        """Tell whether another value does as well: what may be a module may be built in.

        Args:
            value: as .config has it; `n` for a symbol that is not there.
        """
        return value == self.value or (self.value, value) in {("m", "y"), ('""', "n")}


def options(*others: str) -> list[Option]:
    """The options that the suites need, from the fragments beside this file.

    Args:
        others: names of more such fragments.

    Returns:
        All of them, in order.
    """
    here = resources.files("pytest_iommufd.kernel.build")
    fragments = ("guest.config", "iommufd.config", *others)
    return parse("\n".join(here.joinpath(name).read_text("utf-8") for name in fragments))


def parse(text: str) -> list[Option]:
    """Read fragments.

    Args:
        text: their lines.

    Returns:
        The options, in order.
    """
    found = (_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return [Option(m["symbol"], m["value"], m["reason"] or "") for m in found if m]


def render(wanted: list[Option]) -> str:
    """Write options as KCONFIG_ALLCONFIG wants them.

    Args:
        wanted: the options.

    Returns:
        The file's content.
    """
    return "".join(
        f"# {option.symbol} is not set\n"
        if option.value == "n"
        else f"{option.symbol}={option.value}\n"
        for option in wanted
    )


def check(wanted: list[Option], config: Path, tree: Path) -> None:
    """Verify that a configuration is what was wanted: kconfig drops silently what it cannot have.

    Args:
        wanted: the options.
        config: the .config that kconfig made of them.
        tree: the source tree, for what its Kconfig files say.

    Raises:
        Problem: options did not survive; it says which, and what they depend on.
    """
    if lost := rejected(wanted, values(config.read_text("utf-8")), tree):
        raise Problem(
            f"this kernel's Kconfig did not accept {len(lost)} of the options that the suites need",
            expected="every option with its value",
            mend="use a kernel that has them, or a tree whose Kconfig does not forbid them",
            detail="\n".join(f"  {line}" for line in lost.values()),
        )


def values(text: str) -> dict[str, str]:
    """Understand a .config.

    Args:
        text: all of it.

    Returns:
        The values of the options that are set, by symbol.
    """
    lines = (_SET.fullmatch(line) for line in text.splitlines())
    return {m["symbol"]: m["value"] for m in lines if m}


def rejected(
    wanted: Iterable[Option], got: Mapping[str, str], tree: Path, *, hidden: bool = True
) -> dict[str, str]:
    """Tell which options did not survive, but for those that only some kernels know.

    Args:
        wanted: the options.
        got: what came out, from `values`.
        tree: the source tree, for what its Kconfig files say.
        hidden: also those that kconfig asks nobody for, such as the compiler's version.

    Returns:
        A line for each, by symbol, with what it depends on.
    """
    lost = [option for option in wanted if not option.accepts(got.get(option.symbol, "n"))]
    definitions = _definitions(tree, {option.symbol for option in lost}) if lost else {}
    return {
        option.symbol: _explain(option, got, definitions)
        for option in lost
        if (not option.optional or option.symbol in definitions)
        and (hidden or _PROMPT.search(definitions.get(option.symbol, '\tbool ""')))
    }


def _explain(option: Option, got: Mapping[str, str], definitions: Mapping[str, str]) -> str:
    wanted = f"{option.symbol}={option.value}"
    if option.symbol not in definitions:
        return f"{wanted}: this kernel has no such option"
    needs = re.findall(r"^\s+depends on (.*)", definitions[option.symbol], re.MULTILINE)
    because = f" (it depends on {' and '.join(needs)})" if needs else ""
    return f"{wanted}: came out as {got.get(option.symbol, 'n')}{because}"


def _definitions(tree: Path, symbols: set[str]) -> dict[str, str]:
    """The Kconfig text of each symbol that the tree defines."""
    head = re.compile(r"^(?:menu)?config (\w+)\n((?:[ \t].*\n|\n)*)", re.MULTILINE)
    found: dict[str, str] = {}
    for path in filter(Path.is_file, tree.rglob("Kconfig*")):
        for match in head.finditer(path.read_text("utf-8", errors="replace")):
            symbol = f"CONFIG_{match[1]}"
            if symbol in symbols:
                found[symbol] = found.get(symbol, "") + match[2]
    return found
