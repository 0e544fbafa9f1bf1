# SPDX-License-Identifier: GPL-2.0-only
"""Which kernels a run has, and what is said of one that cannot be tested."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import lab
from pytest_iommufd.host.tools import QEMU
from pytest_iommufd.kernel import Kernel
from pytest_iommufd.machine import BootFailed
from pytest_iommufd.uapi import Uapi, UapiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Context
    from pytest_iommufd.lab import Bench

    Run = Callable[..., pytest.RunResult]

SUITE = """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_it(iommufd, ioas, number):
    assert ioas.id

def test_fails(iommufd):
    assert iommufd.fd < 0

def test_without_a_kernel():
    pass
"""


def image(bench: Bench) -> Path:
    assert bench.kernel.image
    return bench.kernel.image


def ids(result: pytest.RunResult) -> set[str]:
    found = (re.search(r"test_it\.py::(\S+)", line) for line in result.stdout.lines)
    return {match[1] for match in found if match}


def test_a_kernel_that_is_named_twice_is_once_in_the_ids_and_the_header(
    run: Run, bench: Bench, kernel_option: list[str]
) -> None:
    name = bench.kernel.name
    result = run(SUITE, "-v", *kernel_option)
    result.assert_outcomes(passed=5, failed=1)
    assert ids(result) == {
        *(f"test_it[{name}-{number}]" for number in range(4)),
        f"test_fails[{name}]",
        "test_without_a_kernel",
    }
    how = f"release {bench.kernel.release}, acceleration {bench.machine.acceleration}"
    result.stdout.fnmatch_lines([f"iommufd: {name}: {how}, agent *, source *"])
    assert result.stdout.str().count("iommufd: ") == 1


# Has a kernel found elsewhere, too.
STANDS_FOR = """
import dataclasses, pathlib
import pytest_iommufd.lab
real = pytest_iommufd.lab.resolve
def resolve(spec, **options):
    if spec != {broken!r}:
        return real(spec, **options)
    kernel = real({spec!r}, **options)
    return dataclasses.replace(kernel, spec=spec, name="bzImage", image=pathlib.Path(spec))
pytest_iommufd.lab.resolve = resolve
"""


def test_several_kernels_are_each_booted_once(run: Run, bench: Bench, tmp_path: Path) -> None:
    """The second is the same one, built elsewhere as far as the plugin knows."""
    other = tmp_path / "other"
    other.symlink_to(image(bench).parent, target_is_directory=True)
    text = (
        SUITE
        + """
@pytest.fixture(autouse=True, scope="session")
def second(pytestconfig):
    from pytest_iommufd.lab import LAB
    yield
    for bench in pytestconfig.stash[LAB].benches:
        print("boots of", bench.kernel.spec, bench.machine.boots)
"""
    )
    conftest = STANDS_FOR.format(broken=str(image(bench)), spec=bench.kernel.spec)
    Path("conftest.py").write_text(conftest)
    result = run(text, "-v", "-s", f"--kernel={image(bench)}")
    result.assert_outcomes(passed=9, failed=2)
    assert len(ids(result)) == 11
    result.stdout.fnmatch_lines([f"*boots of {bench.kernel.spec} 1", "boots of */bzImage 1"])


def test_workers_give_the_same_verdicts(run: Run, bench: Bench) -> None:
    alone = run(SUITE, "-v")
    shared = run(SUITE, "-v", "-n", "2")
    assert alone.parseoutcomes() == shared.parseoutcomes()
    assert ids(alone) == ids(shared)
    shared.stdout.fnmatch_lines([f"iommufd: {bench.kernel.name}: release *"])


# ---- kernels that cannot be tested ----

MANY = """
import pytest

@pytest.mark.parametrize("number", range(30))
def test_it(iommufd, number):
    pass
