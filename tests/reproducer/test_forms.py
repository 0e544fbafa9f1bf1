# SPDX-License-Identifier: GPL-2.0-only
"""What a small trace looks like in each form."""

from __future__ import annotations

import re
import subprocess
from errno import EEXIST, ENOMEM
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from small_trace import (
    ARENA,
    BUFFER,
    FILE,
    HEADER,
    UAPI,
    FakeProcess,
    Recorder,
    failed,
    ok,
    small,
)

from pytest_iommufd.agent.protocol import Program, Result
from pytest_iommufd.given import Given
from pytest_iommufd.iommufd.expecting import expecting
from pytest_iommufd.reproducer import c, script, syz
from pytest_iommufd.reproducer.trace import CALL
from pytest_iommufd.reproducer.translate import Failure, translate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_iommufd.reproducer.trace import Trace

MAIN = """\
int main(void)
{
	begin();

	int fd;
	step("openat()", (fd = open("/dev/iommu", O_RDWR | O_CLOEXEC)), 0);

	char *buffer = mmap(NULL, 0x2000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	step("mmap()", buffer == MAP_FAILED ? -1 : 0, 0);

	struct iommu_ioas_alloc ioas_alloc = {
		.size = sizeof(ioas_alloc),
	};
	step("IOMMU_IOAS_ALLOC", ioctl(fd, IOMMU_IOAS_ALLOC, &ioas_alloc), 0);

	struct iommu_test_cmd mock_domain = {
		.size = sizeof(mock_domain),
		.op = IOMMU_TEST_OP_MOCK_DOMAIN,
		.id = ioas_alloc.out_ioas_id,
	};
	step("IOMMU_TEST_OP_MOCK_DOMAIN", ioctl(fd, IOMMU_TEST_CMD, &mock_domain), 0);

	struct iommu_ioas_map ioas_map = {
		.size = sizeof(ioas_map),
		.flags = IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE,
		.ioas_id = ioas_alloc.out_ioas_id,
		.user_va = (uintptr_t)buffer + 0x1000,
		.length = 0xffffffffffffffffULL,
	};
	judged("IOMMU_IOAS_MAP", ioctl(fd, IOMMU_IOAS_MAP, &ioas_map), EOVERFLOW, EOVERFLOW);

	return verdict("suite.rule", " wants EOVERFLOW", found->violated || differs());
}
"""

KSELFTEST = """\
TEST_F(iommufd, suite_rule)
{
	char *buffer = mmap(NULL, 0x2000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_EQ(0, buffer == MAP_FAILED ? -1 : 0);

	struct iommu_ioas_alloc ioas_alloc = {
		.size = sizeof(ioas_alloc),
	};
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_IOAS_ALLOC, &ioas_alloc));

	struct iommu_test_cmd mock_domain = {
		.size = sizeof(mock_domain),
		.op = IOMMU_TEST_OP_MOCK_DOMAIN,
		.id = ioas_alloc.out_ioas_id,
	};
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_TEST_CMD, &mock_domain));

	struct iommu_ioas_map ioas_map = {
		.size = sizeof(ioas_map),
		.flags = IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE,
		.ioas_id = ioas_alloc.out_ioas_id,
		.user_va = (uintptr_t)buffer + 0x1000,
		.length = 0xffffffffffffffffULL,
	};
	EXPECT_ERRNO(EOVERFLOW, ioctl(self->fd, IOMMU_IOAS_MAP, &ioas_map));
}
"""

SYZ = """\
# suite.rule: A rule.
# Source: file.c:function
# Kernel: 7.3, release 7.3.4, a tree
# Test: passed
# Again: pytest --rule suite.rule
# Made by pytest-iommufd, which replaces this file when it makes it again
# Ids that syzkaller has no description for are numbers, as they were in the test.

r0 = openat$iommufd(0xffffffffffffff9c, &(0x7f0000000000)='/dev/iommu\\x00', 0x80002, 0x0)
mmap(&(0x7f0000400000/0x2000)=nil, 0x2000, 0x3, 0x31, 0xffffffffffffffff, 0x0)
ioctl$IOMMU_IOAS_ALLOC(r0, 0x3b81, &(0x7f0000000040)={0xc, 0x0, <r1=>0x0})
ioctl$IOMMU_TEST_OP_MOCK_DOMAIN(r0, 0x3ba0, &(0x7f0000000080)={0x48, 0x2, r1, 0x0, \
<r2=>0x0, <r3=>0x0, <r4=>0x0})
# wants EOVERFLOW, gave EOVERFLOW:
ioctl(r0, 0x3b85, &(0x7f0000000100)=ANY=[@ANYBLOB="2800000006000000", @ANYRES32=r1, \
@ANYBLOB="00000000", @ANYPTR64=&(0x7f0000401000)=ANY=[], @ANYBLOB="ffffffffffffffff\
0000000000000000"])
"""


