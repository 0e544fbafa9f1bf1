# SPDX-License-Identifier: GPL-2.0-only
"""How answers are put side by side, into words and on pages."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from pytest_iommufd.caps.behind import HWPT_FLAGS
from pytest_iommufd.caps.model import COMMANDS, MOCK, Answer, Column, Key, Row, State, rows
from pytest_iommufd.caps.plain import pages
from pytest_iommufd.caps.questions import QUESTIONS, answer
from pytest_iommufd.reports.caps import gather, render

YES, NO, UNKNOWN = (Answer(state) for state in State)
NO_TEST = "the kernel has no iommufd_test: no CONFIG_IOMMUFD_TEST"
THING = Key("things", "THING")


def _column(name: str, answers: dict[Key, Answer], **given: Any) -> Column:
    return Column(name, name, f"{name}.1", "somewhere", "tcg", answers, **given)


def _asked(name: str, column: Column) -> Answer:
    (question,) = (each for each in QUESTIONS if each.name == name)
    return answer(question, column)


@pytest.mark.parametrize(
    ("answers", "differs"),
    [
        ((YES, YES), False),
        ((YES, NO), True),
        ((YES, UNKNOWN), False),
        ((Answer(State.YES, "8 bytes"), Answer(State.YES, "9 bytes")), True),
        ((Answer(State.NO, why="one"), Answer(State.NO, why="other")), False),
        ((Answer(State.NO, declared=True), Answer(State.NO, declared=False)), True),
        ((Answer(State.NO, declared=True), Answer(State.NO)), False),
    ],
)
def test_what_differs(answers: tuple[Answer, ...], *, differs: bool) -> None:
    assert Row(THING, answers).differs is differs


def test_numbers_that_no_kernel_accepts_are_left_out() -> None:
    one, other = Key("things", "0x1"), Key("things", "0x2")
    columns = [_column("a", {one: NO, other: NO}), _column("b", {one: NO, other: YES})]
    assert [row.key for row in rows(columns)] == [other]


def test_what_was_not_asked_is_not_known() -> None:
    key = Key(HWPT_FLAGS, "IOMMU_HWPT_ALLOC_PASID", MOCK)
    command = Key(COMMANDS, "IOMMU_GONE")
    lacking = Answer(State.NO, why="ENOTTY")
    column = _column("a", {command: lacking}, unasked={MOCK: NO_TEST})
    assert column.answer(key) == Answer(State.UNKNOWN, why=NO_TEST)
    assert column.answer(Key("IOMMU_GONE.flags", "IOMMU_GONE_FLAG")) == lacking
    assert column.answer(Key("fields", "IOMMU_GONE.field")) == lacking
    assert column.answer(THING).state is State.UNKNOWN


def test_words_without_a_device() -> None:
    column = _column("a", {Key(COMMANDS, "IOMMU_HWPT_INVALIDATE"): YES}, unasked={MOCK: NO_TEST})
    nesting, pasid = _asked("nesting", column), _asked("PASID", column)
    unasked = f"it was not asked with a device ({NO_TEST}), which --iommu does"
    assert (nesting.state, pasid.state) == (State.YES, State.UNKNOWN)
    assert nesting.why == f"it has IOMMU_HWPT_INVALIDATE; {unasked}"
    assert pasid.why == unasked


def test_words_of_several_devices() -> None:
    pasid = (HWPT_FLAGS, "IOMMU_HWPT_ALLOC_PASID")
    refused = Answer(State.NO, why="EOPNOTSUPP")
    column = _column("a", {Key(*pasid, "amd"): refused})
    assert _asked("PASID", column).state is State.NO
    column.answers[Key(*pasid, MOCK)] = YES
    given = _asked("PASID", column)
    assert given.state is State.YES
    assert given.why == (
        "behind the IOMMU amd it does not have IOMMU_HWPT_ALLOC_PASID (EOPNOTSUPP); "
        "with a mock device it has IOMMU_HWPT_ALLOC_PASID"
    )


def test_text() -> None:
    key, other, third = THING, Key("things", "OTHER"), Key("things", "THIRD")
    columns = [
        _column("a", {key: Answer(State.NO, declared=True), other: YES, third: YES}),
        _column("b", {key: Answer(State.YES, "8 bytes", declared=False), other: YES}),
        _column("c", {}, absent="/dev/iommu cannot be opened: ENOENT"),
    ]
    columns[1].answers[third] = Answer(State.UNKNOWN, why="it is secret")
    text = render(gather(columns), "text")
    assert text.startswith(
        "a: release a.1, somewhere, tcg\n"
        "b: release b.1, somewhere, tcg\n"
        "c: release c.1, somewhere, tcg\n"
        "  It has no iommufd: /dev/iommu cannot be opened: ENOENT.\n"
    )
    assert text.endswith(
        "   things  a             b                      c\n"
        "*  THING   no, declared  8 bytes, not declared  no\n"
        "*  OTHER   yes           yes                    no\n"
        "*  THIRD   yes           not known [1]          no\n"
        "\n"
        "* kernels differ\n"
        "[1] not known: it is secret\n"
    )


def test_kernels_that_answer_alike_are_named_together() -> None:
    key = Key(COMMANDS, "IOMMU_IOAS_MAP_FILE")
    columns = [_column("a", {key: YES}), _column("b", {key: NO}), _column("c", {key: YES})]
    text = render(gather(columns), "text")
    assert (
        "MAP_FILE: memory is mapped by the file descriptor of its memfd?\n"
        "  yes: a, c\n"
        "    it has IOMMU_IOAS_MAP_FILE\n"
        "  no: b\n"
        "    it does not have IOMMU_IOAS_MAP_FILE\n"
    ) in text


def test_page_of_two_kernels(two: dict[str, Any]) -> None:
    page = unescape(render(two, "html"))
    assert not re.search(r"<script|<link|src=|href=", page)
    (map_file,) = re.findall(r"<tr.*>IOMMU_IOAS_MAP_FILE</th>.*", page)
    assert map_file.startswith('<tr class="differs">')
    assert ">no</td>" in map_file
    assert ">40 bytes</td>" in map_file
    for row in two["rows"]:
        assert f">{row['name']}</th>" in page


def test_page_quotes_what_it_shows() -> None:
    page = render(gather([_column("<b>", {Key("<i>", "a&b"): YES})]), "html")
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "a&amp;b" in page


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x1000, "4 KiB"),
        (0x4020_1000, "4 KiB, 2 MiB, 1 GiB"),
        (0xFFFF_FFFF_FFFF_F000, "52 from 4 KiB to 8 EiB"),
        (0x200, "512 bytes"),
    ],
)
def test_page_sizes(bits: int, words: str) -> None:
    assert pages(bits) == words