"""


WORKERS = pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "two workers"])
LOSES_GUESTS = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_panics(process, number):
    process.write_file("/proc/sysrq-trigger", b"c")

@pytest.mark.parametrize("number", range(10))
def test_it(iommufd, number):
    pass

@pytest.fixture(autouse=True, scope="session")
def boots(pytestconfig):
    from pytest_iommufd.lab import LAB
    yield
    print("boots:", *(bench.machine.boots for bench in pytestconfig.stash[LAB].benches))
"""
# Fails for one kernel, and hangs once, at its nth start.
STAND_IN = """\
#!/bin/sh
case "$*" in
*"-kernel {fails}"*) exit 3;;
*-kernel*) echo >> {starts}; [ "$(wc -l < {starts})" != {nth} ] || exec sleep 600;;
esac
exec {qemu} "$@"
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a script on the PATH that runs QEMU, but for some starts."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(*, fails: object = "nothing", nth: int = 0) -> None:
        script = folder / QEMU
        qemu = shutil.which(QEMU)
        script.write_text(
            STAND_IN.format(fails=fails, nth=nth, starts=tmp_path / "starts", qemu=qemu)
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return make


def test_a_boot_that_hangs_once_is_tried_again(run: Run, stand_in: Callable[..., None]) -> None:
    stand_in(nth=3)
    result = run(LOSES_GUESTS, "-s", "--iommufd-accel=tcg", "--iommufd-boot-deadline=10")
    result.assert_outcomes(passed=10, failed=3)
    result.stdout.fnmatch_lines(
        ["*boots: 4*", "*: a boot failed and was tried again: the machine did not serve within *"]
    )


@WORKERS
def test_a_kernel_that_does_not_boot_is_told_once_and_others_go_on(
    run: Run,
    bench: Bench,
    tmp_path: Path,
    kernel_option: list[str],
    stand_in: Callable[..., None],
    workers: tuple[str, ...],
) -> None:
    other = tmp_path / "other"
    other.symlink_to(image(bench).parent, target_is_directory=True)
    broken = other / image(bench).name
    Path("conftest.py").write_text(STANDS_FOR.format(broken=str(broken), spec=bench.kernel.spec))
    stand_in(fails=broken)
    options = (f"--kernel={broken}", *kernel_option, "--iommufd-accel=tcg")
    marked = MANY.replace("@", "from pytest_iommufd import rule\n@rule('a.rule')\n@", 1)
    result = run(marked, *options, *workers, kernel=False)
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] == 30
    # each worker finds out for itself
    assert 1 <= outcomes["errors" if "errors" in outcomes else "error"] <= (2 if workers else 1)
    assert sum(outcomes.values()) == 60
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*exited with status 3*, twice",
            "*: kernel bzImage cannot be tested: *exited with status 3*, twice",
            "*bzImage: 1 not run",
            f"{bench.kernel.name}: 1 holds",
        ]
    )


@WORKERS
def test_a_boot_that_fails_is_told_once(run: Run, workers: tuple[str, ...]) -> None:
    result = run(MANY, *workers, "-rs", "--iommufd-boot-deadline=0.2")
    assert result.parseoutcomes().get("passed", 0) == 0
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    told = result.stdout.str().count("\nthe machine did not serve within 0.2 s, twice\n")
    assert 1 <= told <= (2 if workers else 1)
    result.stdout.fnmatch_lines(["SKIPPED*not run: kernel * cannot be tested: the machine did *"])


def test_a_bare_image_lacks_its_modules(run: Run, bench: Bench) -> None:
    result = run(MANY, f"--kernel={image(bench)}", kernel=False)
    result.assert_outcomes(errors=1, skipped=29)
    assert result.ret != 0
    result.stdout.fnmatch_lines(
        [
            f"kernel {bench.kernel.release} has no usable /dev/iommu: ENOENT, *",
            "expected: CONFIG_IOMMUFD, *",
            "to mend it: give its modules with --iommufd-modules FOLDER, or build it with *",
            "*kernel bzImage cannot be tested: *",
        ]
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x7fELF" + bytes(1000), "not an x86 kernel image: *"),
        (b"", "not an x86 kernel image: *"),
        (None, "no such image or tree: *"),
    ],
    ids=["an ELF file", "an empty file", "no file"],
)
def test_what_is_no_kernel_is_refused_before_anything_else(
    run: Run, tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    file = tmp_path / "image"
    if content is not None:
        file.write_bytes(content)
    result = run(MANY, f"--kernel={file}", kernel=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{sentence}"])
    assert "Traceback" not in result.stderr.str()


def test_a_file_that_only_looks_like_a_kernel_does_not_boot(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "image"
    header = bytearray(0x400)
    header[0x202:0x206] = b"HdrS"
    file.write_bytes(header)
    result = run(MANY, f"--kernel={file}", "--iommufd-boot-deadline=2", kernel=False)
    result.assert_outcomes(errors=1, skipped=29)
    result.stdout.fnmatch_lines(["the machine did not *", "*kernel image cannot be tested: *"])


@pytest.mark.skipif(Path("/dev/iommu").exists(), reason="this machine's kernel has iommufd")
def test_the_running_kernel_says_what_it_lacks(run: Run) -> None:
    result = run(MANY, "--kernel=running", kernel=False)
    result.assert_outcomes(errors=1, skipped=29)
    result.stdout.fnmatch_lines(
        [
            "*has no usable /dev/iommu: ENOENT, iommufd is not there",
            "to mend it: modprobe iommufd*--kernel 6.12*",
            "*kernel running cannot be tested: *",
        ]
    )


@pytest.mark.parametrize(
    ("tested", "error", "mend"),
    [
        (Kernel("running", "running", "1", ""), errno.EACCES, "run as root"),
        (Kernel("~/linux", "l", "1", "", Path("i"), build=Path("b")), errno.ENOENT, "its source"),
    ],
)
def test_advice_fits_the_kernel(tested: Kernel, error: int, mend: str) -> None:
    problem = lab._no_device(tested, "1", error)
    assert mend in problem.mend
    assert "modprobe" not in problem.mend


def test_the_shipped_abi_of_a_kernel_does_not_depend_on_iommufd_test() -> None:
    newest, *_, oldest = Uapi.shipped()
    of_newest = {ioctl.name for ioctl in newest.ioctls} - {ioctl.name for ioctl in oldest.ioctls}
    assert lab._best(Uapi.shipped(), {"IOMMU_TEST_CMD"}) is newest
    assert lab._best(Uapi.shipped(), {"IOMMU_TEST_CMD", *of_newest}) is oldest


def test_a_module_that_the_kernel_refuses_fails_the_boot(
    bench: Bench, tmp_path: Path, cache_root: Path
) -> None:
    module = tmp_path / "iommufd.ko"
    module.write_bytes(b"no module")
    kernel = Kernel(
        "6.12", "6.12", "", "a test", image=image(bench), modules=(module,), uapi=bench.kernel.uapi
    )
    broken = lab.Bench(kernel, lab.Settings(cache=cache_root))
    refused = r"refused the module iommufd: it was built for .* \(Exec format error\)"
    with pytest.raises(BootFailed, match=refused) as caught:
        broken.ready()
    assert "modules of the same build as the image" in str(caught.value)
    assert not broken.machine.running


def test_devices_of_this_machine_are_for_its_own_kernel(run: Run) -> None:
    result = run(SUITE, "--iommufd-vfio=0000:01:00.0")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --iommufd-vfio names devices of *: --kernel running, *"])


@pytest.mark.parametrize(
    "option",
    [
        "--iommufd-console=cat /dev/null",
        "--iommufd-power-cycle=true",
        "--iommufd-reboot-deadline=9",
    ],
)
def test_what_is_done_about_machines_elsewhere_is_for_those(run: Run, option: str) -> None:
    result = run(SUITE, option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --iommufd-reboot-deadline, * elsewhere: --kernel ssh:*"])


def test_this_machine_s_own_kernel_is_a_bench_without_an_image(cache_root: Path) -> None:
    own = lab.Bench(Kernel("running", "running", "1.2", "this machine"), lab.Settings(cache_root))
    try:
        assert own.machine.wait().machine
        assert "acceleration none" in own.describe()
    finally:
        own.machine.stop()


# ---- names that do not exist ----


def test_an_unknown_field_is_told_with_its_neighbour(iommufd: Context) -> None:
    with pytest.raises(UapiError, match="did you mean pt_id"):
        iommufd.ioctl("IOMMU_HWPT_ALLOC", ptid=1)


def test_an_unknown_ioctl_is_told_with_its_neighbour(iommufd: Context) -> None:
    with pytest.raises(UapiError, match="did you mean IOMMU_HWPT_ALLOC"):
        iommufd.ioctl("IOMMU_HWPT_ALOC")


def test_an_unknown_constant_is_told_with_its_neighbour(iommufd: Context) -> None:
    with pytest.raises(UapiError, match="did you mean IOMMU_HWPT_ALLOC_NEST_PARENT"):
        _ = iommufd.uapi.IOMMU_HWPT_ALLOC_NESTED_PARENT


def test_a_wrong_name_in_a_test_fails_that_test_only(run: Run) -> None:
    result = run(
        """
def test_wrong(iommufd):
    iommufd.ioctl("hwpt_alloc", dev=1)

def test_after(iommufd):
    pass
"""
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*did you mean dev_id*"])


def test_a_configuration_is_for_kernels_that_are_built(run: Run, tmp_path: Path) -> None:
    gone = tmp_path / "gone.config"
    result = run(SUITE, "--kernel=6.12", f"--iommufd-config={gone}", kernel=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*cannot read the configuration {gone}: No such file*"])
    gone.write_text("CONFIG_KASAN=y\n")
    result = run(SUITE, "--kernel=running", f"--iommufd-config={gone}", kernel=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*kernel running is not built here"])
