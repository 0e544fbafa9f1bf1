# SPDX-License-Identifier: GPL-2.0-only
"""The rules' results as one HTML page that loads nothing."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

from pytest_iommufd.rules.verdicts import Mark

if TYPE_CHECKING:
    from collections.abc import Mapping

# By colour alone nobody should have to tell them apart.
_MARKS = {
    Mark.HOLDS: ("\N{CHECK MARK}", "the kernel does what the rule says"),
    Mark.DIFFERS: (
        "\N{ALMOST EQUAL TO}",
        "the kernel does something else, and nobody has promised what it does",
    ),
    Mark.DEFECT: ("!", "the kernel does what it is known to do wrong, as the rule's text tells"),
    Mark.VIOLATED: ("\N{BALLOT X}", "another errno, no error, a leak, or a splat in the log"),
    Mark.CRASHED: (
        "\N{HEAVY EIGHT POINTED RECTILINEAR BLACK STAR}",
        "the kernel panicked, a call hung, or its process was killed",
    ),
    Mark.ABSENT: ("\N{EN DASH}", "the kernel lacks what the rule is about"),
    Mark.NOT_RUN: ("\N{MIDDLE DOT}", "no test of the rule was run"),
}
# Lists of their own, before the rules.
_LISTED = {"Known defects": Mark.DEFECT, "Behaviour that differs": Mark.DIFFERS}


def render(data: Mapping[str, Any]) -> str:
    """Return the page of rules_data.gather()'s tree."""
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - costly, and seldom needed

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("pytest_iommufd.reports") / "matrix.html.jinja"
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for rule in data["rules"]:
        groups.setdefault(".".join(rule["slug"].split(".")[:2]), []).append(rule)
    return environment.from_string(source.read_text("utf-8")).render(
        data,
        groups=_joined(groups),
        listed={
            title: [
                (rule, kernel, result)
                for rule in data["rules"]
                for kernel, result in rule["results"].items()
                if result["mark"] == mark.value
            ]
            for title, mark in _LISTED.items()
        },
        marks=[
            {"name": mark.value, "key": mark.name.lower(), "symbol": symbol, "meaning": meaning}
            for mark, (symbol, meaning) in _MARKS.items()
        ],
        symbols={mark.value: symbol for mark, (symbol, _) in _MARKS.items()},
        keys={mark.value: mark.name.lower() for mark in Mark},
    )


def _joined(groups: Mapping[str, list[Mapping[str, Any]]]) -> dict[str, list[Mapping[str, Any]]]:
    """Put rules whose name has only two parts together: no group has one rule for its name."""
    joined: dict[str, list[Mapping[str, Any]]] = {}
    for name, rules in groups.items():
        alone = [rule["slug"] for rule in rules] == [name]
        joined.setdefault(name.partition(".")[0] if alone else name, []).extend(rules)
    return joined
