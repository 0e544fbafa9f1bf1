# SPDX-License-Identifier: GPL-2.0-only
"""Checks of IOMMU_FAULT_QUEUE_ALLOC and its faults that are removed, and the rules that notice."""

from mutant import Mutant

CALL, READ, WRITE = "iommufd_fault_alloc", "iommufd_fault_fops_read", "iommufd_fault_fops_write"
DROP, RECORD = "iommufd_auto_response_faults", "iommufd_compose_fault_message"
OLD, NEW, MOCK = ("6.12", "fault.c"), ("7.3", "eventq.c"), ("7.3", "selftest.c")
# fmt: off
MUTANTS = (
    Mutant("flags", "if (cmd->flags)", "if (0)", "flags", CALL, *OLD),
    Mutant("file_users", "refcount_inc(&fault->obj.users);", "", "lifetime.file", CALL, *OLD),
    Mutant("cloexec", "get_unused_fd_flags(O_CLOEXEC)", "get_unused_fd_flags(0)",
           "fd.close_on_exec", CALL, *OLD),
    Mutant("respond", "if (rc) goto out_put_fdno;", "", "undone.unwritable", CALL, *OLD),
    Mutant("fd_leak", "put_unused_fd(fdno);", "", "undone.fd_reused", CALL, *OLD),
    Mutant("read_length", "|| count % fault_size", "", "read.length read.length_pending", READ,
           *OLD),
    Mutant("read_room", "if (done >= count || group->fault_count * fault_size > count - done)",
           "if (0)", "read.part read.no_room", READ, *OLD),
    Mutant("read_room_error", "if (done == 0) rc = -EINVAL;", "", "read.no_room", READ, *OLD),
    Mutant("read_room_kept", "iommufd_fault_deliver_restore(fault, group); /* Read count doesn't "
           "fit the first fault group */", "", "read.part read.no_room", READ, *NEW),
    Mutant("read_copy", "if (rc) break; done = group_done;", "done = group_done;",
           "read.unwritable", READ, *OLD),
    Mutant("read_cookie_kept", "xa_erase(&fault->response, group->cookie);", "",
           "read.unwritable read.unwritable_second", READ, *OLD),
    Mutant("read_lost", "iommufd_fault_deliver_restore(fault, group); rc = -EFAULT;",
           "rc = -EFAULT;", "read.unwritable read.unwritable_second", READ, *OLD),
    Mutant("read_error_told", "return done == 0 ? rc : done;", "return rc ? rc : done;",
           "read.unwritable_second", READ, *OLD),
    Mutant("write_length", "|| count % response_size", "", "write.length", WRITE, *OLD),
    Mutant("write_code", "response.code != IOMMUFD_PAGE_RESP_SUCCESS && response.code != "
           "IOMMUFD_PAGE_RESP_INVALID", "0", "answer.code answer.partly", WRITE, *OLD),
    Mutant("write_code_invalid", "&& response.code != IOMMUFD_PAGE_RESP_INVALID", "", "answer",
           WRITE, *OLD),
    Mutant("write_twice", "xa_erase(&fault->response, response.cookie)",
           "xa_load(&fault->response, response.cookie)", "cookie.reused answer.twice", WRITE,
           *OLD),
    Mutant("write_unknown", "rc = -EINVAL; break; } iopf_group_response",
           "done += response_size; continue; } iopf_group_response",
           "write.unknown_cookie answer.twice answer.not_read", WRITE, *OLD),
    Mutant("write_error_told", "return done == 0 ? rc : done;", "return rc ? rc : done;",
           "answer.partly answer.unreadable_second", WRITE, *OLD),
    Mutant("drop_others", "if (group->attach_handle != &handle->handle) continue; list_move",
           "list_move", "gone.other_device", DROP, *OLD),
    Mutant("drop_others_read",
           "if (group->attach_handle != &handle->handle) continue; xa_erase", "xa_erase",
           "gone.other_device", DROP, *OLD),
    Mutant("drop_pending", "list_move(&group->node, &free_list);", "",
           "gone.pending gone.same_queue", DROP, *NEW),
    Mutant("drop_nothing", "if (!fault || !handle)", "if (1)",
           "gone.pending gone.read gone.destroyed", DROP, *NEW),
    Mutant("record_flags", "hwpt_fault->flags = fault->prm.flags;", "",
           "record record.pasid", RECORD, *OLD),
    Mutant("record_pasid", "hwpt_fault->pasid = fault->prm.pasid;", "", "record.pasid", RECORD,
           *OLD),
    Mutant("record_device", "hwpt_fault->dev_id = idev->obj.id;", "", "record record.device",
           RECORD, *OLD),
    Mutant("order", "list_add_tail(&group->node, &fault->deliver);",
           "list_add(&group->node, &fault->deliver);", "read.order read.part",
           "iommufd_fault_iopf_handler", *OLD),
    Mutant("wake", "wake_up_interruptible(&fault->wait_queue);", "", "threads.poll",
           "iommufd_fault_iopf_handler", *OLD),
    Mutant("poll_out", "__poll_t pollflags = EPOLLOUT;", "__poll_t pollflags = 0;",
           "poll.empty poll.pending", "iommufd_fault_fops_poll", *OLD),
    Mutant("poll_in", "if (!list_empty(&fault->deliver))", "if (1)", "poll.empty",
           "iommufd_fault_fops_poll", *OLD),
    # the mock driver's
    Mutant("mock_pasid", "if (cmd->trigger_iopf.pasid != IOMMU_NO_PASID)", "if (0)",
           "record.pasid", "iommufd_test_trigger_iopf", *MOCK),
    Mutant("mock_group", "event.fault.prm.grpid = cmd->trigger_iopf.grpid;", "", "record",
           "iommufd_test_trigger_iopf", *MOCK),
)
# fmt: on
