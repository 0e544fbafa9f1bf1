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
#include <sys/mman.h>
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
	pid_t pid;	    /* 0: this slot is free */
	int pidfd, to, from;
	int theirs[2];	    /* a fork's ends, until the child has opened them */
	uint32_t sequence;  /* of the request it works on, 0 when idle */
	uint32_t ending;    /* sequence of the END, 0 when none */
	int is_child;	    /* ours to reap */
};

static struct worker workers[MAX_WORKERS];
static int host_in, host_out, kmsg = -1;

struct fork_order {
	uint32_t child;
	uint32_t server;
	uint32_t request, reply; /* fds of the server */
};

static _Noreturn void serve_worker(uint16_t id, int in, int out);

/* ---- in a worker's process ---- */

static void *map_arena(void)
{
	void *arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);

	if (arena == MAP_FAILED)
		_exit(72);
	return arena;
}

static void *worker_arena;

static int announce(uint16_t id, int out, uint32_t sequence)
{
	struct spawned spawned = { .pid = (uint32_t)getpid(),
				   .arena_size = ARENA_SIZE,
				   .arena = (uint64_t)(uintptr_t)worker_arena };

	return send_frame(out, FRAME_SPAWNED, id, sequence, &spawned, sizeof(spawned));
}

static int open_server_fd(const struct fork_order *order, uint32_t fd, int mode)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%u/fd/%u", order->server, fd);
	return open(path, mode);
}

static void worker_fork(uint16_t id, const struct frame *head, const struct fork_order *order,
			int in, int out)
{
	int child_in, child_out;
	pid_t pid;

	/* Opened here, so that a failure is told by the one who can tell it. */
	child_in = open_server_fd(order, order->request, O_RDONLY);
	child_out = open_server_fd(order, order->reply, O_WRONLY);
	pid = child_in < 0 || child_out < 0 ? -1 : fork();
	if (pid < 0) {
		char text[128];
		int size = snprintf(text, sizeof(text), "cannot fork this process: %s",
				    strerror(errno));

		send_frame(out, FRAME_ERROR, id, head->sequence, text, (size_t)size);
	}
	if (pid == 0) {
		close(in);
		close(out);
		if (announce((uint16_t)order->child, child_out, head->sequence))
			_exit(73);
		serve_worker((uint16_t)order->child, child_in, child_out);
	}
	close(child_in);
	close(child_out);
}

/* Out of the way of what a test opens, and of what closes all of that. */
static int moved(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, WORKER_FDS);

	close(fd);
	return high;
}

static _Noreturn void serve_worker(uint16_t id, int in, int out)
{
	prctl(PR_SET_NAME, "worker");
	in = moved(in);
	out = moved(out);
	for (;;) {
		struct buffer answer = { 0 };
		const char *wrong;
		struct frame head;
		unsigned char *text;

		if (read_all(in, &head, sizeof(head)))
			_exit(0); /* the server has gone */
		text = malloc((size_t)head.size + 1);
		if (!text || read_all(in, text, head.size))
			_exit(74);
		if (head.type == FRAME_FORK) {
			struct fork_order order;

			memcpy(&order, text, sizeof(order));
			worker_fork(id, &head, &order, in, out);
			free(text);
			continue;
		}
		wrong = head.type == FRAME_RUN ?
				program_run(text, head.size, &answer) :
				program_run_parallel(text, head.size, &answer);
		if (wrong)
			send_frame(out, FRAME_ERROR, id, head.sequence, wrong, strlen(wrong));
		else
			send_frame(out, FRAME_RESULT, id, head.sequence, answer.data, answer.size);
		free(answer.data);
		free(text);
	}
}

/* ---- in the server ---- */

/* A fork that hangs in a call does not see that the stream has ended. */
static _Noreturn void leave(int status)
{
	for (unsigned int i = 0; i < MAX_WORKERS; i++)
		if (workers[i].pid > 0)
			kill(workers[i].pid, SIGKILL);
	_exit(status);
}

