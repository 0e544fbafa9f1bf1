# SPDX-License-Identifier: GPL-2.0-only
"""What the agent refuses, with the sanitizers watching: each refusal is its sentence."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import pytest
from agent_wire import (
    COPY,
    MAX_OPS,
    MAX_REPEAT,
    MUST,
    READ,
    STOP,
    SYSCALL,
    WRITE,
    Wire,
    op,
    program,
    verdict_on_parallel,
    verdict_on_program,
)

from pytest_iommufd.agent.protocol import HEADER, MAX_FRAME, MAX_WORKERS, NO_STATUS, FrameType
from pytest_iommufd.machine.stream import StreamEndedError

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = program(STOP, op(WRITE, 1, aux=9, blob=b"123456789"), op(COPY, 1, (1, 0, 2), aux=3))

BAD_PROGRAMS = {
    "no length": (b"\1\0\0\0\0\0\0", "a program without a length"),
    "empty": (b"", "a program without a length"),
    "too many ops": (program(count=MAX_OPS + 1), "a program of too many ops"),
    "op missing": (program(STOP, count=2), "a program that ends inside an op"),
    "op cut": (program(STOP, count=2) + bytes([READ, 1]), "a program that ends inside an op"),
    "kind 0": (program(STOP, op(0)), "an op of no known kind"),
    "kind 5": (program(STOP, op(5)), "an op of no known kind"),
    "seven arguments": (
        program(STOP, op(SYSCALL, *range(7), aux=39)),
        "an op with the wrong number of arguments",
    ),
    "a write of none": (program(STOP, op(WRITE)), "an op with the wrong number of arguments"),
    "a read of two": (program(STOP, op(READ, 1, 2)), "an op with the wrong number of arguments"),
    "a copy of one": (program(STOP, op(COPY, 1)), "an op with the wrong number of arguments"),
    "too many bytes": (program(STOP, op(READ, 1, aux=MAX_FRAME + 1)), "an op over too many bytes"),
    "most bytes there are": (
        program(STOP, op(WRITE, 1, aux=0xFFFFFFFF)),
        "an op over too many bytes",
    ),
    "repeated 0 times": (
        program(STOP, op(SYSCALL, aux=39, repeat=0)),
        "an op repeated zero or too many times",
    ),
    "repeated too often": (
        program(STOP, op(SYSCALL, aux=39, repeat=MAX_REPEAT + 1)),
        "an op repeated zero or too many times",
    ),
    "unknown flag": (program(STOP, op(READ, 1, flags=2)), "an op with an unknown flag"),
    "argument missing": (
        program(STOP, op(READ, argc=1)),
        "a program that ends inside an argument",
    ),
    "argument cut": (
        program(STOP, op(COPY, 1, argc=2)) + bytes(15),
        "a program that ends inside an argument",
    ),
    "refers to itself": (
        program(STOP, op(READ, (1, 1, 0))),
        "an argument that refers to a later op",
    ),
    "refers to no op": (
        program(STOP, op(READ, (1, 0xFFFFFFFF, 0))),
        "an argument that refers to a later op",
    ),
    "argument of no kind": (program(STOP, op(READ, (2, 0, 0))), "an argument of no known kind"),
    "bytes missing": (
        program(STOP, op(WRITE, 1, aux=8)),
        "a program that ends inside the bytes to write",
    ),
    "bytes not padded": (
        program(STOP, op(WRITE, 1, aux=9)) + bytes(9),
        "a program that ends inside the bytes to write",
    ),
    "bytes after it": (program(STOP) + b"\0", "a program with bytes after its last op"),
    "no ops and bytes": (program() + bytes(8), "a program with bytes after its last op"),
}


@pytest.fixture
def worker(wire: Wire) -> int:
    """A worker's number."""
    wire.spawn(1)
    return 1


