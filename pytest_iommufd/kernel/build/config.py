# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's configuration: fragments over allnoconfig, and proof that they were heeded.

A fragment line is `CONFIG_X=VALUE  # reason`. A reason that begins with "if known" makes the line
one for the kernels that have the symbol: others go without.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pytest_iommufd.errors import Problem

_LINE = re.compile(r"(?P<symbol>CONFIG_\w+)=(?P<value>\"[^\"]*\"|\S+)\s*(?:#\s*(?P<reason>.*))?")
_SET = re.compile(r"(?P<symbol>CONFIG_\w+)=(?P<value>.*)")


@dataclass(frozen=True)
class Option:
    """A line of a fragment.

    Attributes:
        symbol: with its CONFIG_.
        value: `y`, `m`, `n`, or a number or string as .config has it.
        optional: whether kernels without the symbol are fine.
    """

    symbol: str
    value: str
    optional: bool


def options() -> list[Option]:
    """The options that the suites need, from the fragments beside this file.

    Returns:
        All of them, in order.
    """
    here = resources.files("pytest_iommufd.kernel.build")
    fragments = ("guest.config", "iommufd.config")
    return parse("\n".join(here.joinpath(name).read_text("utf-8") for name in fragments))


def parse(text: str) -> list[Option]:
    """Read fragments.

    Args:
        text: their lines.

    Returns:
        The options, in order.
    """
    found = (_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return [
        Option(m["symbol"], m["value"], (m["reason"] or "").startswith("if known"))
        for m in found
        if m
    ]


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
    lines = (_SET.fullmatch(line) for line in config.read_text("utf-8").splitlines())
    got = {m["symbol"]: m["value"] for m in lines if m}
    lost = [option for option in wanted if got.get(option.symbol, "n") != option.value]
    if not lost:
        return
    definitions = _definitions(tree, {option.symbol for option in lost})
    lost = [option for option in lost if not option.optional or option.symbol in definitions]
    if not lost:
        return
    raise Problem(
        f"this kernel's Kconfig did not accept {len(lost)} of the options that the suites need",
        expected="every option with its value",
        mend="use a kernel that has them, or a tree whose Kconfig does not forbid them",
        detail="\n".join(_explain(option, got, definitions) for option in lost),
    )


def _explain(option: Option, got: dict[str, str], definitions: dict[str, str]) -> str:
    wanted = f"  {option.symbol}={option.value}"
    if option.symbol not in definitions:
        return f"{wanted}: this kernel has no such option"
    needs = re.findall(r"^\s+depends on (.*)", definitions[option.symbol], re.MULTILINE)
    because = f" (it depends on {' and '.join(needs)})" if needs else ""
    return f"{wanted}: came out as {got.get(option.symbol, 'n')}{because}"


def _definitions(tree: Path, symbols: set[str]) -> dict[str, str]:
    """The Kconfig text of each symbol that the tree defines."""
    names = "|".join(symbol.removeprefix("CONFIG_") for symbol in sorted(symbols))
    head = re.compile(rf"^(?:menu)?config ({names})\n((?:[ \t].*\n|\n)*)", re.MULTILINE)
    found: dict[str, str] = {}
    for path in filter(Path.is_file, tree.rglob("Kconfig*")):
        for match in head.finditer(path.read_text("utf-8", errors="replace")):
            symbol = f"CONFIG_{match[1]}"
            found[symbol] = found.get(symbol, "") + match[2]
    return found
