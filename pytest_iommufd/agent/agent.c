// SPDX-License-Identifier: GPL-2.0-only
/*
 * The agent: serves one stream to the host, and runs each program in a
 * process of its own. The server itself never makes a call under test, so it
 * answers while a worker hangs in the kernel, and it sees a worker's death.
 *
 * As PID 1 it prepares the guest first. With --stdio it is an ordinary child
 * on the machine whose kernel is tested, the stream on its standard in- and
 * output.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* Names that the host may use; the numbers differ between architectures. */
#define SYSCALLS(S)                                                                            \
	S(capget) S(capset) S(close) S(close_range) S(dup) S(eventfd2) S(exit_group)           \
	S(fallocate) S(fcntl) S(ftruncate) S(getdents64) S(getpid) S(gettid) S(ioctl)          \
	S(kill) S(lseek) S(madvise) S(memfd_create) S(mlock) S(mmap) S(mprotect) S(mremap)      \
	S(munlock) S(munmap)                                                                   \
	S(nanosleep) S(openat) S(pipe2) S(ppoll) S(prctl) S(pread64) S(prlimit64) S(pwrite64)  \
	S(read) S(readlinkat) S(sched_setaffinity) S(setresgid) S(setresuid) S(unlinkat)       \
	S(unshare) S(userfaultfd) S(wait4) S(write)

struct worker {
	pid_t pid;	    /* 0: this slot is free; -1: a fork that has not said it yet */
	int pidfd, to, from;
	uint32_t sequence;  /* of the request it works on, 0 when idle */
	uint32_t ending;    /* sequence of the END, 0 when none */
};

/* No worker has this memory: of each page that is written a fork makes a copy. */
static struct server {
	struct worker workers[MAX_WORKERS];
	uint16_t live[MAX_WORKERS]; /* which of them there are: hardly ever more than three */
	unsigned int lives;
	uint16_t owner[2 + 2 * MAX_WORKERS];
	struct pollfd entry[2 + 2 * MAX_WORKERS];
	struct inbox requests, answers;
	struct {
		struct frame head;
		char record[8192];
	} log;
} *server;
static int host_in, host_out, kmsg = -1;

/* ---- what the kernel has no function of the C library for ---- */

static int pidfd_of(pid_t pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (pidfd < 0)
		fail("pidfd_open: %s", strerror(errno));
	return pidfd;
}

static int taken(const struct worker *worker, int fd)
{
	return (int)syscall(SYS_pidfd_getfd, worker->pidfd, fd, 0);
}

/* By its pidfd: its number may be another process's by now. */
static void kill_worker(const struct worker *worker)
{
	if (worker->pid > 0)
		syscall(SYS_pidfd_send_signal, worker->pidfd, SIGKILL, NULL, 0);
}

/* ---- to the host ---- */

/* A fork that hangs in a call does not see that the stream has ended. */
static _Noreturn void leave(int status)
{
	for (unsigned int i = 0; i < server->lives; i++)
		kill_worker(&server->workers[server->live[i]]);
	if (getpid() == 1)
		fail("the stream to the host has ended");
	_exit(status);
}

static void to_host(uint16_t type, uint16_t id, uint32_t sequence, const void *data, size_t size)
{
	if (send_frame(host_out, type, id, sequence, data, size))
		leave(0); /* nobody listens any more */
}

static void error(uint16_t id, uint32_t sequence, const char *text)
{
	to_host(FRAME_ERROR, id, sequence, text, strlen(text));
}

static void drain_kmsg(void)
{
	struct frame *head = &server->log.head;

	while (kmsg >= 0) {
		ssize_t size = read(kmsg, server->log.record, sizeof(server->log.record));

		*head = (struct frame){ .size = (uint32_t)size, .type = FRAME_KMSG };
		if (size > 0 && write_all(host_out, head, sizeof(*head) + (size_t)size))
			leave(0);
		else if (size > 0)
			continue;
		else if (size < 0 && (errno == EINTR || errno == EPIPE))
			continue; /* EPIPE: records were overwritten, go on with the next */
		else
			return;
	}
}

/* PID 1 that dies is a kernel panic, which would be taken for the kernel's own. */
static void crashed(int number)
{
	fail("it crashed (signal %d)", number);
}