@pytest.mark.parametrize(("text", "sentence"), BAD_PROGRAMS.values(), ids=BAD_PROGRAMS)
def test_the_model_knows_each_bad_program(text: bytes, sentence: str) -> None:
    assert verdict_on_program(text) == sentence


def test_each_bad_program_is_refused_with_its_sentence(wire: Wire, worker: int) -> None:
    got = {
        name: wire.refused(FrameType.RUN, worker, text) for name, (text, _) in BAD_PROGRAMS.items()
    }
    assert got == {name: sentence for name, (_, sentence) in BAD_PROGRAMS.items()}
    # and none of them has hurt the worker
    assert wire.ask(FrameType.RUN, worker, WHOLE).type is FrameType.RESULT


def test_a_program_cut_anywhere_is_refused(wire: Wire, worker: int) -> None:
    for end in range(len(WHOLE)):
        cut = WHOLE[:end]
        assert wire.refused(FrameType.RUN, worker, cut) == verdict_on_program(cut)


def test_a_program_whose_answer_is_too_large_is_refused(wire: Wire) -> None:
    _, arena = wire.spawn(1)
    reads = [op(READ, arena, aux=1 << 20)] * 17
    assert wire.refused(FrameType.RUN, 1, program(*reads)) == "a program whose answer is too large"


def test_a_program_without_ops_has_an_empty_answer(wire: Wire, worker: int) -> None:
    answer = wire.ask(FrameType.RUN, worker, program())
    assert (answer.type, answer.payload) == (FrameType.RESULT, b"")