def program(trace: Trace, failure: Failure | None = None) -> str:
    return c.program(translate(trace, UAPI, failure), HEADER, UAPI)


def main_of(text: str) -> str:
    return text[text.index("int main(void)") :]


@pytest.fixture
def compiles(tmp_path: Path) -> Callable[[str], None]:
    def check(text: str) -> None:
        source = tmp_path / "reproducer.c"
        source.write_text(text)
        command = ["gcc", "-Wall", "-Wextra", "-Werror", "-S", "-o", "/dev/null", source]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return check


def test_c() -> None:
    text = program(small())
    assert main_of(text).startswith(MAIN)
    head = text[: text.index("*/")]
    for said in ("suite.rule: A rule.", "file.c:function", "7.3.4", "gcc -static -o reproducer"):
        assert said in head


def test_c_has_what_it_uses_of_the_kernels_headers_and_no_more(
    compiles: Callable[[str], None],
) -> None:
    text = program(small())
    compiles(text)
    assert "#define IOMMU_IOAS_MAP _IO(';', 0x85)" in text
    assert "struct iommu_ioas_map {" in text
    assert "linux/iommufd.h" not in text
    assert "iommu_hwpt_alloc" not in text


def test_kselftest() -> None:
    text = c.kselftest(translate(small(), UAPI, None), HEADER, UAPI)
    assert text[text.index("TEST_F") :] == KSELFTEST


def test_syz() -> None:
    assert syz.program(translate(small(), UAPI, None), HEADER, UAPI) == SYZ


# ---- what a number is ----


def test_ids_are_of_the_call_that_gave_them_and_a_wrong_one_stays() -> None:
    recorder = Recorder()
    recorder.setup()
    recorder.ioctl(
        "IOMMU_HWPT_ALLOC",
        ok(),
        {"out_hwpt_id": 5},
        dev_id=recorder.device_id,
        pt_id=9999,
        flags=1 << 31,
    )
    text = main_of(program(recorder.trace))
    assert ".dev_id = mock_domain.mock_domain.out_idev_id," in text
    assert ".pt_id = 9999," in text
    assert ".flags = 2147483648U," in text


def test_iova_that_the_kernel_chose_is_what_it_chooses_again() -> None:
    recorder = Recorder()
    recorder.setup()
    mapped = recorder.ioctl(
        "IOMMU_IOAS_MAP",
        ok(),
        {"iova": 0x5000},
        ioas_id=recorder.ioas_id,
        flags=6,
        user_va=BUFFER,
        length=0x2000,
    )
    recorder.ioctl(
        "IOMMU_IOAS_UNMAP",
        ok(),
        {},
        ioas_id=recorder.ioas_id,
        iova=mapped.iova + 0x1000,
        length=0x1000,
    )
    assert ".iova = ioas_map.iova + 0x1000," in main_of(program(recorder.trace))


def test_bytes_that_no_struct_explains_are_bytes() -> None:
    recorder = Recorder()
    recorder.open()
    command = UAPI.ioctl("IOMMU_TEST_CMD")
    content = bytearray(UAPI.sizeof("iommu_test_cmd"))
    content[4] = UAPI.IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT
    content[-12] = 0x77  # of no field of that operation
    step = Program()
    step.write(ARENA, bytes(content))
    step.syscall("ioctl", FILE, command.number, ARENA)
    recorder.run(step, ok(), failed(EEXIST))
    text = main_of(program(recorder.trace))
    assert "0x77" in text
    assert "struct iommu_test_cmd" not in text


def test_value_of_a_judged_call_is_compared(compiles: Callable[[str], None]) -> None:
    recorder = Recorder()
    recorder.open()
    recorder.trace.phase = CALL
    ask = Program()
    command = UAPI.ioctl("VFIO_CHECK_EXTENSION")
    made_of = SimpleNamespace(ioctl=command.name)
    ask.syscall("ioctl", FILE, command.number, 3, made_of=made_of)
    recorder.run(ask, ok(1))
    text = program(recorder.trace)
    compiles(text)
    assert 'judged_value("VFIO_CHECK_EXTENSION", ioctl(fd, VFIO_CHECK_EXTENSION,' in main_of(text)


def test_field_that_the_kernel_wrote_is_compared_unless_it_chose_it(
    compiles: Callable[[str], None],
) -> None:
    recorder = Recorder()
    recorder.setup()
    out = {"length": 4096, "iova": 0x5000}
    recorder.ioctl("IOMMU_IOAS_MAP", ok(), out, ioas_id=recorder.ioas_id, length=1)
    text = program(recorder.trace)
    compiles(text)
    assert re.findall(r"^\tvalue\(.*", text, re.MULTILINE) == ["\tvalue(ioas_map.length, 0x1000);"]


