# SPDX-License-Identifier: GPL-2.0-only
"""What kernels are asked is what they have, with and without a header, iommufd and devices."""

from __future__ import annotations

import json
import subprocess
from errno import EINVAL, ENOTTY, EOPNOTSUPP
from importlib import resources
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from caps_kernels import CAPS, NEW, OLD

from pytest_iommufd.caps import plain
from pytest_iommufd.caps.ask import ask
from pytest_iommufd.caps.asker import Asker
from pytest_iommufd.caps.headers import Headers
from pytest_iommufd.caps.model import COMMANDS, Column, Key, State, rows
from pytest_iommufd.caps.questions import QUESTIONS, answer
from pytest_iommufd.caps.sizes import Sizes
from pytest_iommufd.commands import caps
from pytest_iommufd.commands.main import main
from pytest_iommufd.iommufd import Context
from pytest_iommufd.kernel import resolve
from pytest_iommufd.machine.verdict import BootFailed
from pytest_iommufd.uapi import Uapi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_iommufd.lab import Bench
    from pytest_iommufd.machine import Process

# min_size in the table iommufd_ioctl_ops of main.c, where it is not the struct's size.
LEAST = {
    "IOMMU_HWPT_ALLOC": 24,
    "IOMMU_GET_HW_INFO": 32,
    "IOMMU_VIOMMU_ALLOC": 24,
    "IOMMU_VEVENTQ_ALLOC": 28,
    "IOMMU_TEST_CMD": 68,
}
# The commands that 7.3 has and 6.12 does not.
ADDED = {
    "IOMMU_IOAS_MAP_FILE",
    "IOMMU_VIOMMU_ALLOC",
    "IOMMU_VDEVICE_ALLOC",
    "IOMMU_IOAS_CHANGE_PROCESS",
    "IOMMU_VEVENTQ_ALLOC",
    "IOMMU_HW_QUEUE_ALLOC",
    "IOMMU_IOAS_NOIOMMU_GET_PA",
}
WORDS = {
    "VFIO cdev": ("yes", "yes"),
    "nesting": ("yes", "yes"),
    "vIOMMU": ("no", "yes"),
    "PASID": ("no", "yes"),
    "dirty tracking": ("yes", "yes"),
    "fault queues": ("yes", "yes"),
    "MAP_FILE": ("no", "yes"),
    "CHANGE_PROCESS": ("no", "yes"),
    "VFIO type1": ("yes", "yes"),
    "iommufd_test": ("yes", "yes"),
}


def _rows(told: dict[str, Any], about: str, device: str = "") -> dict[str, dict[str, Any]]:
    found = [row for row in told["rows"] if (row["about"], row["device"]) == (about, device)]
    return {row["name"]: row for row in found}


def _states(told: dict[str, Any], about: str, device: str = "") -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(given["state"] for given in row["answers"].values())
        for name, row in _rows(told, about, device).items()
    }


@pytest.fixture
def process(bench: Bench) -> Iterator[Process]:
    """A process under the run's kernel."""
    made = bench.machine.process()
    yield made
    made.end()


# ---- 6.12 and 7.3 ----


def test_data_is_what_the_schema_says(two: dict[str, Any]) -> None:
    schema = resources.files("pytest_iommufd.reports") / "caps.schema.json"
    jsonschema.validate(two, json.loads(schema.read_text("utf-8")))
    assert [kernel["name"] for kernel in two["kernels"]] == [OLD, NEW]


@pytest.mark.parametrize("spec", [OLD, NEW])
def test_sizes_are_those_of_the_kernels_own_header(
    spec: str, two: dict[str, Any], cache_root: Path
) -> None:
    description = resolve(spec, cache=cache_root).uapi
    assert description
    uapi = Uapi.load(description)
    told = {name: row["answers"][spec]["value"] for name, row in _rows(two, COMMANDS).items()}
    for ioctl in uapi.ioctls:
        size = uapi.sizeof(ioctl.struct)
        least = LEAST.get(ioctl.name, size)
        suffices = f", {least} suffice" if least != size else ""
        assert told[ioctl.name] == f"{size} bytes{suffices}"


def test_commands_that_one_kernel_lacks_are_marked(two: dict[str, Any]) -> None:
    commands = _rows(two, COMMANDS)
    assert {name for name, row in commands.items() if row["differs"]} == ADDED
    for name in ADDED:
        lacking = commands[name]["answers"][OLD]
        assert lacking == {"state": "no", "value": "", "why": "ENOTTY", "declared": False}
        assert commands[name]["answers"][NEW]["declared"]


def test_words(two: dict[str, Any]) -> None:
    told = {
        question["name"]: tuple(given["state"] for given in question["answers"].values())
        for question in two["questions"]
    }
    assert told == WORDS


