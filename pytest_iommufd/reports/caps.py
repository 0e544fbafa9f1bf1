# SPDX-License-Identifier: GPL-2.0-only
"""What kernels have of iommufd: as text, as one HTML page, and as JSON (caps.schema.json)."""

from __future__ import annotations

import json
from importlib import resources
from itertools import groupby
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from pytest_iommufd.caps.model import MOCK, Answer, State, rows
from pytest_iommufd.caps.questions import QUESTIONS, answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_iommufd.caps.model import Column

FORMATS = ("text", "json", "html")
FORM = 1
"""Of the JSON; it grows when a key goes away or means something else."""
_DIFFERS = "*"


def render(data: Mapping[str, Any], form: str) -> str:
    """Show what kernels have.

    Args:
        data: gather()'s tree.
        form: one of FORMATS.

    Returns:
        The page, with a line feed at its end.
    """
    if form == "json":
        return json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    if form == "html":
        return _html(data)
    return "\n".join(_text(data)) + "\n"


def gather(columns: Sequence[Column]) -> dict[str, Any]:
    """Return what caps.schema.json describes."""
    names = [column.name for column in columns]
    return {
        "caps": FORM,
        "kernels": [
            {
                "name": column.name,
                "spec": column.spec,
                "release": column.release,
                "source": column.source,
                "acceleration": column.acceleration,
                "absent": column.absent,
                "unasked": column.unasked,
            }
            for column in columns
        ],
        "questions": [
            {
                "name": question.name,
                "about": question.about,
                "answers": {column.name: _packed(answer(question, column)) for column in columns},
            }
            for question in QUESTIONS
        ],
        "rows": [
            {
                "about": row.key.about,
                "name": row.key.name,
                "device": row.key.device,
                "differs": row.differs,
                "answers": dict(zip(names, map(_packed, row.answers), strict=True)),
            }
            for row in rows(columns)
        ],
    }


def _packed(given: Answer) -> dict[str, Any]:
    return {
        "state": given.state.value,
        "value": given.value,
        "why": given.why,
        "declared": given.declared,
    }


def _shown(given: Mapping[str, Any]) -> str:
    """Return an answer in a few words; what the header declares only where the kernel differs."""
    said: str = given["value"] or given["state"]
    if given["state"] == State.YES.value:
        return f"{said}, not declared" if given["declared"] is False else said
    return f"{said}, declared" if given["declared"] else said


def _key(given: Mapping[str, Any]) -> str:
    """Return a word for an answer's colour."""
    return State(given["state"]).name.lower()


def _sections(data: Mapping[str, Any]) -> Iterator[tuple[str, str, list[Mapping[str, Any]]]]:
    """Return each subject of the rows, with what kernels were asked, and its rows."""
    for (device, about), members in groupby(
        data["rows"], lambda row: (row["device"], row["about"])
    ):
        asked = {"": "", MOCK: "asked with a mock device"}
        yield about, asked.get(device, f"asked behind the IOMMU {device}"), list(members)


def _alike(answers: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], list[str]]]:
    """Return the answers that there are, each with the kernels that gave it."""
    left = dict(answers)
    while left:
        first = next(iter(left.values()))
        names = [name for name, given in left.items() if given == first]
        yield first, names
        for name in names:
            del left[name]


def _text(data: Mapping[str, Any]) -> Iterator[str]:
    for kernel in data["kernels"]:
        how = kernel["acceleration"].partition(" ")[0]
        yield f"{kernel['name']}: release {kernel['release']}, {kernel['source']}, {how}"
        if kernel["absent"]:
            yield f"  It has no iommufd: {kernel['absent']}."
    for question in data["questions"]:
        yield ""
        yield f"{question['name']}: {question['about']}?"
        for given, names in _alike(question["answers"]):
            yield f"  {given['state']}: {', '.join(names)}"
            yield from wrap(given["why"], 96, initial_indent="    ", subsequent_indent="    ")
    names = [kernel["name"] for kernel in data["kernels"]]
    notes: dict[str, int] = {}
    for about, asked, members in _sections(data):
        yield ""
        yield from _table(f"{about} ({asked})" if asked else about, names, members, notes)
    yield ""
    if any(row["differs"] for row in data["rows"]):
        yield f"{_DIFFERS} kernels differ"
    yield from (f"[{number}] not known: {why}" for why, number in notes.items())


def _table(
    title: str, names: list[str], members: list[Mapping[str, Any]], notes: dict[str, int]
) -> Iterator[str]:
    """Return the lines of a subject.

    Args:
        title: its heading.
        names: the kernels.
        members: its rows.
        notes: takes the reasons why something is not known, with their numbers.
    """
    lines = [["", title, *names]]
    for row in members:
        cells = [_cell(row["answers"][name], notes) for name in names]
        lines.append([_DIFFERS if row["differs"] else "", row["name"], *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()


def _cell(given: Mapping[str, Any], notes: dict[str, int]) -> str:
    if given["state"] != State.UNKNOWN.value:
        return _shown(given)
    return f"{_shown(given)} [{notes.setdefault(given['why'], len(notes) + 1)}]"


def _html(data: Mapping[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - costly, and seldom needed

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("pytest_iommufd.reports") / "caps.html.jinja"
    return environment.from_string(source.read_text("utf-8")).render(
        data, sections=list(_sections(data)), shown=_shown, alike=_alike, key=_key
    )