def test_memory_that_the_test_looked_at_is_compared(compiles: Callable[[str], None]) -> None:
    recorder = Recorder()
    recorder.setup()
    look = Program()
    look.write(BUFFER, b"abc" * 100)
    look.read(BUFFER, 300)
    recorder.run(look, ok(), ok(data=b"abc" * 100))
    recorder.refused_map()
    text = program(recorder.trace)
    compiles(text)
    assert 'repeat(buffer, 300, "abc", 3);' in text
    assert 'bytes(buffer, 300, "abc", 3);' in text


def test_counts_of_a_process_are_compared_and_nothing_else_of_its_file(
    compiles: Callable[[str], None],
) -> None:
    recorder = Recorder()
    recorder.setup()
    file, status = Given(9), b"Name:\tx\nVmLck:\t   0 kB\nVmPin:\t  16 kB\nThreads:\t1\n"
    recorder.opens("/proc/self/status", file)
    look = Program()
    look.syscall("read", file, ARENA, 4096)
    look.read(ARENA, len(status))
    recorder.run(look, ok(len(status)), ok(data=status))
    recorder.refused_map()
    text = program(recorder.trace)
    compiles(text)
    assert re.findall(r"^\ttext_line\(arena, (.*)\);", text, re.MULTILINE) == [
        r'"VmLck:\011   0 kB\012"',
        r'"VmPin:\011  16 kB\012"',
    ]
    said = " ".join(text.replace("\n *", " ").split())
    assert "is not compared, but for VmLck and VmPin." in said
    assert "bytes(" not in main_of(text)


# ---- how a test failed ----


def test_call_that_nobody_expected_to_fail_is_what_must_succeed() -> None:
    recorder = Recorder()
    recorder.setup()
    recorder.ioctl(
        "IOMMU_IOAS_UNMAP", failed(ENOMEM), {}, ioas_id=recorder.ioas_id, iova=0, length=1
    )
    text = program(recorder.trace, Failure(script.BY_CALLS, "ENOMEM", "ENOMEM"))
    assert "IOMMU_IOAS_UNMAP, &ioas_unmap), 0, ENOMEM);" in text


def test_call_that_did_not_return_is_the_last_and_is_said_to_be(
    compiles: Callable[[str], None],
) -> None:
    recorder = Recorder()
    recorder.setup()
    recorder.ioctl("IOMMU_IOAS_UNMAP", None, {}, ioas_id=recorder.ioas_id, iova=0, length=1)
    text = program(recorder.trace, Failure(script.BY_RETURN, "the kernel panicked"))
    compiles(text)
    _, _, last = main_of(text).partition("/* The kernel did not return from this call")
    assert 'announce("IOMMU_IOAS_UNMAP", 10);' in last
    assert "# did not return:\nioctl$IOMMU_IOAS_UNMAP" in syz.program(
        translate(recorder.trace, UAPI, Failure(script.BY_RETURN, "x")), HEADER, UAPI
    )


@pytest.mark.parametrize("verdict", [script.BY_LOG, script.BY_SAMENESS, script.BY_DEVICES])
def test_each_verdict_compiles(verdict: str, compiles: Callable[[str], None]) -> None:
    text = program(small(), Failure(verdict, "assert 1 == 2"))
    compiles(text)
    said = "assert 1 == 2" in " ".join(text.split("*/")[0].split(" *"))
    assert said == (verdict == script.BY_SAMENESS)


def test_of_a_block_that_must_fail_the_call_that_did_is_judged() -> None:
    recorder = Recorder()
    recorder.setup()
    undo = Program()
    undo.syscall("mprotect", BUFFER, 0x1000, 3)
    with expecting("EEXIST"):
        recorder.ioctl(
            "IOMMU_IOAS_UNMAP", failed(EEXIST), {}, ioas_id=recorder.ioas_id, iova=0, length=1
        )
        recorder.run(undo, ok())
    text = main_of(program(recorder.trace))
    assert 'judged("IOMMU_IOAS_UNMAP"' in text
    assert 'step("mprotect()"' in text


def test_program_of_a_defect_ends_where_the_kernel_behaves(
    compiles: Callable[[str], None],
) -> None:
    recorder = Recorder()
    recorder.setup()
    fields = {"flags": 6, "ioas_id": recorder.ioas_id, "user_va": BUFFER, "length": 0}
    for _ in range(2):
        with expecting("EINVAL"):
            recorder.ioctl("IOMMU_IOAS_MAP", ok(), {"iova": 0x5000}, **fields)
    recorder.ioctl("IOMMU_IOAS_MAP", ok(), {"iova": 0x6000}, **fields)
    text = program(recorder.trace)
    compiles(text)
    main = main_of(text)
    assert main.count(", EINVAL, 0);") == 2
    first, _, second = main.partition("ends_if_it_holds();")
    assert first.count("judged(") == 2
    assert second.count("step(") == 1
    assert "found->violated != 0" in second
    assert "ends_if_it_holds" not in program(recorder.trace, Failure(script.BY_LOG, "WARNING"))