def test_flags_by_their_header_and_by_the_kernel(two: dict[str, Any]) -> None:
    assert _states(two, "IOMMU_IOAS_MAP.flags") == {
        f"IOMMU_IOAS_MAP_{name}": ("yes", "yes") for name in ("FIXED_IOVA", "WRITEABLE", "READABLE")
    }
    assert _states(two, "IOMMU_GET_HW_INFO.flags") == {
        "IOMMU_HW_INFO_FLAG_INPUT_TYPE": ("no", "yes")
    }
    # what a command that 6.12 lacks would take, it does not take
    assert set(_states(two, "IOMMU_IOAS_MAP_FILE.flags").values()) == {("no", "yes")}
    # iommufd_test takes MOCK_FLAGS_ACCESS_SYZ here, which iommufd.h does not declare
    row = _rows(two, "IOMMU_IOAS_COPY.flags")["0x10000"]
    assert [given["state"] for given in row["answers"].values()] == ["yes", "yes"]
    assert row["answers"][NEW]["declared"] is None


def test_fields_that_came_later(two: dict[str, Any]) -> None:
    told = _states(two, plain.FIELDS)
    assert told["IOMMU_HWPT_ALLOC.fault_id"] == ("yes", "yes")
    assert told["IOMMU_VIOMMU_ALLOC.data_uptr"] == ("no", "yes")


def test_operations_of_iommufd_test(two: dict[str, Any]) -> None:
    told = _states(two, plain.OPERATIONS)
    assert told["IOMMU_TEST_OP_MOCK_DOMAIN"] == ("yes", "yes")
    assert told["IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT"] == ("yes", "yes")
    assert told["IOMMU_TEST_OP_DMABUF_GET"] == ("no", "yes")


def test_what_a_mock_device_tells(two: dict[str, Any]) -> None:
    flags = _states(two, "IOMMU_HWPT_ALLOC.flags of an IOAS", "mock")
    assert flags == {
        "IOMMU_HWPT_ALLOC_NEST_PARENT": ("yes", "yes"),
        "IOMMU_HWPT_ALLOC_DIRTY_TRACKING": ("yes", "yes"),
        "IOMMU_HWPT_FAULT_ID_VALID": ("no", "yes"),
        "IOMMU_HWPT_ALLOC_PASID": ("no", "yes"),
    }
    types = _rows(two, "IOMMU_HWPT_ALLOC.data_type", "mock")
    assert _states(two, "IOMMU_HWPT_ALLOC.data_type", "mock") == {
        "IOMMU_HWPT_DATA_VTD_S1": ("no", "no"),
        "IOMMU_HWPT_DATA_ARM_SMMUV3": ("no", "no"),
        "IOMMU_HWPT_DATA_AMD_GUEST": ("no", "no"),
        "IOMMU_HWPT_DATA_SELFTEST": ("yes", "yes"),
    }
    # the kernels answer alike, and only one header declares it
    amd = types["IOMMU_HWPT_DATA_AMD_GUEST"]
    assert [given["declared"] for given in amd["answers"].values()] == [False, True]
    assert amd["differs"]
    assert _states(two, "IOMMU_VIOMMU_ALLOC.type", "mock")["IOMMU_VIOMMU_TYPE_SELFTEST"] == (
        "no",
        "yes",
    )
    assert _states(two, "IOMMU_HWPT_INVALIDATE.data_type of a nested HWPT", "mock") == {
        "IOMMU_HWPT_INVALIDATE_DATA_VTD_S1": ("no", "no"),
        "IOMMU_HWPT_INVALIDATE_DATA_SELFTEST": ("yes", "yes"),
    }


# ---- other kernels ----


def test_real_device(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["caps", NEW, "--iommu", "intel", "--format", "json"]) == 0
    told = json.loads(capfd.readouterr().out)
    info = _rows(told, "IOMMU_GET_HW_INFO", "intel")["out_data_type"]["answers"][NEW]
    assert info["value"] == "IOMMU_HW_INFO_TYPE_INTEL_VTD"
    flags = _states(told, "IOMMU_HWPT_ALLOC.flags of an IOAS", "intel")
    # QEMU's VT-d cannot nest, and its driver makes page tables for PASIDs
    assert flags["IOMMU_HWPT_ALLOC_NEST_PARENT"] == ("no",)
    assert flags["IOMMU_HWPT_ALLOC_PASID"] == ("yes",)
    assert _states(told, "VFIO_DEVICE_ATTACH_IOMMUFD_PT.flags", "intel") == {
        "VFIO_DEVICE_ATTACH_PASID": ("yes",)
    }
    types = _rows(told, "IOMMU_HWPT_ALLOC.data_type", "intel").values()
    assert {row["answers"][NEW]["why"] for row in types} == {
        "IOMMU_HWPT_ALLOC_NEST_PARENT gives EOPNOTSUPP"
    }


