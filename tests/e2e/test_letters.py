# SPDX-License-Identifier: GPL-2.0-only
"""`pytest-iommufd defects --write`: a mail of each defect that kernels show."""

from __future__ import annotations

import email
import email.policy
from typing import TYPE_CHECKING

import pytest
from guest_program import compiled, release_of

from pytest_iommufd.commands.main import main
from pytest_iommufd.rules.catalogue import shipped

if TYPE_CHECKING:
    from pathlib import Path

RULES = (
    "dirty_tracking.get.hole*",
    "hwpt_alloc.data.nested.unknown_type",
    "hwpt_type.*.alloc.pt.destroyed",
    "vfio_compat.map.no_flags_warns",
)
HOLE, TYPE = "dirty_tracking.get.hole", "hwpt_type.selftest.alloc.pt.destroyed"
WARNS = "vfio_compat.map.no_flags_warns"


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the command has filled, and what it printed."""
    folder = tmp_path_factory.mktemp("letters") / "new" / "mails"
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda *parts, sep=" ", **_: lines.append(sep.join(parts)))
        kernels = ("--kernel", "6.12", "--kernel", "7.3")
        assert main(["defects", *kernels, "--write", str(folder), *RULES]) == 0
    return folder, "\n".join(lines)


def test_each_defect_has_one_mail(printed: tuple[Path, str]) -> None:
    folder, out = printed
    assert {path.stem for path in folder.glob("*.txt")} == {HOLE, TYPE, WARNS}
    for slug, subject in (
        (HOLE, "iommufd: iommu_read_and_clear_dirty() ignores the result of iova_bitmap_"),
        (TYPE, "iommufd: iommufd_hwpt_alloc() gives EINVAL for any error of the look-up"),
        (WARNS, "iommufd: WARN_ON in map_range() of flags that iommufd_vfio_map_dma()"),
    ):
        assert f"{folder / slug}.txt: {subject}" in out
        mail = email.message_from_bytes(
            (folder / f"{slug}.txt").read_bytes(), policy=email.policy.default
        )
        assert not mail.defects
        assert mail["To"] == "iommu@lists.linux.dev"
        assert mail["Subject"].startswith(subject)


def test_what_a_mail_says(printed: tuple[Path, str]) -> None:
    mended = release_of("6.12") >= (6, 12, 118)
    if not mended:
        pytest.skip("this machine's 6.12 has the defect, too")
    says = next(one.rule(HOLE).says for one in shipped() if one.has(HOLE))
    text = (printed[0] / f"{HOLE}.txt").read_text()
    for said in (
        "This does not hold on Linux 7.3.",
        "expected EINVAL, got OK",
        "iommufd.h, iommu_hwpt_get_dirty_bitmap:\n  > ",
        "  > Walk the IOMMU pagetables for a given IOVA range to return a bitmap\n",
        "drivers/iommu/iommufd/io_pagetable.c",
        "  shown by: 7.3.",
        "  not shown by: 6.12.",
        "  seen before: 6.12.117, 7.3.4",
        "  mended in: 6.12.118",
        ") = OK, expected EINVAL\n",
        "The same defect breaks:\n  dirty_tracking.get.hole.first:\n",
        f"--iommufd-kernel 7.3 --iommufd-rule {HOLE}\n",
    ):
        assert said in text
    assert says in " ".join(text.split())
    assert "WARNING: " in (printed[0] / f"{WARNS}.txt").read_text()


def test_program_of_a_mail_is_whole_and_beside_it(printed: tuple[Path, str]) -> None:
    folder, _ = printed
    for mail in folder.glob("*.txt"):
        source = min(folder.glob(f"{mail.stem}-*.c"))
        program = "// SPDX" + mail.read_text().partition("\n// SPDX")[2]
        assert program.rstrip() == source.read_text().rstrip()
        assert "Known defect: " in program
        compiled(source).unlink()


def test_what_has_no_mail_is_listed(printed: tuple[Path, str]) -> None:
    rest = printed[1].partition("no mail:\n")[2]
    assert "hwpt_alloc.data.nested.unknown_type: holds on 6.12\n" in rest
    assert "hwpt_type.vtd_s1.alloc.pt.destroyed: absent on 7.3: " in rest
    for slug in (HOLE, TYPE, WARNS, "dirty_tracking.get.hole.first"):
        assert f" {slug}:" not in rest


def test_nothing_is_overwritten(
    printed: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = printed
    before = {path: path.read_text() for path in folder.iterdir()}
    assert main(["defects", "--write", str(folder), *RULES]) == 2
    assert "there is something in it, and nothing is overwritten" in capsys.readouterr().err
    assert {path: path.read_text() for path in folder.iterdir()} == before
    file = next(iter(before))
    assert main(["defects", "--write", str(file)]) == 2
    assert "expected: a new folder" in capsys.readouterr().err


def test_kernels_are_for_mails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["defects", "--kernel", "7.3"]) == 2
    assert "--kernel is for --write" in capsys.readouterr().err
