# SPDX-License-Identifier: GPL-2.0-only
"""The loop with a real kernel: from a saved file to what differs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from watching import EditedTree, Watching

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = "drivers/iommu/iommufd/hw_pagetable.c"
CHECK = "if (cmd->__reserved)"
REMOVED = "if (0 && cmd->__reserved)"
RULES = ("--rule=hwpt_alloc.reserved.nested", "--rule=hwpt_alloc.reserved.viommu")
AFTER = r" s after the save$"


@pytest.fixture(scope="module")
def loop(edited_tree: EditedTree) -> Iterator[Watching]:
    """A loop that has come to the end of its first run."""
    made = Watching(edited_tree, *RULES)
    try:
        *_, watching, counts = made.until(r"tests? \d")
        assert watching.startswith(
            f"watching {edited_tree.path}: pytest {' '.join(RULES)} --pyargs"
        )
        assert counts.startswith("  2 hold (")
        yield made
    finally:
        made.close()


def edit(tree: EditedTree, old: str, new: str, name: str = FILE) -> None:
    def replaced(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    tree.save(name, replaced)


def gone(pids: set[int]) -> bool:
    """Whether all of them have ended, or soon have."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.02)
    return False


def test_a_rule_is_violated_and_holds_again(loop: Watching, edited_tree: EditedTree) -> None:
    edit(edited_tree, CHECK, REMOVED)
    saved, first, second, verdict, log = loop.until("all that pytest says")
    assert saved.endswith(FILE)
    reason = "expected EOPNOTSUPP, but the kernel accepted the call"
    assert first == f"  hwpt_alloc.reserved.nested: holds -> violated: {reason}"
    assert second == f"  hwpt_alloc.reserved.viommu: holds -> violated: {reason}"
    assert verdict.startswith("  2 differences: 2 violated (module ")
    assert "FAILED" in Path(log.rpartition(" ")[2]).read_text()
    edited_tree.put_back(FILE)
    assert [line.partition(" (")[0] for line in loop.until(AFTER)][1:] == [
        "  hwpt_alloc.reserved.nested: violated -> holds",
        "  hwpt_alloc.reserved.viommu: violated -> holds",
        "  2 differences: 2 hold",
    ]


def test_what_does_not_compile_is_told_and_the_loop_goes_on(
    loop: Watching, edited_tree: EditedTree
) -> None:
    edit(edited_tree, CHECK, "if (cmd->__reserve)")
    _, *lines, verdict = loop.until(AFTER)
    assert lines[0].startswith(f"  {FILE}:")
    assert "error: " in lines[0]
    assert "if (cmd->__reserve)" in lines[1]
    assert verdict.startswith("  does not build, ")
    edited_tree.put_back(FILE)
    assert "  no differences: 2 hold (module " in loop.until(AFTER)[-1]


def test_what_is_saved_while_tests_run_counts(loop: Watching, edited_tree: EditedTree) -> None:
    edit(edited_tree, CHECK, REMOVED)
    first = loop.until_guest()
    edited_tree.put_back(FILE)
    *saved, verdict = loop.until(AFTER)
    assert [line.rpartition(" ")[2] for line in saved] == [FILE, FILE]
    assert verdict.startswith("  no differences: 2 hold ")
    assert gone(first)
    assert not loop.guests()


def test_a_panic_is_a_verdict(loop: Watching, edited_tree: EditedTree) -> None:
    edit(edited_tree, CHECK, f'{CHECK} panic("edited");\n\tif (cmd->__reserved)')
    _, first, *_ = loop.until(AFTER)
    assert first.startswith("  hwpt_alloc.reserved.nested: holds -> crashed: ")
    edited_tree.put_back(FILE)
    assert "2 differences: 2 hold" in loop.until(AFTER)[-1]


def test_what_is_built_in_is_built_too(loop: Watching, edited_tree: EditedTree) -> None:
    name = "drivers/iommu/iommufd/iova_bitmap.c"
    edit(edited_tree, "#include", "int edited_by_a_test;\n#include", name)
    # and not put back: that would take as long again
    assert "  no differences: 2 hold (kernel " in loop.until(AFTER)[-1]


def test_what_is_deleted_and_added(loop: Watching, edited_tree: EditedTree) -> None:
    """Kbuild alone would go on with the object of a file that is gone."""
    (edited_tree.path / FILE).rename(edited_tree.path / f"{FILE}.away.c")
    lines = loop.until(AFTER)
    assert any("No rule to make target" in line for line in lines)
    assert "does not build" in lines[-1]
    (edited_tree.path / f"{FILE}.away.c").rename(edited_tree.path / FILE)
    assert "  no differences: 2 hold " in loop.until(AFTER)[-1]


def test_ctrl_c_leaves_nothing(loop: Watching, edited_tree: EditedTree) -> None:
    edit(edited_tree, CHECK, REMOVED)
    guests = loop.until_guest()
    assert loop.interrupt() == 130
    assert gone(guests)
    assert loop.until("pytest-iommufd: interrupted")
    edited_tree.put_back(FILE)
