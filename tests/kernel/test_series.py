# SPDX-License-Identifier: GPL-2.0-only
"""Patch series: what they are read from."""

from __future__ import annotations

import base64
import quopri
import shutil
import subprocess
from pathlib import Path

import pytest
from kernel_helpers import AMD, HWPT, add_sources, make_diff, make_series

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel.series import patchseries
from pytest_iommufd.kernel.spec import parse

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="git is not on this machine")
ONE, TWO = make_diff(at=10), make_diff(AMD, at=30)


def subjects(text: str) -> list[str]:
    return [patch.subject for series in parse(text).series for patch in series.patches]


def mail(subject: str, body: str, encoding: str = "8bit") -> str:
    encode = {"quoted-printable": quopri.encodestring, "base64": base64.encodebytes}
    coded = encode[encoding](body.encode()).decode() if encoding in encode else body
    return (
        "From mboxrd@z Thu Jan  1 00:00:00 1970\nFrom: A <a@example.org>\n"
        f"Subject: {subject}\nContent-Type: text/plain; charset=utf-8\n"
        f"Content-Transfer-Encoding: {encoding}\n\n{coded}\n"
    )


@pytest.fixture
def checkout(tree: Path) -> Path:
    """A tree of three commits; a branch `old` at the first."""
    add_sources(tree)

    def git(*argv: str) -> None:
        config = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", "-C", tree, *config, *argv], check=True, capture_output=True)

    git("init")
    git("config", "format.attach", "true")
    git("config", "format.coverLetter", "true")
    git("config", "diff.noprefix", "true")
    git("add", ".")
    git("commit", "-m", "zero")
    git("branch", "old")
    for name in (HWPT, AMD):
        path = tree / name
        path.write_text(path.read_text().replace("line 20\n", "Zeile 20 \u00fc\n"))
        git("commit", "-a", "-m", f"change {Path(name).name}\n\nFrom the start it was wrong.")
    return tree


def test_folder(tmp_path: Path) -> None:
    folder = make_series(tmp_path / "my series", ONE, TWO)
    (folder / "0000-cover-letter.patch").write_text(mail("[PATCH 0/2] cover", "Two changes."))
    (folder / "README").write_text("no patch")
    spec = parse(f"6.12+{folder}")
    assert spec.name == "6.12+my_series"
    assert spec.base == parse("6.12")
    [series] = spec.series
    assert [patch.name for patch in series.patches] == ["0001-x.patch", "0002-x.patch"]
    assert [patch.subject for patch in series.patches] == ["change 1", "change 2"]
    assert [set(patch.files) for patch in series.patches] == [{HWPT}, {AMD}]
    assert str(series) == "my_series (2 patches)"


def test_several_in_order(tmp_path: Path, tree: Path) -> None:
    one, two = make_series(tmp_path / "one+1", ONE), make_series(tmp_path / "two", TWO)
    spec = parse(f"{tree}+{two}+{one}")
    assert spec.name == "linux+two+one+1"
    assert [series.name for series in spec.series] == ["two", "one+1"]
    turned = parse(f"{tree}+{one}+{two}").series
    assert patchseries.identity(spec.series) != patchseries.identity(turned)


def test_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(patchseries, "_SHIPPED", tmp_path)
    make_series(tmp_path / "mine-v1", ONE)
    assert parse("6.12+mine-v1").name == "6.12+mine-v1"
    with pytest.raises(Problem, match="not a patch series: 'mine-v2'") as caught:
        parse("6.12+mine-v2")
    assert "shipped here: mine-v1" in caught.value.detail
    assert "folder of patches" in caught.value.expected


@pytest.mark.parametrize("name", patchseries.shipped())
def test_own_series(name: str) -> None:
    assert parse(f"6.12+{name}").name == f"6.12+{name}"


def test_quilt(tmp_path: Path) -> None:
    first = make_series(tmp_path / "first", ONE)
    second = make_series(tmp_path / "second", TWO)
    (second / "series").write_text("# order\n\n0001-x.patch -p1  # why\n../first/0001-x.patch\n")
    [series] = parse(f"6.12+{second}").series
    assert [patch.files for patch in series.patches] == [{AMD}, {HWPT}]
    (second / "series").write_text("../third/0001-x.patch\n")
    with pytest.raises(Problem, match=r"series, line 1: there is no patch \.\./third/0001"):
        parse(f"6.12+{second}")
    (second / "series").write_text("\n0001-x.patch -p0\n")
    with pytest.raises(Problem, match="series, line 2: -p0"):
        parse(f"6.12+{second}")
    assert parse(f"6.12+{first}").series