def test_call_that_was_judged_after_it_was_made() -> None:
    recorder = Recorder()
    recorder.setup()
    unmap, results = Program(), [ok(), ok()]
    for _ in results:
        unmap.syscall("ioctl", FILE, UAPI.ioctl("IOMMU_IOAS_UNMAP").number, 0)
    recorder.run(unmap, *results)
    recorder.trace.judge(results[1:], "ENOENT")
    main = main_of(program(recorder.trace))
    assert main.index('step("IOMMU_IOAS_UNMAP"') < main.index('judged("IOMMU_IOAS_UNMAP"')
    assert "ioctl(fd, IOMMU_IOAS_UNMAP, NULL), ENOENT, 0);" in main


# ---- threads, failures, processes ----


def test_failure_is_injected(compiles: Callable[[str], None]) -> None:
    recorder = Recorder()
    recorder.open()
    recorder.trace.phase = CALL
    alloc = Program()
    number = UAPI.ioctl("IOMMU_IOAS_ALLOC").number
    alloc.write(ARENA, bytes(UAPI.struct("iommu_ioas_alloc", size=12)))
    alloc.syscall("ioctl", FILE, number, ARENA, fail_nth=2)
    recorder.run(alloc, ok(), Result(-1, ENOMEM, 0, fail_nth_left=0))
    text = program(recorder.trace)
    compiles(text)
    assert "with_fail_nth(2, 1, ioctl(fd, IOMMU_IOAS_ALLOC, &ioas_alloc)), ENOMEM" in text
    made = translate(recorder.trace, UAPI, None)
    assert " (fail_nth: 2)" in syz.program(made, HEADER, UAPI)
    with pytest.raises(script.Unfit, match="injects failures"):
        c.kselftest(made, HEADER, UAPI)


def test_threads_start_together(compiles: Callable[[str], None]) -> None:
    recorder = Recorder()
    recorder.setup()
    threads = [Program(), Program()]
    for thread in threads:
        thread.syscall("ioctl", FILE, UAPI.ioctl("IOMMU_IOAS_ALLOC").number, 0)
    recorder.trace.runs(recorder.process, threads).extend([[failed(14)], [failed(14)]])
    text = program(recorder.trace)
    compiles(text)
    assert "run_threads(2, (thread_function[]){ thread_1, thread_2 });" in text
    assert text.count("ioctl(fd, IOMMU_IOAS_ALLOC, NULL)") == 2
    assert "(async)" in syz.program(translate(recorder.trace, UAPI, None), HEADER, UAPI)


def test_processes_take_turns(compiles: Callable[[str], None]) -> None:
    recorder = Recorder()
    recorder.setup()
    child = FakeProcess()
    recorder.trace.forks(recorder.process, child)  # type: ignore[arg-type]
    unmap = Program()
    unmap.syscall("munmap", BUFFER, 0x1000)
    recorder.run(unmap, ok(), process=child)  # type: ignore[arg-type]
    recorder.trace.ends(child)  # type: ignore[arg-type]
    recorder.refused_map()
    text = program(recorder.trace)
    compiles(text)
    turns = 'if (forked(1)) {\n\t\tturn(1);\n\t\tstep("munmap()", munmap(buffer, 0x1000), 0);'
    assert turns in text
    main = main_of(text)
    assert main.index("\tlet(1);") < main.index("\tend(1);") < main.index("judged(")
    made = translate(recorder.trace, UAPI, None)
    for form in (c.kselftest, syz.program):
        with pytest.raises(script.Unfit, match="several processes"):
            form(made, HEADER, UAPI)
    assert made.lost == []


def test_what_cannot_be_told_is_said(compiles: Callable[[str], None]) -> None:
    recorder = Recorder()
    recorder.setup()
    child, grandchild = FakeProcess(), FakeProcess()
    recorder.trace.forks(recorder.process, child)  # type: ignore[arg-type]
    recorder.trace.forks(child, grandchild)  # type: ignore[arg-type]
    unmap = Program()
    unmap.syscall("munmap", BUFFER, 0x1000)
    recorder.run(unmap, ok(), process=grandchild)  # type: ignore[arg-type]
    text = program(recorder.trace)
    compiles(text)
    assert "NOT CARRIED OVER: A forked process forks again" in text
    assert "munmap" not in main_of(text)