static void to_host(uint16_t type, uint16_t id, uint32_t sequence, const void *data, size_t size)
{
	if (send_frame(host_out, type, id, sequence, data, size))
		leave(0); /* nobody listens any more */
}

static void error(const struct frame *head, const char *text)
{
	to_host(FRAME_ERROR, head->worker, head->sequence, text, strlen(text));
}

static void drain_kmsg(void)
{
	char record[8192];

	while (kmsg >= 0) {
		ssize_t size = read(kmsg, record, sizeof(record));

		if (size > 0)
			to_host(FRAME_KMSG, 0, 0, record, (size_t)size);
		else if (size < 0 && (errno == EINTR || errno == EPIPE))
			continue; /* EPIPE: records were overwritten, go on with the next */
		else
			return;
	}
}

static int open_pipes(int request[2], int reply[2])
{
	if (pipe(request))
		return -1;
	if (pipe(reply)) {
		close(request[0]);
		close(request[1]);
		return -1;
	}
	return 0;
}

static void close_servers_fds(void)
{
	close(host_in);
	close(host_out);
	if (kmsg >= 0)
		close(kmsg);
	for (unsigned int i = 0; i < MAX_WORKERS; i++) {
		if (!workers[i].pid)
			continue;
		close(workers[i].pidfd);
		close(workers[i].to);
		close(workers[i].from);
	}
}

static int pidfd_of(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static void spawn(const struct frame *head)
{
	struct worker *worker = &workers[head->worker];
	int request[2], reply[2];
	pid_t pid;

	if (open_pipes(request, reply)) {
		error(head, "cannot spawn: no pipe");
		return;
	}
	pid = fork();
	if (pid == 0) {
		close_servers_fds();
		close(request[1]);
		close(reply[0]);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGTERM, SIG_DFL);
		worker_arena = map_arena();
		program_catch_faults();
		if (announce(head->worker, reply[1], head->sequence))
			_exit(73);
		serve_worker(head->worker, request[0], reply[1]);
	}
	close(request[0]);
	close(reply[1]);
	if (pid < 0) {
		close(request[1]);
		close(reply[0]);
		error(head, "cannot spawn: fork failed");
		return;
	}
	*worker = (struct worker){ .pid = pid,
				   .pidfd = pidfd_of(pid),
				   .to = request[1],
				   .from = reply[0],
				   .theirs = { -1, -1 },
				   .sequence = head->sequence,
				   .is_child = 1 };
}

static void forward(struct worker *worker, const struct frame *head, const void *text)
{
	worker->sequence = head->sequence;
	/* A worker that has just died is reported by its pidfd. */
	(void)send_frame(worker->to, head->type, head->worker, head->sequence, text, head->size);
}

static void fork_worker(const struct frame *head, uint32_t child)
{
	struct worker *parent = &workers[head->worker];
	struct worker *worker = &workers[child];
	int request[2], reply[2];
	struct fork_order order;
	struct frame relayed = *head;

	if (open_pipes(request, reply)) {
		error(head, "cannot fork: no pipe");
		return;
	}
	order = (struct fork_order){ .child = child,
				     .server = (uint32_t)getpid(),
				     .request = (uint32_t)request[0],
				     .reply = (uint32_t)reply[1] };
	*worker = (struct worker){ .pid = -1, /* known when it says so */
				   .pidfd = -1,
				   .to = request[1],
				   .from = reply[0],
				   .theirs = { request[0], reply[1] },
				   .sequence = head->sequence };
	relayed.size = sizeof(order);
	forward(parent, &relayed, &order);
}

static void free_worker(struct worker *worker)
{
	for (int i = 0; i < 2; i++)
		if (worker->theirs[i] >= 0)
			close(worker->theirs[i]);
	if (worker->pidfd >= 0)
		close(worker->pidfd);
	close(worker->to);
	close(worker->from);
	*worker = (struct worker){ 0 };
}