static void on_crashes(void (*handler)(int))
{
	static const int crashes[] = { SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV };

	for (size_t i = 0; i < sizeof(crashes) / sizeof(*crashes); i++)
		signal(crashes[i], handler);
}

/* ---- requests ---- */

static void add_worker(uint16_t id, struct worker worker)
{
	server->workers[id] = worker;
	server->live[server->lives++] = id;
}

static void remove_worker(struct worker *worker)
{
	unsigned int at = 0;

	while (server->live[at] != worker - server->workers)
		at++;
	server->live[at] = server->live[--server->lives];
	*worker = (struct worker){ 0 };
}

/* The child does not have the request. */
static void spawn(uint16_t id, uint32_t sequence)
{
	int end[4] = { -1, -1, -1, -1 };
	char text[128];
	pid_t pid = -1;

	if (!pipe(end) && !pipe(end + 2))
		pid = fork();
	if (pid == 0) {
		signal(SIGTERM, SIG_DFL);
		on_crashes(SIG_DFL);
		worker_main(id, sequence, end[0], end[3]);
	}
	snprintf(text, sizeof(text), "cannot start a process: %s", strerror(errno));
	if (end[0] >= 0)
		close(end[0]);
	if (end[3] >= 0)
		close(end[3]);
	if (pid > 0) {
		add_worker(id, (struct worker){ .pid = pid,
						.pidfd = pidfd_of(pid),
						.to = end[1],
						.from = end[2],
						.sequence = sequence });
		return;
	}
	if (end[1] >= 0)
		close(end[1]);
	if (end[2] >= 0)
		close(end[2]);
	error(id, sequence, text);
}

static void forward(struct worker *worker, const struct frame *request)
{
	worker->sequence = request->sequence;
	/* A worker that has just died is reported by its pidfd. */
	(void)write_all(worker->to, request, sizeof(*request) + request->size);
}

static void fork_worker(const struct frame *request)
{
	uint32_t child;

	if (request->size == sizeof(child))
		memcpy(&child, request + 1, sizeof(child));
	if (request->size != sizeof(child) || child >= MAX_WORKERS || server->workers[child].pid) {
		error(request->worker, request->sequence, "a fork to a worker that exists or cannot");
		return;
	}
	add_worker((uint16_t)child, (struct worker){ .pid = -1,
						     .pidfd = -1,
						     .to = -1,
						     .from = -1,
						     .sequence = request->sequence });
	forward(&server->workers[request->worker], request);
}

static void serve_request(const struct frame *request)
{
	struct worker *worker =
		request->worker < MAX_WORKERS ? &server->workers[request->worker] : NULL;
	const char *wrong = NULL;

	if (!worker) {
		wrong = "a worker number that is too high";
	} else if (request->type < FRAME_SPAWN || request->type > FRAME_LAST_REQUEST) {
		wrong = "a request of no known type";
	} else if (request->sequence == 0) {
		wrong = "a request without a sequence number";
	} else if (request->type == FRAME_LOG) {
		drain_kmsg();
		to_host(FRAME_LOGGED, 0, request->sequence, NULL, 0);
	} else if (request->type == FRAME_SPAWN) {
		if (worker->pid)
			wrong = "a spawn of a worker that exists";
		else
			spawn(request->worker, request->sequence);
	} else if (!worker->pid && request->type == FRAME_END) {
		uint32_t status = NO_STATUS;

		drain_kmsg();
		to_host(FRAME_ENDED, request->worker, request->sequence, &status, sizeof(status));
	} else if (!worker->pid) {
		wrong = "a request to a worker that does not exist";
	} else if (request->type == FRAME_END) {
		worker->ending = request->sequence;
		kill_worker(worker);
	} else if (worker->sequence) {
		wrong = "a request to a worker that is busy";
	} else if (request->type == FRAME_FORK) {
		fork_worker(request);
	} else {
		forward(worker, request);
	}
	if (wrong)
		error(request->worker, request->sequence, wrong);
}

