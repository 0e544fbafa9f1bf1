// SPDX-License-Identifier: GPL-2.0-only
/* What PID 1 does before it serves: file systems, modules, the port. */
#define _GNU_SOURCE
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PORT_NAME "pytest-iommufd"

static const struct {
	const char *type, *where;
} file_systems[] = {
	{ "proc", "/proc" },	    { "sysfs", "/sys" }, { "devtmpfs", "/dev" },
	{ "debugfs", "/sys/kernel/debug" }, { "tmpfs", "/tmp" },
};

static void mount_all(FILE *text)
{
	for (size_t i = 0; i < sizeof(file_systems) / sizeof(*file_systems); i++) {
		const char *type = file_systems[i].type, *where = file_systems[i].where;

		mkdir(where, 0755);
		/* a kernel may have mounted devtmpfs itself: EBUSY */
		if (mount(type, where, type, 0, NULL) && errno != EBUSY)
			fprintf(text, "mount.%s=%s\n", type, strerror(errno));
	}
}

/* In the order of their names, which the host gives: 00-iova_bitmap.ko, ... */
static void load_modules(FILE *text)
{
	struct dirent **names;
	int count = scandir("/modules", &names, NULL, alphasort);

	for (int i = 0; i < count; i++) {
		char path[300];
		int fd;

		if (names[i]->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/modules/%s", names[i]->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
			fprintf(text, "module.%s=%s\n", names[i]->d_name, strerror(errno));
		close(fd);
	}
}

/*
 * What fail-nth counts: by default neither allocations that may wait, which are
 * nearly all, nor single pages. Each failure is noted in the log, where it can
 * mean several things with a trace; traces take long on an emulated console.
 * Nothing fails in a thread that has not asked for it.
 */
static const struct {
	const char *name, *value;
} injection[] = {
	{ "failslab/ignore-gfp-wait", "N" },
	{ "failslab/verbose", "1" },
	{ "failslab/verbose_ratelimit_interval_ms", "0" },
	{ "fail_page_alloc/ignore-gfp-wait", "N" },
	{ "fail_page_alloc/min-order", "0" },
	{ "fail_page_alloc/verbose", "1" },
	{ "fail_page_alloc/verbose_ratelimit_interval_ms", "0" },
	{ "iommufd/fail_iommufd/verbose_ratelimit_interval_ms", "0" },
};

static void prepare_fault_injection(void)
{
	for (size_t i = 0; i < sizeof(injection) / sizeof(*injection); i++) {
		char path[100];
		int fd;

		snprintf(path, sizeof(path), "/sys/kernel/debug/%s", injection[i].name);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			continue; /* a kernel without it: who needs it asks */
		if (write(fd, injection[i].value, strlen(injection[i].value)) < 0)
			fprintf(stderr, "agent: %s cannot be set\n", path);
		close(fd);
	}
}

static int is_ours(const char *port)
{
	char path[300], name[64] = "";
	int fd;

	snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", port);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (read(fd, name, sizeof(name) - 1) < 0)
		name[0] = 0;
	close(fd);
	return !strncmp(name, PORT_NAME, strlen(PORT_NAME));
}

/* The device's ports appear some time after the driver has started. */
static int find_port(void)
{
	for (int i = 0; i < 2000; i++) {
		DIR *ports = opendir("/sys/class/virtio-ports");
		struct dirent *entry;

		while (ports && (entry = readdir(ports))) {
			char path[300];
			int fd;

			if (!is_ours(entry->d_name))
				continue;
			snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
			fd = open(path, O_RDWR | O_CLOEXEC);
			if (fd >= 0) {
				closedir(ports);
				return fd;
			}
		}
		if (ports)
			closedir(ports);
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	}
	return -1;
}

/*
 * Under emulation an interrupt that wakes another CPU can take until that
 * one's next timer tick: a round trip of 8 ms in place of 0.3. So the server
 * and its workers share a CPU, but for the threads of a parallel run.
 */
static void stay_on_one_cpu(void)
{
	cpu_set_t first;

	CPU_ZERO(&first);
	CPU_SET(0, &first);
	sched_setaffinity(0, sizeof(first), &first);
}

int boot(FILE *text)
{
	int fd;

	stay_on_one_cpu();
	mount_all(text);
	load_modules(text);
	prepare_fault_injection();
	fd = find_port();
	if (fd < 0)
		fail("no virtio port named " PORT_NAME
		     ": switch on CONFIG_VIRTIO_PCI and CONFIG_VIRTIO_CONSOLE");
	return fd;
}