static void request(const struct frame *head, const unsigned char *text)
{
	struct worker *worker;
	uint32_t child = 0;

	if (head->worker >= MAX_WORKERS) {
		error(head, "a worker number that is too high");
		return;
	}
	worker = &workers[head->worker];
	if (head->type < FRAME_SPAWN || head->type > FRAME_LAST_REQUEST) {
		error(head, "a request of no known type");
	} else if (head->sequence == 0) {
		error(head, "a request without a sequence number");
	} else if (head->type == FRAME_LOG) {
		drain_kmsg();
		to_host(FRAME_LOGGED, 0, head->sequence, NULL, 0);
	} else if (head->type == FRAME_SPAWN) {
		if (worker->pid)
			error(head, "a spawn of a worker that exists");
		else
			spawn(head);
	} else if (!worker->pid && head->type == FRAME_END) {
		uint32_t status = NO_STATUS;

		drain_kmsg();
		to_host(FRAME_ENDED, head->worker, head->sequence, &status, sizeof(status));
	} else if (!worker->pid) {
		error(head, "a request to a worker that does not exist");
	} else if (head->type == FRAME_END) {
		worker->ending = head->sequence;
		if (worker->pid > 0)
			kill(worker->pid, SIGKILL);
	} else if (worker->sequence) {
		error(head, "a request to a worker that is busy");
	} else if (head->type == FRAME_FORK) {
		if (head->size == sizeof(child))
			memcpy(&child, text, sizeof(child));
		if (head->size != sizeof(child) || child >= MAX_WORKERS || workers[child].pid)
			error(head, "a fork to a worker that exists or cannot");
		else
			fork_worker(head, child);
	} else {
		forward(worker, head, text);
	}
}

/* 0, or -1 when the stream has ended. */
static int read_request(void)
{
	struct frame head;
	unsigned char *text;

	if (read_all(host_in, &head, sizeof(head)))
		return -1;
	if (head.size > MAX_FRAME) {
		error(&head, "a frame that is too large");
		return -1; /* nothing after it can be trusted */
	}
	text = malloc((size_t)head.size + 1);
	if (!text || read_all(host_in, text, head.size))
		return -1;
	request(&head, text);
	free(text);
	return 0;
}

static void read_answer(uint16_t id)
{
	struct worker *worker = &workers[id];
	struct frame head;
	unsigned char *text;

	if (read_all(worker->from, &head, sizeof(head))) {
		close(worker->from);
		worker->from = -1; /* its pidfd tells the rest */
		return;
	}
	text = malloc((size_t)head.size + 1);
	if (!text)
		abort();
	if (!read_all(worker->from, text, head.size)) {
		struct worker *asked = worker;

		if (head.type == FRAME_SPAWNED && worker->pid < 0) {
			struct spawned spawned;

			memcpy(&spawned, text, sizeof(spawned));
			worker->pid = (pid_t)spawned.pid;
			worker->pidfd = pidfd_of(worker->pid);
			for (int i = 0; i < 2; i++) {
				close(worker->theirs[i]);
				worker->theirs[i] = -1;
			}
			/* its parent was busy with the same request */
			for (unsigned int i = 0; i < MAX_WORKERS; i++)
				if (workers[i].sequence == head.sequence)
					workers[i].sequence = 0;
		} else if (head.type == FRAME_ERROR) {
			/* a fork that failed leaves a slot that nobody will fill */
			for (unsigned int i = 0; i < MAX_WORKERS; i++)
				if (workers[i].pid < 0 && workers[i].sequence == head.sequence)
					free_worker(&workers[i]);
		}
		asked->sequence = 0;
		drain_kmsg(); /* what the calls printed comes before their results */
		to_host(head.type, id, head.sequence, text, head.size);
	}
	free(text);
}

static int is_worker(pid_t pid)
{
	for (unsigned int i = 0; i < MAX_WORKERS; i++)
		if (workers[i].pid == pid)
			return 1;
	return 0;
}

/* PID 1 inherits forks whose parent has ended. */
static void reap_strays(void)
{
	siginfo_t stray = { 0 };

	if (getpid() != 1)
		return;
	while (!waitid(P_ALL, 0, &stray, WEXITED | WNOHANG | WNOWAIT) && stray.si_pid) {
		if (is_worker(stray.si_pid))
			return; /* its own burial is next, and looks again */
		waitpid(stray.si_pid, NULL, 0);
		stray.si_pid = 0;
	}
}