static void read_requests(void)
{
	do {
		const struct frame *request = receive(&server->requests, host_in);

		if (!request && errno == ENOMEM)
			fail("no memory for a request");
		if (!request && errno == EMSGSIZE) {
			request = (const struct frame *)server->requests.data;
			error(request->worker, request->sequence, "a frame that is too large");
			leave(0); /* nothing after it can be trusted */
		}
		if (!request)
			leave(0);
		serve_request(request);
	} while (server->requests.size > server->requests.done);
}

/* ---- answers ---- */

/* The slot of a fork that was asked for with this request and does not exist yet, or NULL. */
static struct worker *unborn(uint32_t sequence)
{
	for (unsigned int i = 0; i < server->lives; i++) {
		struct worker *worker = &server->workers[server->live[i]];

		if (worker->pid < 0 && worker->sequence == sequence)
			return worker;
	}
	return NULL;
}

/* A child of ours that was forked by a worker: NULL, or why it does not serve. */
static const char *adopt(struct worker *worker, const struct forked *forked)
{
	worker->pid = (pid_t)forked->spawned.pid;
	worker->pidfd = pidfd_of(worker->pid);
	worker->to = taken(worker, forked->to);
	worker->from = taken(worker, forked->from);
	worker->sequence = 0;
	if (worker->from >= 0 && worker->to >= 0)
		return NULL;
	kill_worker(worker); /* which is its end, as any other's */
	return strerror(errno);
}

/* A test may have written anywhere in its process's memory, and closed or used the pipes. */
static int makes_sense(const struct frame *answer, uint16_t id, uint32_t sequence,
		       const struct worker *child)
{
	if (!answer || answer->sequence != sequence || server->answers.size > server->answers.done)
		return 0;
	if (child && answer->type == FRAME_FORKED)
		return answer->size == sizeof(struct forked);
	return answer->worker == id && (answer->type == FRAME_SPAWNED ||
					answer->type == FRAME_RESULT || answer->type == FRAME_ERROR);
}

static void read_answer(uint16_t id)
{
	struct worker *worker = &server->workers[id], *child = unborn(worker->sequence);
	const struct frame *answer;
	const char *wrong = NULL;
	uint32_t sequence = worker->sequence;

	server->answers.size = server->answers.done = 0;
	answer = receive(&server->answers, worker->from);
	if (!answer && errno == ENOMEM)
		fail("no memory for an answer");
	if (!answer && errno != EMSGSIZE) {
		close(worker->from);
		worker->from = -1; /* its pidfd tells the rest */
		return;
	}
	worker->sequence = 0;
	drain_kmsg(); /* what the calls printed comes before their results */
	if (!makes_sense(answer, id, sequence, child)) {
		kill_worker(worker);
		wrong = "the process's answer makes no sense; it was killed";
	} else if (child && answer->type == FRAME_FORKED) {
		struct forked forked;

		memcpy(&forked, answer + 1, sizeof(forked));
		id = (uint16_t)(child - server->workers);
		wrong = adopt(child, &forked);
		if (!wrong)
			to_host(FRAME_SPAWNED, id, sequence, &forked.spawned, sizeof(forked.spawned));
	} else {
		if (child)
			remove_worker(child); /* it was not to be */
		if (write_all(host_out, answer, sizeof(*answer) + answer->size))
			leave(0);
	}
	if (wrong)
		error(id, sequence, wrong);
}

/* PID 1 inherits what tests have forked by themselves. */
static void reap_strays(void)
{
	siginfo_t stray = { 0 };

	while (!waitid(P_ALL, 0, &stray, WEXITED | WNOHANG | WNOWAIT) && stray.si_pid) {
		for (unsigned int i = 0; i < server->lives; i++)
			if (server->workers[server->live[i]].pid == stray.si_pid)
				return; /* its own burial is next, and looks again */
		waitpid(stray.si_pid, NULL, 0);
		stray.si_pid = 0;
	}
}

static void bury(uint16_t id)
{
	struct worker *worker = &server->workers[id], *child = unborn(worker->sequence);
	int status = 0;

	if (child)
		remove_worker(child); /* a fork that it did not get to */
	waitpid(worker->pid, &status, 0);
	drain_kmsg();
	to_host(worker->ending ? FRAME_ENDED : FRAME_DIED, id,
		worker->ending ? worker->ending : worker->sequence, &status, sizeof(status));
	close(worker->pidfd);
	close(worker->to);
	if (worker->from >= 0)
		close(worker->from);
	remove_worker(worker);
	reap_strays();
}

