# SPDX-License-Identifier: GPL-2.0-only
"""Checks of IOMMU_VEVENTQ_ALLOC and its events that are removed, and the rules that notice."""

from mutant import Mutant

CALL, READ, RESTORE = (
    "iommufd_veventq_alloc",
    "iommufd_veventq_fops_read",
    "iommufd_veventq_deliver_restore",
)
TRIGGER = "iommufd_test_trigger_vevent"
REPORT = "iommufd_viommu_report_event"
ON, DRIVER, MOCK = ("7.3", "eventq.c"), ("7.3", "driver.c"), ("7.3", "selftest.c")
# fmt: off
MUTANTS = (
    Mutant("flags", "cmd->flags ||", "", "flags flags.first", CALL, *ON),
    Mutant("reserved", "|| cmd->__reserved ||", "||", "reserved flags.first", CALL, *ON),
    Mutant("type", "|| cmd->type == IOMMU_VEVENTQ_TYPE_DEFAULT", "", "type.default flags.first",
           CALL, *ON),
    Mutant("no_depth", "!cmd->veventq_depth ||", "", "depth depth.before_id", CALL, *ON),
    Mutant("depth", "cmd->veventq_depth > VEVENTQ_MAX_DEPTH", "0", "depth depth.before_id", CALL,
           *ON),
    Mutant("depth_off_by_one", "cmd->veventq_depth > VEVENTQ_MAX_DEPTH",
           "cmd->veventq_depth >= VEVENTQ_MAX_DEPTH", "depth.in_range", CALL, *ON),
    Mutant("viommu", "return PTR_ERR(viommu);", "return -EINVAL;", "viommu_id.other_type", CALL,
           *ON),
    Mutant("twice", "if (iommufd_viommu_find_veventq(viommu, cmd->type))", "if (0)",
           "type.twice", CALL, *ON),
    Mutant("users", "refcount_inc(&viommu->obj.users);", "", "lifetime.viommu", CALL, *ON),
    Mutant("respond", "if (rc) goto out_put_fdno;", "", "undone.unwritable", CALL, *ON),
    Mutant("fd_leak", "put_unused_fd(fdno);", "", "undone.fd_reused", CALL, *ON),
    Mutant("file_users", "refcount_inc(&eventq->obj.users);", "", "lifetime.file",
           "iommufd_eventq_init", *ON),
    Mutant("cloexec", "get_unused_fd_flags(O_CLOEXEC)", "get_unused_fd_flags(0)",
           "fd.close_on_exec", "iommufd_eventq_init", *ON),
    Mutant("header", "if (count < sizeof(*hdr)) return -EINVAL;", "", "read.below_header", READ,
           *ON),
    Mutant("room", "sizeof(*hdr) + cur->data_len > count - done", "0",
           "read.part read.too_short", READ, *ON),
    Mutant("room_error", "if (done == 0) rc = -EINVAL;", "", "read.too_short", READ, *ON),
    Mutant("header_room", "done >= count || sizeof(*hdr) > count - done", "0",
           "lost.header_does_not_fit", READ, *ON),
    Mutant("event_kept", "iommufd_veventq_deliver_restore(veventq, cur); "
           "done -= sizeof(*hdr);", "done -= sizeof(*hdr);", "read.unwritable", READ, *ON),
    Mutant("header_of_event", "done -= sizeof(*hdr);", "",
           "read.unwritable read.unwritable_second", READ, *ON),
    Mutant("depth_freed", "veventq->num_events--;", ";", "lost.afterwards lost.by_sequence", READ,
           *ON),
    Mutant("header_kept", "vevent = &veventq->lost_events_header;", ";",
           "lost.header_does_not_fit lost.unwritable", RESTORE, *ON),
    Mutant("order_kept", "list_add(&vevent->node, list);", "list_add_tail(&vevent->node, list);",
           "read.part_in_order", RESTORE, *ON),
    Mutant("poll", "if (!list_empty(&eventq->deliver))", "if (0)", "poll.pending",
           "iommufd_eventq_fops_poll", *ON),
    Mutant("poll_out", "if (eventq->obj.type == IOMMUFD_OBJ_FAULT)", "if (1)",
           "poll.empty poll.pending", "iommufd_eventq_fops_poll", *ON),
    # what drivers call
    Mutant("no_queue", "rc = -EOPNOTSUPP;", "", "trigger.no_queue trigger.no_queue.other_type",
           REPORT, *DRIVER),
    Mutant("no_limit", "if (veventq->num_events == veventq->depth)", "if (0)",
           "lost lost.several lost.depth", REPORT, *DRIVER),
    Mutant("not_counted", "veventq->num_events++;", "", "lost lost.depth", REPORT, *DRIVER),
    Mutant("no_memory", "rc = -ENOMEM;", "", "lost.no_memory", REPORT, *DRIVER),
    Mutant("virt_id", "*vdev_id = vdev->virt_id;", "*vdev_id = index + 1;",
           "event event.device", "iommufd_viommu_get_vdev_id", *DRIVER),
    # the mock driver's
    Mutant("mock_virt_id", "|| !mdev->vdev_id", "", "trigger.virt_id_zero", TRIGGER, *MOCK),
    Mutant("mock_moved", "mdev->viommu = new_viommu;", "if (new_viommu) mdev->viommu = new_viommu;",
           "event.back_again", "mock_domain_nop_attach", *MOCK),
)
# fmt: on