static void bury(uint16_t id)
{
	struct worker *worker = &workers[id];
	uint32_t status = NO_STATUS;
	int raw;

	if (worker->is_child && waitpid(worker->pid, &raw, 0) == worker->pid)
		status = (uint32_t)raw;
	drain_kmsg();
	/* a fork that it did not get to */
	for (unsigned int i = 0; i < MAX_WORKERS; i++)
		if (workers[i].pid < 0 && workers[i].sequence == worker->sequence)
			free_worker(&workers[i]);
	if (worker->ending)
		to_host(FRAME_ENDED, id, worker->ending, &status, sizeof(status));
	else
		to_host(FRAME_DIED, id, worker->sequence, &status, sizeof(status));
	free_worker(worker);
	reap_strays();
}

static _Noreturn void serve(void)
{
	static struct pollfd entry[2 + 2 * MAX_WORKERS];
	static uint16_t owner[2 + 2 * MAX_WORKERS];

	for (;;) {
		nfds_t count = 2;

		entry[0] = (struct pollfd){ .fd = host_in, .events = POLLIN };
		entry[1] = (struct pollfd){ .fd = kmsg, .events = POLLIN };
		/* answers before deaths: a worker may answer and then die */
		for (int deaths = 0; deaths < 2; deaths++)
			for (uint16_t i = 0; i < MAX_WORKERS; i++) {
				int fd = deaths ? workers[i].pidfd : workers[i].from;

				if (!workers[i].pid || fd < 0)
					continue;
				owner[count] = i;
				entry[count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
			}
		if (poll(entry, count, -1) < 0) {
			if (errno == EINTR)
				continue;
			leave(1);
		}
		if (entry[1].revents & POLLIN)
			drain_kmsg();
		for (nfds_t i = 2; i < count; i++) {
			struct worker *worker = &workers[owner[i]];

			if (!entry[i].revents || !worker->pid)
				continue;
			if (entry[i].fd == worker->from)
				read_answer(owner[i]);
			else if (entry[i].fd == worker->pidfd)
				bury(owner[i]);
		}
		/* A virtio port says POLLHUP while the host is not there. */
		if ((entry[0].revents & (POLLIN | POLLERR | POLLHUP)) && read_request())
			leave(0);
	}
}

static void hello(struct buffer *text)
{
	struct utsname name;

	uname(&name);
	say(text, "protocol=%u\nrelease=%s\nversion=%s\nmachine=%s\npid=%d\n", PROTOCOL_VERSION,
	    name.release, name.version, name.machine, getpid());
	say(text, "page_size=%ld\ncpus=%ld\n", sysconf(_SC_PAGESIZE),
	    sysconf(_SC_NPROCESSORS_ONLN));
	say(text, "kmsg=%d\n", kmsg >= 0);
#define S(name) say(text, "nr." #name "=%d\n", SYS_##name);
	SYSCALLS(S)
#undef S
	for (size_t i = 0; i < agent_layout_entries; i++)
		say(text, "layout.%s=%lu\n", agent_layout[i].name, agent_layout[i].value);
}

int main(int argc, char **argv)
{
	struct buffer text = { 0 };

	signal(SIGPIPE, SIG_IGN);
	if (getpid() == 1) {
		host_in = boot(&text);
		host_out = host_in;
	} else if (argc == 2 && !strcmp(argv[1], "--stdio")) {
		signal(SIGTERM, leave);
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		host_in = dup(0);
		host_out = dup(1);
		/* nothing that a library prints may get into the stream */
		dup2(2, 1);
	} else {
		fprintf(stderr, "usage: agent --stdio, or as PID 1 of a guest\n");
		return 2;
	}
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg >= 0 && getpid() != 1)
		lseek(kmsg, 0, SEEK_END);
	hello(&text);
	to_host(FRAME_HELLO, 0, 0, text.data, text.size);
	free(text.data);
	serve();
}