def test_kernel_without_a_header_answers_the_same(made: Callable[..., Bench]) -> None:
    with_header, without = made(OLD), made(OLD, uapi=None)
    known, bare = ask(with_header, ()), ask(without, ())
    assert {given.declared for given in bare.answers.values()} == {None}
    assert {key: (given.state, given.value) for key, given in bare.answers.items()} == {
        key: (given.state, given.value) for key, given in known.answers.items()
    }


def test_kernel_without_iommufd(made: Callable[..., Bench]) -> None:
    column = ask(made(OLD, modules=()), ())
    assert column.absent == "/dev/iommu cannot be opened: ENOENT"
    assert rows([column]) == []
    for question in QUESTIONS:
        given = answer(question, column)
        assert (given.state, given.why) == (State.NO, column.absent)


def test_command_that_no_header_names(made: Callable[..., Bench]) -> None:
    (old,) = (uapi for uapi in Uapi.shipped() if uapi.name == OLD)
    bench = made(NEW)
    asker = Asker(bench.machine.process(), Headers(old, ()))
    plain._commands(asker)
    number = hex(bench.uapi.IOMMU_IOAS_MAP_FILE & 0xFF)
    given = asker.answers[Key(COMMANDS, number)]
    assert (given.state, given.value, given.declared) == (State.YES, "40 bytes", None)


# ---- how it is asked ----


def test_asking_for_a_size_does_not_run_the_command(process: Process, bench: Bench) -> None:
    context = Context(process, bench.uapi)
    first = context.ioas_alloc().id
    size = bench.uapi.sizeof("iommu_ioas_alloc")
    asked = Sizes(process, context.fd).ask(bench.uapi.ioctl("IOMMU_IOAS_ALLOC").number)
    assert asked == (size, size)
    assert context.ioas_alloc().id == first + 1


def test_value_is_told_by_what_an_undefined_one_gives(process: Process, bench: Bench) -> None:
    asker = Asker(process, Headers(bench.uapi, ()))
    values = {"IOMMU_HWPT_DATA_VTD_S1": 1, "0x4": 4}
    asker.values("rejected", values, {1: EINVAL, 4: EOPNOTSUPP, 9: EOPNOTSUPP}, spare=9)
    asker.values("not looked at", values, {1: EINVAL, 4: EINVAL, 9: EINVAL}, spare=9)
    asker.values("no command", values, {1: ENOTTY, 4: ENOTTY, 9: ENOTTY}, spare=9)
    told = {(key.about, key.name): given for key, given in asker.answers.items()}
    assert set(told) == {
        (about, name) for about in ("rejected", "not looked at") for name in values
    }
    assert told["rejected", "IOMMU_HWPT_DATA_VTD_S1"].state is State.YES
    assert told["rejected", "IOMMU_HWPT_DATA_VTD_S1"].declared
    assert told["rejected", "0x4"].state is State.NO
    unknown = told["not looked at", "0x4"]
    assert unknown.state is State.UNKNOWN
    assert unknown.why == "0x9, which no header defines, gives EINVAL, too"


# ---- what cannot be asked ----


def test_nonsense_is_no_kernel(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["caps", OLD, "nonsense"]) == 2
    assert "not a kernel spec" in capfd.readouterr().err


def test_running_kernel_has_no_emulated_iommu(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["caps", "running", "--iommu", "intel"]) == 2
    assert "--iommu is for guests" in capfd.readouterr().err


def test_kernel_that_does_not_boot_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def lost(bench: Bench, _: object) -> Column:
        if bench.kernel.name == OLD:
            raise BootFailed("the machine did not serve within 60 s", console="its last words")
        return Column(NEW, NEW, "7.3.4", "somewhere", "tcg")

    monkeypatch.setattr(caps, "ask", lost)
    assert main(["caps", OLD, NEW, "--format", "json"]) == 1
    shown = capfd.readouterr()
    assert f"kernel {OLD}: the machine did not serve within 60 s\n" in shown.err
    assert "its last words" in shown.err
    assert [kernel["name"] for kernel in json.loads(shown.out)["kernels"]] == [NEW]


def test_kernels_of_one_name_are_told_apart_by_their_specs(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        caps, "ask", lambda bench, _: Column(bench.kernel.spec, "tree", "7.3.4", "a tree", "tcg")
    )
    assert main(["caps", OLD, NEW, OLD]) == 0
    shown = capfd.readouterr().out
    assert shown.startswith(f"{OLD}: release 7.3.4, a tree, tcg\n{NEW}: release ")
    assert shown.count("release") == 2


def test_no_kernel_is_a_usage_error() -> None:
    done = subprocess.run(CAPS, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "SPEC" in done.stderr
