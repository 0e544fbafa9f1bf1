# SPDX-License-Identifier: GPL-2.0-only
"""`pytest-iommufd kernel diff`."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import pytest
from kernel_helpers import HWPT, add_sources, make_diff, make_series

from pytest_iommufd.commands.main import main
from pytest_iommufd.kernel import Kernel
from pytest_iommufd.kernel.diff import compare

_UAPI = Path(str(resources.files("pytest_iommufd.uapi")))


def made(folder: Path, config: str = "", version: str = "6.12") -> Kernel:
    (folder / "build").mkdir(parents=True)
    (folder / "build/.config").write_text(f"# CONFIG_NONE is not set\nCONFIG_SAME=y\n{config}")
    add_sources(folder / "tree")
    uapi = _UAPI / f"{version}.json"
    return Kernel(
        version, "k", "6", "src", folder, uapi=uapi, build=folder / "build", tree=folder / "tree"
    )


def lines(old: Kernel, new: Kernel, title: str, *, patch: bool = False) -> list[str]:
    found = [section for section in compare(old, new, patch=patch) if title in section.title]
    return [line for section in found for line in section.lines]


def test_same(tmp_path: Path) -> None:
    assert compare(made(tmp_path / "a"), made(tmp_path / "b")) == []


def test_config(tmp_path: Path) -> None:
    old = made(tmp_path / "a", 'CONFIG_A=y\nCONFIG_B="x"\n')
    new = made(tmp_path / "b", '# CONFIG_A is not set\nCONFIG_B="y"\nCONFIG_C=m\n')
    assert lines(old, new, ".config") == [
        "- CONFIG_A = y",
        '- CONFIG_B = "x"',
        '+ CONFIG_B = "y"',
        "+ CONFIG_C = m",
    ]


def test_uapi(tmp_path: Path) -> None:
    said = lines(made(tmp_path / "a"), made(tmp_path / "b", version="7.3"), "uAPI")
    assert "+ ioctl IOMMU_VIOMMU_ALLOC = 0x3b90 with struct iommu_viommu_alloc" in said
    assert "- constant MOCK_FLAGS_DEVICE_HUGE_IOVA = 0x2" in said
    at = said.index("- struct iommu_hwpt_selftest of 4 bytes")
    assert said[at + 1] == "+ struct iommu_hwpt_selftest of 8 bytes"
    assert said[at + 2].startswith("+ struct iommu_hwpt_selftest.")
    assert said[at + 2].endswith(" at 4, 4 bytes")
    assert not any("IOMMU_HWPT_ALLOC " in line for line in said), "what is the same"


def test_source(tmp_path: Path) -> None:
    old, new = made(tmp_path / "a"), made(tmp_path / "b")
    (tmp_path / "b/tree" / HWPT).write_text("new\n")
    (tmp_path / "b/tree" / HWPT).with_name("more.c").write_text("more\n")
    assert lines(old, new, "source") == [
        f"{HWPT} | +1 -40",
        "drivers/iommu/iommufd/more.c | +1 -0",
    ]
    text = lines(old, new, "source", patch=True)
    assert text[:2] == [f"--- a/{HWPT}", f"+++ b/{HWPT}"]
    assert text[-4:-2] == ["--- /dev/null", "+++ b/drivers/iommu/iommufd/more.c"]
    assert text[-1] == "+more"


def test_what_is_not_known(tmp_path: Path) -> None:
    sections = compare(made(tmp_path / "a"), Kernel("running", "running", "6", "src"))
    assert [(section.lines, section.differs) for section in sections] == [
        (("not known of running: it was not built here",), False)
    ] * 3


@pytest.mark.skipif(not shutil.which("patch"), reason="patch is not on this machine")
def test_command_line(
    fakes: Path,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del fakes, cache

    def describe(tree: Path, destination: Path, *, build: Path | None) -> None:
        del tree, build
        shutil.copy(_UAPI / "6.12.json", destination)

    monkeypatch.setattr("pytest_iommufd.uapi.describe.describe", describe)
    series = make_series(tmp_path / "v2", make_diff())
    assert main(["kernel", "diff", "6.12", f"6.12+{series}"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "kernel:",
        "  - source linux-source-6.12 6.12.1-1 (Debian)",
        "  + source linux-source-6.12 6.12.1-1 (Debian) + v2 (1 patch)",
        "patches:",
        "  + v2: change 1",
        "source (drivers/iommu/iommufd, include/uapi/linux/iommufd.h):",
        f"  {HWPT} | +1 -1",
    ]
    assert main(["kernel", "diff", "6.12", "6.12"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["kernel", "diff", "6.12", "nonsense"]) == 2
