// SPDX-License-Identifier: GPL-2.0-only
/*
 * A process that makes the calls it is asked to make, and forks itself.
 *
 * Its pipes lead to the server. A fork makes pipes of its own and the server
 * takes its ends from there (pidfd_getfd): the fork may have given up all
 * rights to the server, and a kernel may have no sockets to pass them by.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *arena;
static struct inbox inbox;

static void *reserve(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static struct spawned self(void)
{
	return (struct spawned){ .pid = (uint32_t)getpid(),
				 .arena_size = ARENA_SIZE,
				 .arena = (uint64_t)(uintptr_t)arena };
}

static void refuse(int out, uint16_t id, uint32_t sequence, struct refusal refusal)
{
	char text[MAX_TEXT];
	int size = snprintf(text, sizeof(text), "%s%s%s", refusal.what, refusal.why ? ": " : "",
			    refusal.why ? strerror(refusal.why) : "");

	send_frame(out, FRAME_ERROR, id, sequence, text, (size_t)size);
}

/* The ends: to read requests, the server's for them, the server's for answers, to answer. */
static int open_pipes(int end[4])
{
	struct rlimit limit = more_fds();
	int wrong = pipe(end) || pipe(end + 2) ? errno : 0;

	for (int i = 0; i < 4 && !wrong; i++) {
		end[i] = moved(end[i]);
		wrong = end[i] < 0 ? errno : 0;
	}
	setrlimit(RLIMIT_NOFILE, &limit);
	return wrong;
}

static void answer_programs(uint16_t id, const struct frame *request, int out)
{
	struct frame *answer = NULL;
	struct refusal refusal = program_answer(request, &answer);

	if (refusal.what)
		refuse(out, id, request->sequence, refusal);
	else
		write_all(out, answer, sizeof(*answer) + answer->size);
	free(answer);
}

static _Noreturn void serve(uint16_t id, int in, int out, int to, int from);

static void fork_self(uint16_t id, const struct frame *request, int in, int out)
{
	/* a sibling: its end, too, is told to the server */
	struct clone_args how = { .flags = CLONE_PARENT };
	const uint32_t sequence = request->sequence;
	struct forked forked;
	uint32_t child;
	int end[4], wrong;
	long pid;

	memcpy(&child, request + 1, sizeof(child));
	pid = syscall(SYS_clone3, &how, sizeof(how));
	if (pid > 0)
		return;
	wrong = pid < 0 ? errno : open_pipes(end);
	if (wrong) {
		refuse(out, id, sequence, (struct refusal){ "cannot fork this process", wrong });
		if (pid < 0)
			return;
		_exit(1);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	forked = (struct forked){ .spawned = self(), .to = end[1], .from = end[2] };
	if (send_frame(out, FRAME_FORKED, (uint16_t)child, sequence, &forked, sizeof(forked)))
		_exit(0);
	close(in);
	close(out);
	inbox.size = inbox.done = 0;
	serve((uint16_t)child, end[0], end[3], end[1], end[2]);
}

/* The last two are the server's ends, which it has when it asks for something. */
static void serve(uint16_t id, int in, int out, int to, int from)
{
	for (;;) {
		const struct frame *request = receive(&inbox, in);

		if (!request)
			_exit(0); /* the server has gone */
		if (to >= 0) {
			close(to);
			close(from);
			to = from = -1;
		}
		if (request->type == FRAME_FORK)
			fork_self(id, request, in, out);
		else
			answer_programs(id, request, out);
	}
}

void worker_main(uint16_t id, uint32_t sequence, int in, int out)
{
	struct spawned spawned;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "worker");
	program_catch_faults();
	/* all room at once: what grows later may come to lie where a test has unmapped something */
	inbox.room = sizeof(struct frame) + MAX_FRAME;
	inbox.data = reserve(inbox.room);
	arena = reserve(ARENA_SIZE);
	if (!inbox.data || !arena) {
		refuse(out, id, sequence, (struct refusal){ "cannot spawn: no memory", errno });
		_exit(1);
	}
	spawned = self();
	in = moved(in);
	out = moved(out);
	syscall(SYS_close_range, 3, WORKER_FDS - 1, 0); /* what is the server's */
	if (send_frame(out, FRAME_SPAWNED, id, sequence, &spawned, sizeof(spawned)))
		_exit(0);
	serve(id, in, out, -1, -1);
}
