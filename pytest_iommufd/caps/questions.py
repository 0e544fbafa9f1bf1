# SPDX-License-Identifier: GPL-2.0-only
"""What people ask first, answered in words from what the kernel answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.caps import behind, plain
from pytest_iommufd.caps.model import COMMANDS, MOCK, Answer, Key, State

if TYPE_CHECKING:
    from pytest_iommufd.caps.model import Column


@dataclass(frozen=True)
class Question:
    """Something that people ask of a kernel.

    Attributes:
        name: the word for it.
        about: what that is.
        core: what answers it without a device: the kernel must have all of these.
        driver: what a device's IOMMU adds, by subject and name. Without a core any device that
            has it answers the question.
    """

    name: str
    about: str
    core: tuple[tuple[str, str], ...] = ()
    driver: tuple[tuple[str, str], ...] = ()


QUESTIONS = (
    Question(
        "VFIO cdev",
        "devices are opened as /dev/vfio/devices/vfioN and bound to iommufd",
        ((plain.DEVICES, plain.CDEV),),
    ),
    Question(
        "nesting",
        "page tables of a guest are nested in those of the host",
        ((COMMANDS, "IOMMU_HWPT_INVALIDATE"),),
        ((behind.HWPT_FLAGS, "IOMMU_HWPT_ALLOC_NEST_PARENT"),),
    ),
    Question(
        "vIOMMU",
        "a guest gets a virtual IOMMU of its own",
        ((COMMANDS, "IOMMU_VIOMMU_ALLOC"), (COMMANDS, "IOMMU_VDEVICE_ALLOC")),
    ),
    Question(
        "PASID",
        "page tables are attached to PASIDs of a device",
        (),
        (
            (behind.HWPT_FLAGS, "IOMMU_HWPT_ALLOC_PASID"),
            (behind.ATTACH_FLAGS, behind.ATTACH_PASID),
            (behind.HW_INFO, behind.PASIDS),
        ),
    ),
    Question(
        "dirty tracking",
        "the IOMMU tells which pages devices have written to",
        ((COMMANDS, "IOMMU_HWPT_SET_DIRTY_TRACKING"),),
        ((behind.HWPT_FLAGS, "IOMMU_HWPT_ALLOC_DIRTY_TRACKING"),),
    ),
    Question(
        "fault queues",
        "page faults of devices are handled by user space",
        ((COMMANDS, "IOMMU_FAULT_QUEUE_ALLOC"),),
        ((behind.FAULTS, behind.IOPF),),
    ),
    Question(
        "MAP_FILE",
        "memory is mapped by the file descriptor of its memfd",
        ((COMMANDS, "IOMMU_IOAS_MAP_FILE"),),
    ),
    Question(
        "CHANGE_PROCESS",
        "mappings are handed over to another process",
        ((COMMANDS, "IOMMU_IOAS_CHANGE_PROCESS"),),
    ),
    Question(
        "VFIO type1",
        "/dev/iommu stands in for a VFIO container",
        ((plain.VFIO, "VFIO_IOMMU_MAP_DMA"), (plain.EXTENSIONS, "VFIO_TYPE1v2_IOMMU")),
    ),
    Question(
        "iommufd_test",
        "the kernel has mock devices",
        ((COMMANDS, "IOMMU_TEST_CMD"),),
    ),
)


def answer(question: Question, column: Column) -> Answer:
    """Answer a question for a kernel.

    Returns:
        Its state, and as `why` the answers that it follows from, in words.
    """
    if column.absent:
        return Answer(State.NO, why=column.absent)
    core = [(Key(*one), column.answer(Key(*one))) for one in question.core]
    driver = [
        (key, given)
        for key, given in column.answers.items()
        if key.device and (key.about, key.name) in question.driver
    ]
    why = [_words(key, given) for key, given in (*core, *driver)]
    if question.driver and not driver:
        unasked = "; ".join(column.unasked.values())
        why.append(f"it was not asked with a device ({unasked}), which --iommu does")
    states = {given.state for _, given in core or driver}
    if not core and State.YES in states:
        states = {State.YES}
    order = (State.NO, State.UNKNOWN, State.YES)
    state = next((each for each in order if each in states), State.UNKNOWN)
    return Answer(state, why="; ".join(why))


def _words(key: Key, given: Answer) -> str:
    """Put an answer into words, as a part of a sentence."""
    where = {"": "", MOCK: "with a mock device "}.get(key.device, f"behind the IOMMU {key.device} ")
    said = {State.YES: "it has", State.NO: "it does not have", State.UNKNOWN: "it may have"}
    told = given.value if given.state is State.YES else given.why
    return f"{where}{said[given.state]} {key.name}{f' ({told})' if told else ''}"