static _Noreturn void serve(void)
{
	struct pollfd *entry = server->entry;
	uint16_t *owner = server->owner;

	for (;;) {
		nfds_t count = 2;

		entry[0] = (struct pollfd){ .fd = host_in, .events = POLLIN };
		entry[1] = (struct pollfd){ .fd = kmsg, .events = POLLIN };
		/* answers before deaths: a worker may answer and then die */
		for (int deaths = 0; deaths < 2; deaths++)
			for (unsigned int i = 0; i < server->lives; i++) {
				const struct worker *worker = &server->workers[server->live[i]];
				int fd = deaths ? worker->pidfd : worker->from;

				if (worker->pid <= 0 || fd < 0)
					continue;
				owner[count] = server->live[i];
				entry[count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
			}
		if (poll(entry, count, -1) < 0) {
			if (errno == EINTR)
				continue;
			fail("poll: %s", strerror(errno));
		}
		if (entry[1].revents & POLLIN)
			drain_kmsg();
		for (nfds_t i = 2; i < count; i++) {
			struct worker *worker = &server->workers[owner[i]];

			if (!entry[i].revents || worker->pid <= 0)
				continue;
			if (entry[i].fd == worker->from)
				read_answer(owner[i]);
			else if (entry[i].fd == worker->pidfd)
				bury(owner[i]);
		}
		/* A virtio port says POLLHUP while the host is not there. */
		if (entry[0].revents & (POLLIN | POLLERR | POLLHUP))
			read_requests();
	}
}

/* ---- the start ---- */

static void want_descriptors(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur >= MIN_FDS)
		return;
	limit.rlim_cur = MIN_FDS;
	if (limit.rlim_max < MIN_FDS)
		limit.rlim_max = MIN_FDS;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		fail("it needs %d file descriptors and may not have them (ulimit -n %d): %s",
		     MIN_FDS, MIN_FDS, strerror(errno));
}

static void say_hello(FILE *text)
{
	struct utsname name;

	uname(&name);
	fprintf(text, "protocol=%u\nrelease=%s\nversion=%s\nmachine=%s\npid=%d\n",
		PROTOCOL_VERSION, name.release, name.version, name.machine, getpid());
	fprintf(text, "page_size=%ld\ncpus=%ld\n", sysconf(_SC_PAGESIZE),
		sysconf(_SC_NPROCESSORS_ONLN));
	fprintf(text, "kmsg=%d\n", kmsg >= 0);
#define S(name) fprintf(text, "nr." #name "=%d\n", SYS_##name);
	SYSCALLS(S)
#undef S
	for (size_t i = 0; i < agent_layout_entries; i++)
		fprintf(text, "layout.%s=%lu\n", agent_layout[i].name, agent_layout[i].value);
}

int main(int argc, char **argv)
{
	struct frame head = { .type = FRAME_HELLO };
	char *text = NULL;
	size_t size = 0;
	FILE *hello = open_memstream(&text, &size);

	if (getpid() != 1 && (argc != 2 || strcmp(argv[1], "--stdio"))) {
		fprintf(stderr, "usage: agent --stdio, or as PID 1 of a guest\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	on_crashes(crashed);
	want_descriptors();
	server = not_forked(sizeof(*server));
	if (!hello || !server)
		fail("no memory to start with");
	fwrite(&head, sizeof(head), 1, hello);
	if (getpid() == 1) {
		host_in = boot(hello);
		host_out = host_in;
	} else {
		signal(SIGTERM, leave);
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		host_in = dup(0);
		host_out = dup(1);
		/* nothing that a library prints may get into the stream */
		dup2(2, 1);
	}
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg >= 0 && getpid() != 1)
		lseek(kmsg, 0, SEEK_END);
	say_hello(hello);
	if (fclose(hello))
		fail("no memory");
	((struct frame *)text)->size = (uint32_t)(size - sizeof(head));
	if (write_all(host_out, text, size))
		leave(0);
	free(text);
	serve();
}
