// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest's init that runs commands for who connects to its ports, as an sshd
 * would: a kernel under test has no network. One connection for each port.
 *
 * From the host come frames of a u32 length and so many bytes: the command,
 * then its input, whose end is a frame of no length. To the host go such
 * frames with a letter before: r(eady), o(utput), e(rrors), x (exit status).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PORTS 24
#define PIECE 65536

static int port;

static int all(ssize_t (*move)(int, void *, size_t), void *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t count = move(port, (char *)data + done, size - done);

		if (count > 0)
			done += (size_t)count;
		else if (count == 0)
			return -1;
		else if (errno == EAGAIN)
			usleep(5000); /* poll() returns at once while nobody is connected */
		else if (errno != EINTR)
			return -1;
	}
	return 0;
}

static ssize_t put(int fd, void *data, size_t size)
{
	return write(fd, data, size);
}

static void tell(char kind, const void *data, uint32_t size)
{
	static struct __attribute__((packed)) {
		char kind;
		uint32_t size;
		char data[PIECE];
	} frame;

	frame.kind = kind;
	frame.size = size;
	memcpy(frame.data, data, size);
	if (all(put, &frame, 5 + size))
		exit(1);
}

static uint32_t hear(char *data)
{
	uint32_t size;

	if (all(read, &size, sizeof(size)) || size >= PIECE || all(read, data, size))
		exit(1);
	data[size] = 0;
	return size;
}

static void serve(int number)
{
	static char data[PIECE];
	int in[2], out[2], err[2], status, closed = 0;
	char path[32];
	pid_t pid;

	snprintf(path, sizeof(path), "/dev/vport0p%d", number);
	while ((port = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC)) < 0)
		usleep(10000);
	tell('r', "", 0);
	hear(data);
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		exit(1);
	pid = fork();
	if (!pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		signal(SIGPIPE, SIG_DFL);
		setenv("PATH", "/usr/bin:/bin", 1);
		execlp("sh", "sh", "-c", data, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	while (closed < 2) {
		struct pollfd entry[] = { { .fd = port, .events = POLLIN },
					  { .fd = out[0], .events = POLLIN },
					  { .fd = err[0], .events = POLLIN } };

		poll(entry, 3, -1);
		if (entry[0].revents & (POLLHUP | POLLERR))
			exit(1); /* as the end of a connection: its pipes are closed */
		if (entry[0].revents & POLLIN) {
			uint32_t size = hear(data);

			if (!size)
				close(in[1]);
			else if (write(in[1], data, size) != (ssize_t)size)
				continue; /* it reads no more */
		}
		for (int i = 1; i < 3; i++) {
			int *from = i == 1 ? &out[0] : &err[0];
			ssize_t size = 0;

			if (!entry[i].revents)
				continue;
			size = read(*from, data, PIECE - 1);
			if (size > 0) {
				tell(i == 1 ? 'o' : 'e', data, (uint32_t)size);
			} else {
				close(*from);
				*from = -1;
				closed++;
			}
		}
	}
	waitpid(pid, &status, 0);
	status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	tell('x', &status, 1);
}

int main(void)
{
	static const char *const mounts[][2] = { { "proc", "/proc" },
						 { "sysfs", "/sys" },
						 { "devtmpfs", "/dev" },
						 { "debugfs", "/sys/kernel/debug" },
						 { "tmpfs", "/tmp" } };
	char path[32];

	for (size_t i = 0; i < sizeof(mounts) / sizeof(*mounts); i++)
		mount(mounts[i][0], mounts[i][1], mounts[i][0], 0, NULL);
	for (int i = 0, fd; snprintf(path, sizeof(path), "/modules/%d", i),
	     (fd = open(path, O_RDONLY)) >= 0; i++)
		if (syscall(SYS_finit_module, fd, "", 0))
			perror(path);
	signal(SIGPIPE, SIG_IGN);
	for (int i = 1; i <= PORTS; i++)
		if (!fork()) {
			serve(i);
			exit(0);
		}
	for (;;)
		if (wait(NULL) < 0)
			pause();
}
