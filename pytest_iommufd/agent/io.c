// SPDX-License-Identifier: GPL-2.0-only
/* Whole reads, whole writes, frames, and a growing buffer. */
#include "agent.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A virtio port reads 0 or EAGAIN while the host's side is not connected. */
static int wait_for(int fd, short events)
{
	struct pollfd entry = { .fd = fd, .events = events };

	return poll(&entry, 1, -1) < 0 && errno != EINTR ? -1 : 0;
}

/* 0, or -1 at the end of the stream. */
int read_all(int fd, void *data, size_t size)
{
	unsigned char *at = data;

	while (size) {
		ssize_t got = read(fd, at, size);

		if (got > 0) {
			at += got;
			size -= (size_t)got;
		} else if (got == 0) {
			return -1;
		} else if (errno == EAGAIN) {
			if (wait_for(fd, POLLIN))
				return -1;
		} else if (errno != EINTR) {
			return -1;
		}
	}
	return 0;
}

int write_all(int fd, const void *data, size_t size)
{
	const unsigned char *at = data;

	while (size) {
		ssize_t put = write(fd, at, size);

		if (put >= 0) {
			at += put;
			size -= (size_t)put;
		} else if (errno == EAGAIN) {
			if (wait_for(fd, POLLOUT))
				return -1;
		} else if (errno != EINTR) {
			return -1;
		}
	}
	return 0;
}

void buffer_append(struct buffer *buffer, const void *data, size_t size)
{
	if (buffer->size + size > buffer->room) {
		size_t room = (buffer->size + size) * 2 + 4096;
		unsigned char *grown = realloc(buffer->data, room);

		if (!grown)
			abort();
		buffer->data = grown;
		buffer->room = room;
	}
	if (size)
		memcpy(buffer->data + buffer->size, data, size);
	buffer->size += size;
}

/* One write, so that frames of two senders never mix. */
int send_frame(int fd, uint16_t type, uint16_t worker, uint32_t sequence, const void *data,
	       size_t size)
{
	struct frame head = {
		.size = (uint32_t)size, .type = type, .worker = worker, .sequence = sequence
	};
	struct buffer whole = { 0 };
	int failed;

	buffer_append(&whole, &head, sizeof(head));
	buffer_append(&whole, data, size);
	failed = write_all(fd, whole.data, whole.size);
	free(whole.data);
	return failed;
}

void say(struct buffer *text, const char *format, ...)
{
	char line[512];
	va_list args;
	int size;

	va_start(args, format);
	size = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (size < 0)
		return;
	if ((size_t)size >= sizeof(line))
		size = sizeof(line) - 1;
	buffer_append(text, line, (size_t)size);
}
