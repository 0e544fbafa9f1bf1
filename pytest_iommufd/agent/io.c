// SPDX-License-Identifier: GPL-2.0-only
/* Frames, descriptors, and the end of an agent that cannot go on. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <termios.h>
#include <unistd.h>

#define FIRST_ROOM 4096u

/* A virtio port says EAGAIN while the host's side is not connected, or takes no more. */
static int go_on(int fd, short events)
{
	struct pollfd entry = { .fd = fd, .events = events };

	return errno == EINTR ||
	       (errno == EAGAIN && (poll(&entry, 1, -1) >= 0 || errno == EINTR));
}

void *not_forked(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	madvise(memory, size, MADV_DONTFORK);
	return memory;
}

static size_t frame_end(const struct inbox *inbox)
{
	struct frame head = { 0 };

	if (inbox->size >= sizeof(head))
		memcpy(&head, inbox->data, sizeof(head));
	return sizeof(head) + head.size;
}

const struct frame *receive(struct inbox *inbox, int fd)
{
	inbox->size -= inbox->done;
	if (inbox->size)
		memmove(inbox->data, inbox->data + inbox->done, inbox->size);
	inbox->done = 0;
	for (;;) {
		size_t end = frame_end(inbox);
		ssize_t got;

		if (end > sizeof(struct frame) + MAX_FRAME) {
			errno = EMSGSIZE;
			return NULL;
		}
		if (inbox->size >= end) {
			inbox->done = end;
			return (const struct frame *)inbox->data;
		}
		if (inbox->room < end || !inbox->room) {
			size_t room = end > FIRST_ROOM ? end : FIRST_ROOM;
			unsigned char *grown = not_forked(room);

			if (!grown)
				return NULL;
			if (inbox->room) {
				memcpy(grown, inbox->data, inbox->size);
				munmap(inbox->data, inbox->room);
			}
			inbox->data = grown;
			inbox->room = room;
		}
		got = read(fd, inbox->data + inbox->size, inbox->room - inbox->size);
		if (got > 0) {
			inbox->size += (size_t)got;
		} else if (got == 0) {
			errno = 0;
			return NULL;
		} else if (!go_on(fd, POLLIN)) {
			return NULL;
		}
	}
}

int write_all(int fd, const void *data, size_t size)
{
	const unsigned char *at = data;

	while (size) {
		ssize_t put = write(fd, at, size);

		if (put >= 0) {
			at += put;
			size -= (size_t)put;
		} else if (!go_on(fd, POLLOUT)) {
			return -1;
		}
	}
	return 0;
}

/* In one write, so that a port passes it on whole. */
int send_frame(int fd, uint16_t type, uint16_t worker, uint32_t sequence, const void *data,
	       size_t size)
{
	struct {
		struct frame head;
		unsigned char data[MAX_TEXT];
	} whole;

	if (size > sizeof(whole.data))
		size = sizeof(whole.data);
	whole.head = (struct frame){
		.size = (uint32_t)size, .type = type, .worker = worker, .sequence = sequence
	};
	if (size)
		memcpy(whole.data, data, size);
	return write_all(fd, &whole, sizeof(whole.head) + size);
}

int moved(int fd)
{
	int high, wrong;

	if (fd < 0)
		return fd;
	high = fcntl(fd, F_DUPFD_CLOEXEC, WORKER_FDS);
	wrong = errno;
	close(fd);
	errno = wrong;
	return high;
}

struct rlimit more_fds(void)
{
	struct rlimit before, more;

	getrlimit(RLIMIT_NOFILE, &before);
	more = before;
	more.rlim_cur = more.rlim_max;
	setrlimit(RLIMIT_NOFILE, &more);
	return before;
}

void fail(const char *format, ...)
{
	va_list args;

	/* the host looks for these words on the console, for the port may be what failed */
	dprintf(2, "\npytest-iommufd agent failed: ");
	va_start(args, format);
	vdprintf(2, format, args);
	va_end(args);
	dprintf(2, "\n");
	if (getpid() == 1) {
		tcdrain(2);
		reboot(RB_POWER_OFF);
		reboot(RB_AUTOBOOT); /* a guest that cannot is made with -no-reboot */
	}
	_exit(3);
}