@pytest.mark.parametrize("encoding", ["8bit", "quoted-printable", "base64"])
def test_mbox(tmp_path: Path, encoding: str) -> None:
    one = ONE.replace("+new", "+na\u00efve = 1")
    file = tmp_path / "v2.mbx"
    mails = (
        mail("[PATCH v2 0/2] cover letter", "Two changes.\n\nFrom here on."),
        mail("[PATCH v2 1/2]\n =?utf-8?q?na=C3=AFve?=", f"Why.\nFrom me.\n---\n{one}", encoding),
        mail("Re: [PATCH v2 1/2] one", f"Better so:\n{TWO}"),
        mail("Re: [PATCH v2 1/2] one", "> +++ b/x\nNo."),
        mail("[PATCH v2 2/2] two", TWO, encoding),
    )
    file.write_text("".join(mails))
    [series] = parse(f"6.12+{file}").series
    assert series.name == "v2"
    assert subjects(f"6.12+{file}") == ["na\u00efve", "two"]
    assert [patch.name for patch in series.patches] == ["v2.mbx, mail 2", "v2.mbx, mail 5"]
    assert one.encode() in series.patches[0].data


def test_single_patch(tmp_path: Path) -> None:
    file = tmp_path / "a b.diff"
    file.write_text(ONE)
    assert subjects(f"6.12+{file}") == ["a b.diff"]
    assert parse(f"6.12+{file}").name == "6.12+a_b"


@needs_git
def test_commits_of_the_tree(checkout: Path) -> None:
    spec = parse(f"{checkout}+old..HEAD")
    assert spec.name == "linux+old..HEAD"
    assert subjects(spec.text) == ["change hwpt.c", "change amd.c"]
    assert "+Zeile 20 \u00fc\n".encode() in spec.series[0].patches[0].data
    assert spec.series[0].patches[0].files == {HWPT}


@needs_git
def test_commits_of_another_tree(checkout: Path) -> None:
    assert subjects(f"6.12+{checkout}@HEAD~1..HEAD") == ["change amd.c"]
    assert parse(f"6.12+{checkout}@HEAD~1..HEAD").name == "6.12+HEAD_1..HEAD"
    with pytest.raises(Problem, match="of what") as caught:
        parse("6.12+old..HEAD")
    assert "REPO@old..HEAD" in caught.value.mend


@needs_git
@pytest.mark.parametrize("commits", ["none..HEAD", "HEAD..old"])
def test_no_commits(checkout: Path, commits: str) -> None:
    with pytest.raises(Problem, match=rf"(git does not know|there are no) commits {commits} of"):
        parse(f"{checkout}+{commits}")


def test_commits_of_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="git"):
        parse(f"6.12+{tmp_path}@a..b")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty", None, "an empty folder"),
        ("notes", {"README": "x"}, "no patches in"),
        ("broken", {"0001.patch": "no diff at all"}, "holds no diff"),
        ("void", {"0001.patch": ""}, "holds no diff"),
        ("text.mbox", "Dear list,", "holds no patch"),
    ],
)
def test_nothing_to_apply(
    tmp_path: Path, name: str, content: str | dict[str, str] | None, message: str
) -> None:
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    else:
        path.mkdir()
        for file, text in (content or {}).items():
            (path / file).write_text(text)
    with pytest.raises(Problem, match=message):
        parse(f"6.12+{path}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("6.12+/no/such", "no such patch series: /no/such"),
        ("6.12+../no/such", "no such patch series"),
        ("6.12+none.mbx", "no such patch series"),
        ("6.12+", "not a patch series: ''"),
        ("6.12+none", "not a patch series: 'none'"),
        ("running+none", "cannot be applied to the running kernel"),
        ("{image}+none", "cannot be applied to an image"),
    ],
)
def test_refused(tmp_path: Path, text: str, message: str) -> None:
    image = tmp_path / "bzImage"
    image.write_bytes(b"\0" * 0x202 + b"HdrS")
    with pytest.raises(Problem, match=message) as caught:
        parse(text.format(image=image))
    assert caught.value.expected


def test_patch_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "0001.patch").symlink_to(tmp_path / "none")
    with pytest.raises(Problem, match="cannot read patch"):
        parse(f"6.12+{tmp_path}")
