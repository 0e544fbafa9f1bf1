# SPDX-License-Identifier: GPL-2.0-only
"""Coverage is written to a folder of its own, and removes nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.plugin import coverage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("option", ["--collect-only", "-q"])
def test_a_folder_that_is_not_ours_stays(pytester: pytest.Pytester, option: str) -> None:
    thesis = pytester.mkdir("home") / "thesis"
    thesis.write_text("years of work")
    result = pytester.runpytest_subprocess("--iommufd-coverage=home", option)
    assert thesis.read_text() == "years of work"
    assert list(thesis.parent.iterdir()) == [thesis]
    if option == "-q":
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*home: it has files that are not of an earlier run"])


def test_a_folder_of_an_earlier_run_is_cleared(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.touch()
    folder = tmp_path / "new" / "folder"
    coverage._clear(folder)
    (folder / "6.12" / "run").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path)
    coverage._clear(folder)
    assert [path.name for path in folder.iterdir()] == [coverage._MARK]
    assert kept.exists()


def test_a_file_in_its_place_stays(pytester: pytest.Pytester) -> None:
    file = pytester.path / "file"
    file.write_text("x")
    result = pytester.runpytest_subprocess("--iommufd-coverage=file")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*file cannot be written to: File exists"])
    assert file.read_text() == "x"
