# SPDX-License-Identifier: GPL-2.0-only
"""The host's side of the wire protocol, against bytes written by hand from agent.h."""

from __future__ import annotations

import re
import struct
from importlib import resources

import pytest

from pytest_iommufd.agent import protocol
from pytest_iommufd.agent.protocol import Frame, FrameType, Hello, Program, Ref, parallel

NUMBERS = {"ioctl": 16, "close": 3}
HELLO = (
    b"protocol=1\nrelease=6.12.1\nversion=#1 SMP a=b\nmachine=x86_64\npid=1\npage_size=4096\n"
    b"cpus=2\nkmsg=1\nnr.ioctl=16\nnr.close=3\nlayout.iommu_destroy=8\n"
)


def result(ret: int, errno: int = 0, extra: bytes = b"", ns: int = 7) -> bytes:
    head = struct.pack("<qIIQ", ret, errno, len(extra), ns)
    return head + extra + bytes(-len(extra) % 8)


def header() -> str:
    return resources.files("pytest_iommufd.agent").joinpath("agent.h").read_text("utf-8")


def test_a_frame_is_its_header_and_its_payload() -> None:
    frame = Frame(FrameType.RUN, 0x0102, 0x0A0B0C0D, b"xyz")
    assert bytes(frame) == b"\x03\0\0\0\x03\0\x02\x01\x0d\x0c\x0b\x0axyz"


def test_both_sides_number_the_frames_alike() -> None:
    body = re.search(r"enum frame_type \{(.*?)\};", header(), re.DOTALL)
    assert body
    number = 0
    theirs = {}
    for line in body[1].splitlines():
        if found := re.match(r"\s*FRAME_(\w+)(?: = (\w+))?,", line):
            if found[1] == "LAST_REQUEST":
                continue
            number = int(found[2]) if found[2] else number + 1
            theirs[found[1]] = number
    assert theirs == {kind.name: kind.value for kind in FrameType}


@pytest.mark.parametrize("name", ["MAX_FRAME", "MAX_WORKERS", "NO_STATUS"])
def test_both_sides_have_the_same_limits(name: str) -> None:
    text = re.search(rf"#define {name} \(?(\w+)(?: << (\d+))?\)?", header())
    assert text
    number = int(text[1].rstrip("u"), 0) << int(text[2] or 0)
    assert number == getattr(protocol, name)


def test_both_sides_speak_the_same_version() -> None:
    assert f"#define PROTOCOL_VERSION {protocol.VERSION}\n" in header()


def test_a_system_call_is_encoded() -> None:
    made = Program()
    file = made.syscall(2, 0x1122334455667788, must=True)
    made.syscall("ioctl", file + 3, -1, repeat=5, fail_nth=9)
    assert made.encode(NUMBERS) == (
        struct.pack("<II", 2, 0)
        + struct.pack("<BBHIII", 1, 1, 1, 2, 1, 0)
        + struct.pack("<IIQ", 0, 0, 0x1122334455667788)
        + struct.pack("<BBHIII", 1, 2, 0, 16, 5, 9)
        + struct.pack("<IIQ", 1, 0, 3)
        + struct.pack("<IIQ", 0, 0, (1 << 64) - 1)
    )


def test_memory_ops_are_encoded() -> None:
    made = Program()
    made.write(0x1000, b"abcdefghi")
    made.read(Ref(0, -8), 3)
    made.copy(1, 2, 40)
    assert made.encode({}) == (
        struct.pack("<II", 3, 0)
        + struct.pack("<BBHIII", 2, 1, 1, 9, 1, 0)
        + struct.pack("<IIQ", 0, 0, 0x1000)
        + b"abcdefghi".ljust(16, b"\0")
        + struct.pack("<BBHIII", 3, 1, 0, 3, 1, 0)
        + struct.pack("<IIQ", 1, 0, (1 << 64) - 8)
        + struct.pack("<BBHIII", 4, 2, 1, 40, 1, 0)
        + struct.pack("<IIQ", 0, 0, 1)
        + struct.pack("<IIQ", 0, 0, 2)
    )


def test_an_unknown_call_is_named_beside_those_there_are() -> None:
    made = Program()
    made.syscall("iocttl")
    with pytest.raises(ValueError, match=r"no system call 'iocttl'; it has close, ioctl"):
        made.encode(NUMBERS)


def test_results_are_decoded_and_the_rest_is_left() -> None:
    made = Program()
    made.syscall("close", 3)
    made.read(0, 3)
    answer = result(-1, 9) + result(0, 0, b"xyz") + b"rest"
    results, rest = made.decode(memoryview(answer))
    assert bytes(rest) == b"rest"
    assert (results[0].ret, results[0].errno, results[0].ns) == (-1, 9, 7)
    assert results[1].data == b"xyz"
    assert results[0].times == ()
    assert results[0].fail_nth_left is None


def test_a_repeated_call_has_its_times() -> None:
    made = Program()
    made.syscall("close", 3, repeat=3)
    (got,), _ = made.decode(memoryview(result(0, 0, struct.pack("<QQQ", 5, 6, 1 << 40))))
    assert got.times == (5, 6, 1 << 40)


def test_fault_injection_tells_what_is_left() -> None:
    made = Program()
    made.syscall("close", 3, fail_nth=4)
    (got,), _ = made.decode(memoryview(result(0, 0, struct.pack("<I", 2))))
    assert (got.fail_nth_left, got.times) == (2, ())


def test_a_repeated_call_with_fault_injection_has_both() -> None:
    made = Program()
    made.syscall("close", 3, fail_nth=4, repeat=2)
    extra = struct.pack("<IQIQ", 0, 11, 3, 12)
    (got,), _ = made.decode(memoryview(result(0, 0, extra)))
    assert (got.times, got.fail_nth_left) == ((11, 12), 3)


def test_parallel_programs_are_each_told_their_length() -> None:
    assert parallel([b"ab", b""]) == b"\x02\0\0\0\x02\0\0\0ab\0\0\0\0"


def test_a_greeting_is_read() -> None:
    hello = Hello.parse(HELLO + b"module.00-iommufd.ko=Exec format error\nmount./tmp=No\n")
    assert (hello.release, hello.version, hello.machine) == ("6.12.1", "#1 SMP a=b", "x86_64")
    assert (hello.page_size, hello.cpus, hello.kmsg) == (4096, 2, True)
    assert hello.numbers == NUMBERS
    assert hello.layout == {"iommu_destroy": 8}
    assert hello.complaints == (
        "module.00-iommufd.ko: Exec format error",
        "mount./tmp: No",
    )


def test_a_greeting_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="speaks protocol 2, not 1"):
        Hello.parse(HELLO.replace(b"protocol=1", b"protocol=2"))


def test_a_spawned_process_and_a_status_are_read() -> None:
    assert protocol.parse_spawned(struct.pack("<IIQ", 12, 0x100000, 0x7F00_0000_0000)) == (
        12,
        0x7F00_0000_0000,
        0x100000,
    )
    assert protocol.parse_status(struct.pack("<I", 9)) == 9
    assert protocol.parse_status(struct.pack("<I", protocol.NO_STATUS)) is None