def one(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text


def count(number: int) -> bytes:
    return struct.pack("<I", number)


BAD_PARALLEL = {
    "empty": (b"", "a parallel run of no or too many programs"),
    "none": (count(0), "a parallel run of no or too many programs"),
    "65": (count(65) + one(WHOLE) * 65, "a parallel run of no or too many programs"),
    "no length": (count(1), "a parallel run that ends inside a length"),
    "length cut": (count(2) + one(WHOLE) + b"\1\0\0", "a parallel run that ends inside a length"),
    "program cut": (count(1) + one(WHOLE)[:-1], "a parallel run that ends inside a program"),
    "length too large": (
        count(1) + count(0xFFFFFFFF) + WHOLE,
        "a parallel run that ends inside a program",
    ),
    "bytes after it": (
        count(1) + one(WHOLE) + b"\0",
        "a parallel run with bytes after its last program",
    ),
    "a bad program": (count(2) + one(WHOLE) + one(program(op(9))), "an op of no known kind"),
}


def test_each_bad_parallel_run_is_refused_with_its_sentence(wire: Wire, worker: int) -> None:
    for text, sentence in BAD_PARALLEL.values():
        assert verdict_on_parallel(text) == sentence
        assert wire.refused(FrameType.PARALLEL, worker, text) == sentence
    most = count(64) + one(WHOLE) * 64
    assert wire.ask(FrameType.PARALLEL, worker, most).type is FrameType.RESULT


def test_requests_to_the_wrong_worker_are_refused(wire: Wire, worker: int) -> None:
    assert wire.refused(FrameType.SPAWN, MAX_WORKERS) == "a worker number that is too high"
    assert wire.refused(FrameType.RUN, 0xFFFF, WHOLE) == "a worker number that is too high"
    assert wire.refused(FrameType.SPAWN, worker) == "a spawn of a worker that exists"
    for kind in (FrameType.RUN, FrameType.PARALLEL, FrameType.FORK):
        assert wire.refused(kind, 7, WHOLE) == "a request to a worker that does not exist"


@pytest.mark.parametrize("kind", [0, 7, 64, 66, 0xFFFF])
def test_a_request_of_no_type_is_refused(wire: Wire, kind: int) -> None:
    assert wire.refused(kind) == "a request of no known type"


def test_a_request_without_a_sequence_number_is_refused(wire: Wire) -> None:
    text = wire.refused(FrameType.SPAWN, 1, sequence=0)
    assert text == "a request without a sequence number"


@pytest.mark.parametrize(
    "payload", [b"", b"\2", count(1), count(MAX_WORKERS), count(0xFFFFFFFF), count(2) + b"\0"]
)
def test_a_fork_to_where_none_can_be_is_refused(wire: Wire, worker: int, payload: bytes) -> None:
    text = wire.refused(FrameType.FORK, worker, payload)
    assert text == "a fork to a worker that exists or cannot"


def test_a_busy_worker_takes_no_second_request(wire: Wire) -> None:
    _, arena = wire.spawn(1)
    pause = struct.pack("<QQ", 0, 300_000_000)
    sleeping = wire.send(
        FrameType.RUN,
        1,
        program(op(WRITE, arena, aux=16, blob=pause), op(SYSCALL, arena, 0, aux=35)),
    )
    for kind in (FrameType.RUN, FrameType.PARALLEL, FrameType.FORK):
        assert wire.refused(kind, 1, WHOLE) == "a request to a worker that is busy"
    answer = wire.receive()
    assert (answer.type, answer.sequence) == (FrameType.RESULT, sleeping)


def test_the_end_of_no_worker_is_told_without_a_status(wire: Wire) -> None:
    answer = wire.ask(FrameType.END, 9)
    assert (answer.type, answer.payload) == (FrameType.ENDED, count(NO_STATUS))


def test_after_a_frame_that_is_too_large_the_agent_ends(wire: Wire) -> None:
    wire.send_raw(HEADER.pack(MAX_FRAME + 1, FrameType.RUN, 1, 5))
    answer = wire.receive()
    assert (answer.type, answer.sequence) == (FrameType.ERROR, 5)
    assert answer.payload == b"a frame that is too large"
    with pytest.raises(StreamEndedError):
        wire.receive()


@pytest.mark.parametrize(
    "data", [b"\1", bytes(HEADER.size - 1), HEADER.pack(9, 3, 1, 1) + b"12345678"]
)
def test_a_stream_that_ends_inside_a_frame_ends_the_agent(
    sanitized_agent: Path, data: bytes
) -> None:
    with Wire(sanitized_agent) as wire:
        wire.send_raw(data)


def test_the_largest_frame_goes_both_ways(wire: Wire) -> None:
    wire.spawn(1)
    room = MAX_FRAME - 72  # the rest of the program
    blob = random.Random(1).randbytes(room // 8 * 8)  # noqa: S311 - the same each time
    answer = wire.ask(FrameType.RUN, 1, program(STOP, op(WRITE, 1, aux=len(blob), blob=blob)))
    assert answer.type is FrameType.RESULT


# ---- mutations ----

SEEDS = [
    WHOLE,
    program(
        STOP,
        op(SYSCALL, 3, (1, 0, 16), 0, aux=16, flags=MUST),
        op(SYSCALL, *range(6), aux=9, repeat=3, fail_nth=2),
        op(READ, (1, 1, 8), aux=64),
        op(COPY, 1, 2, aux=4096),
        op(WRITE, (1, 2, 0), aux=5, blob=b"hello"),
    ),
    program(STOP, *[op(WRITE, 4096, aux=1, blob=b"x")] * 20),
]
# The bytes that are left as they are: the length, and the op that stops all others.
KEPT = 8 + len(STOP)
INTERESTING = (0, 1, 2, 6, 7, 0x7F, 0x80, 0xFF)


def mutated(chance: random.Random, text: bytes) -> bytes:
    """Change a program behind its first op; it still runs nothing, whatever comes of it."""
    made = bytearray(text)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(KEPT, len(made)) if len(made) > KEPT else KEPT
        kind = chance.randrange(6)
        if kind == 0:
            del made[at:]
        elif kind == 1:
            made[at:at] = chance.randbytes(chance.randint(1, 24))
        elif kind == 2:
            del made[at : at + chance.randint(1, 24)]
        elif kind == 3:
            made[0:4] = chance.randint(1, 24).to_bytes(4, "little")
        elif at < len(made):
            made[at] = chance.choice(INTERESTING) if kind == 4 else chance.randrange(256)
    return bytes(made)


def test_mutated_programs_are_answered_as_the_model_says(wire: Wire, worker: int) -> None:
    chance = random.Random(20240607)  # noqa: S311 - the same each time
    answers: dict[str, int] = {}
    for _ in range(600):
        text = mutated(chance, chance.choice(SEEDS))
        expected = verdict_on_program(text)
        answer = wire.ask(FrameType.RUN, worker, text)
        got = answer.payload.decode() if answer.type is FrameType.ERROR else ""
        assert got == expected, text.hex()
        answers[got] = answers.get(got, 0) + 1
    # the run is worth something: it reached every check behind the first op
    assert len(answers) >= 10, answers


def test_mutated_parallel_runs_are_answered_as_the_model_says(wire: Wire, worker: int) -> None:
    chance = random.Random(7)  # noqa: S311 - the same each time
    for _ in range(150):
        made = bytearray(count(2) + one(mutated(chance, SEEDS[0])) + one(mutated(chance, SEEDS[1])))
        if chance.random() < 0.5:
            # the counts and lengths, too; a program that is cut begins with its stop or is refused
            made = made[: chance.randrange(len(made) + 1)]
        text = bytes(made)
        expected = verdict_on_parallel(text)
        answer = wire.ask(FrameType.PARALLEL, worker, text)
        got = answer.payload.decode() if answer.type is FrameType.ERROR else ""
        assert got == expected, text.hex()


class ServerModel:
    """What the server answers to any request that keeps no worker busy."""

    def __init__(self) -> None:
        self.workers: set[int] = set()

    def answer(self, kind: int, worker: int, payload: bytes, sequence: int) -> FrameType | str:  # noqa: C901, PLR0911
        if worker >= MAX_WORKERS:
            return "a worker number that is too high"
        if not FrameType.SPAWN <= kind <= FrameType.LOG:
            return "a request of no known type"
        if sequence == 0:
            return "a request without a sequence number"
        if kind == FrameType.LOG:
            return FrameType.LOGGED
        if kind == FrameType.SPAWN:
            if worker in self.workers:
                return "a spawn of a worker that exists"
            self.workers.add(worker)
            return FrameType.SPAWNED
        if kind == FrameType.END:
            self.workers.discard(worker)
            return FrameType.ENDED
        if worker not in self.workers:
            return "a request to a worker that does not exist"
        if kind == FrameType.FORK:
            child = int.from_bytes(payload, "little")
            if len(payload) != 4 or child >= MAX_WORKERS or child in self.workers:
                return "a fork to a worker that exists or cannot"
            self.workers.add(child)
            return FrameType.SPAWNED
        judge = verdict_on_program if kind == FrameType.RUN else verdict_on_parallel
        return judge(payload) or FrameType.RESULT


def test_random_requests_are_answered_as_the_model_says(wire: Wire) -> None:
    chance = random.Random(42)  # noqa: S311 - the same each time
    model = ServerModel()
    seen = set()
    for sequence in range(1, 401):
        kind = chance.choice([1, 1, 2, 2, 3, 4, 5, 5, 6, chance.randrange(0x10000)])
        worker = chance.choice([0, 1, 2, 255, chance.choice([3, 256, 0x8000, 0xFFFF])])
        payload = chance.choice(
            [b"", WHOLE, count(chance.choice([0, 1, 2, 3, 255, 256])), count(1) + one(WHOLE)]
        )
        given = 0 if chance.random() < 0.02 else sequence
        expected = model.answer(kind, worker, payload, given)
        answer = wire.ask(kind, worker, payload, given)
        got = answer.payload.decode() if answer.type is FrameType.ERROR else answer.type
        assert got == expected, (kind, worker, payload, given)
        seen.add(got)
    assert len(seen) >= 12, seen
