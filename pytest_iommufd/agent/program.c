// SPDX-License-Identifier: GPL-2.0-only
/*
 * Checks and runs programs: lists of system calls, and of writes, reads and
 * copies in this process's memory. All of a request is checked before any of
 * it runs, each length against what is left, so that bad input ends in a
 * sentence, and how large an answer can get is known.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct reader {
	const unsigned char *at;
	size_t left;
};

static int take(struct reader *reader, void *into, size_t size)
{
	if (size > reader->left)
		return -1;
	if (into)
		memcpy(into, reader->at, size);
	reader->at += size;
	reader->left -= size;
	return 0;
}

static size_t padded(size_t size)
{
	return (size + 7) & ~(size_t)7;
}

/* Tests read and write memory that they have unmapped on purpose. */
static _Thread_local sigjmp_buf fault_return;
static _Thread_local volatile sig_atomic_t fault_expected;

static void on_fault(int signal_number)
{
	if (fault_expected)
		siglongjmp(fault_return, 1);
	signal(signal_number, SIG_DFL);
	raise(signal_number);
}

void program_catch_faults(void)
{
	struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

/* The memory is wherever the program says it is, at a null pointer too: no checks here. */
__attribute__((no_sanitize("address"), no_sanitize("undefined"))) static int
copy_guarded(void *to, const void *from, size_t size)
{
	volatile unsigned char *target = to;
	const volatile unsigned char *source = from;

	if (sigsetjmp(fault_return, 1)) {
		fault_expected = 0;
		return -1;
	}
	fault_expected = 1;
	for (size_t i = 0; i < size; i++)
		target[i] = source[i];
	fault_expected = 0;
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- before anything runs ---- */

struct program {
	const unsigned char *ops; /* checked */
	uint32_t count;
	unsigned char *answer; /* where its results go */
	size_t size;	       /* of its results: at most, and in the end */
};

static const char *check_op(const struct op *op)
{
	static const uint8_t arguments[] = {
		[OP_WRITE] = 1, [OP_READ] = 1, [OP_COPY] = 2
	};

	if (op->kind < OP_SYSCALL || op->kind > OP_COPY)
		return "an op of no known kind";
	if (op->kind == OP_SYSCALL ? op->argc > 6 : op->argc != arguments[op->kind])
		return "an op with the wrong number of arguments";
	if (op->kind != OP_SYSCALL && op->aux > MAX_FRAME)
		return "an op over too many bytes";
	if (op->repeat < 1 || op->repeat > MAX_REPEAT)
		return "an op repeated zero or too many times";
	if (op->flags & ~OP_MUST)
		return "an op with an unknown flag";
	return NULL;
}

static size_t most_extra(const struct op *op)
{
	if (op->kind == OP_READ)
		return op->aux;
	if (op->kind != OP_SYSCALL)
		return 0;
	return op->repeat * ((op->fail_nth ? sizeof(uint32_t) : 0) +
			     (op->repeat > 1 ? sizeof(uint64_t) : 0));
}

/* NULL, or what is wrong with it. The size of all answers together is bounded. */
static const char *check(struct program *program, struct reader reader, size_t *answers)
{
	uint32_t count[2];

	if (take(&reader, count, sizeof(count)))
		return "a program without a length";
	if (count[0] > MAX_OPS)
		return "a program of too many ops";
	program->ops = reader.at;
	program->count = count[0];
	for (uint32_t index = 0; index < count[0]; index++) {
		const char *wrong;
		struct op op;

		if (take(&reader, &op, sizeof(op)))
			return "a program that ends inside an op";
		wrong = check_op(&op);
		if (wrong)
			return wrong;
		for (unsigned int i = 0; i < op.argc; i++) {
			struct arg arg;

			if (take(&reader, &arg, sizeof(arg)))
				return "a program that ends inside an argument";
			if (arg.kind == ARG_RESULT && arg.op >= index)
				return "an argument that refers to a later op";
			if (arg.kind != ARG_RESULT && arg.kind != ARG_CONST)
				return "an argument of no known kind";
		}
		if (op.kind == OP_WRITE && take(&reader, NULL, padded(op.aux)))
			return "a program that ends inside the bytes to write";
		program->size += sizeof(struct result) + padded(most_extra(&op));
		if (*answers + program->size > MAX_FRAME)
			return "a program whose answer is too large";
	}
	if (reader.left)
		return "a program with bytes after its last op";
	*answers += program->size;
	return NULL;
}

/* ---- one program ---- */

#define NO_FAULTS "cannot inject faults by fail-nth"

/* Fault injection counts allocations of this thread only, so each has a file of its own. */
static int fail_nth_open(void)
{
	struct rlimit limit = more_fds();
	int fd = moved(open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC));
	int wrong = errno;

	setrlimit(RLIMIT_NOFILE, &limit);
	errno = wrong;
	return fd;
}

static int fail_nth_set(int fd, uint32_t nth)
{
	char text[16];
	int size = snprintf(text, sizeof(text), "%u", nth);

	return pwrite(fd, text, (size_t)size, 0) < 0 ? -1 : 0;
}

/* How many points were left to count; -1 when it cannot be told. */
static int fail_nth_end(int fd, uint32_t *left)
{
	char text[16] = "";

	if (pread(fd, text, sizeof(text) - 1, 0) < 0 || fail_nth_set(fd, 0))
		return -1;
	*left = (uint32_t)strtoul(text, NULL, 10);
	return 0;
}

static struct refusal call(const struct op *op, const uint64_t *arg, int *fail_fd,
			   struct result *result, unsigned char *extra)
{
	if (op->fail_nth && *fail_fd < 0) {
		*fail_fd = fail_nth_open();
		if (*fail_fd < 0)
			return (struct refusal){ NO_FAULTS, errno };
	}
	for (uint32_t i = 0; i < op->repeat; i++) {
		uint64_t start, ns;
		uint32_t left;
		long ret;
		int err;

		if (op->fail_nth && fail_nth_set(*fail_fd, op->fail_nth))
			return (struct refusal){ NO_FAULTS, errno };
		start = now_ns();
		errno = 0;
		ret = syscall((long)op->aux, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
		err = errno;
		ns = now_ns() - start;
		if (op->fail_nth) {
			if (fail_nth_end(*fail_fd, &left))
				return (struct refusal){ NO_FAULTS, errno };
			memcpy(extra + result->extra, &left, sizeof(left));
			result->extra += sizeof(left);
		}
		if (op->repeat > 1) {
			memcpy(extra + result->extra, &ns, sizeof(ns));
			result->extra += sizeof(ns);
		}
		if (i == 0)
			result->ns = ns;
		result->ret = ret;
		result->err = ret == -1 ? (uint32_t)err : 0;
	}
	return (struct refusal){ 0 };
}

/* Its results are behind each other, each with its extra bytes. */
static struct refusal run_ops(struct program *program, int64_t *returned)
{
	struct reader reader = { .at = program->ops, .left = SIZE_MAX };
	struct refusal refusal = { 0 };
	unsigned char *out = program->answer;
	int stopped = 0, fail_fd = -1;

	for (uint32_t index = 0; index < program->count && !refusal.what; index++) {
		unsigned char *extra = out + sizeof(struct result);
		struct result result = { 0 };
		uint64_t value[6] = { 0 };
		const unsigned char *blob;
		struct op op;

		take(&reader, &op, sizeof(op));
		for (unsigned int i = 0; i < op.argc; i++) {
			struct arg arg;

			take(&reader, &arg, sizeof(arg));
			value[i] = arg.value;
			if (arg.kind == ARG_RESULT)
				value[i] += (uint64_t)returned[arg.op];
		}
		blob = reader.at;
		if (op.kind == OP_WRITE)
			take(&reader, NULL, padded(op.aux));

		if (stopped) {
			result.ret = -1;
			result.err = ECANCELED;
		} else if (op.kind == OP_SYSCALL) {
			refusal = call(&op, value, &fail_fd, &result, extra);
		} else {
			void *to = op.kind == OP_READ ? extra : (void *)(uintptr_t)value[0];
			const void *from = op.kind == OP_WRITE ?
						   blob :
						   (void *)(uintptr_t)value[op.kind == OP_COPY];

			if (copy_guarded(to, from, op.aux)) {
				result.ret = -1;
				result.err = EFAULT;
			} else if (op.kind == OP_READ) {
				result.extra = op.aux;
			}
		}
		if ((op.flags & OP_MUST) && result.ret == -1)
			stopped = 1;
		returned[index] = result.ret;
		memcpy(out, &result, sizeof(result));
		memset(extra + result.extra, 0, padded(result.extra) - result.extra);
		out = extra + padded(result.extra);
	}
	program->size = (size_t)(out - program->answer);
	if (fail_fd >= 0)
		close(fail_fd);
	return refusal;
}

static struct refusal run(struct program *program, pthread_barrier_t *barrier)
{
	int64_t *returned = calloc(program->count + 1, sizeof(*returned));
	struct refusal refusal = { returned ? NULL : "no memory for a program", 0 };

	if (barrier)
		pthread_barrier_wait(barrier);
	if (returned)
		refusal = run_ops(program, returned);
	free(returned);
	return refusal;
}

/* ---- several, together ---- */

struct team {
	pthread_mutex_t made; /* held until all threads are */
	pthread_barrier_t barrier;
	int incomplete;
};

struct thread {
	pthread_t id;
	unsigned int index;
	struct team *team;
	struct program *program;
	struct refusal refusal;
};

static void *thread_main(void *argument)
{
	struct thread *thread = argument;
	cpu_set_t one;

	pthread_mutex_lock(&thread->team->made);
	pthread_mutex_unlock(&thread->team->made);
	if (thread->team->incomplete)
		return NULL;
	/* each on a CPU of its own as far as they go, or there is no race */
	CPU_ZERO(&one);
	CPU_SET(thread->index % (unsigned int)sysconf(_SC_NPROCESSORS_ONLN), &one);
	sched_setaffinity(0, sizeof(one), &one);
	thread->refusal = run(thread->program, &thread->team->barrier);
	return NULL;
}

/* All programs start together, each in a thread of its own. */
static struct refusal run_parallel(struct program *program, uint32_t count)
{
	struct team team = { .made = PTHREAD_MUTEX_INITIALIZER };
	struct thread thread[MAX_THREADS] = { 0 };
	struct refusal refusal = { 0 };
	uint32_t made;

	pthread_barrier_init(&team.barrier, NULL, count);
	pthread_mutex_lock(&team.made);
	for (made = 0; made < count; made++) {
		thread[made].index = made;
		thread[made].team = &team;
		thread[made].program = &program[made];
		refusal.why = pthread_create(&thread[made].id, NULL, thread_main, &thread[made]);
		if (refusal.why) {
			refusal.what = "no thread for each program";
			team.incomplete = 1;
			break;
		}
	}
	pthread_mutex_unlock(&team.made);
	for (uint32_t i = 0; i < made; i++) {
		pthread_join(thread[i].id, NULL);
		if (!refusal.what)
			refusal = thread[i].refusal;
	}
	pthread_barrier_destroy(&team.barrier);
	return refusal;
}

/* ---- a request ---- */

static const char *check_parallel(struct program *program, struct reader reader, uint32_t *count,
				  size_t *answers)
{
	const char *wrong = NULL;
	struct reader part[MAX_THREADS];

	if (take(&reader, count, sizeof(*count)) || *count == 0 || *count > MAX_THREADS)
		return "a parallel run of no or too many programs";
	for (uint32_t i = 0; i < *count; i++) {
		uint32_t length;

		if (take(&reader, &length, sizeof(length)))
			return "a parallel run that ends inside a length";
		part[i] = (struct reader){ .at = reader.at, .left = length };
		if (take(&reader, NULL, length))
			return "a parallel run that ends inside a program";
	}
	if (reader.left)
		return "a parallel run with bytes after its last program";
	for (uint32_t i = 0; i < *count && !wrong; i++)
		wrong = check(&program[i], part[i], answers);
	return wrong;
}

struct refusal program_answer(const struct frame *request, struct frame **answer)
{
	struct reader reader = { .at = (const unsigned char *)(request + 1),
				 .left = request->size };
	struct program program[MAX_THREADS];
	struct refusal refusal = { 0 };
	uint32_t count = 1;
	size_t answers = 0, used = 0;
	unsigned char *at;

	memset(program, 0, sizeof(*program) * (request->type == FRAME_RUN ? 1 : MAX_THREADS));
	refusal.what = request->type == FRAME_RUN ?
			       check(program, reader, &answers) :
			       check_parallel(program, reader, &count, &answers);
	if (refusal.what)
		return refusal;
	*answer = malloc(sizeof(**answer) + answers);
	if (!*answer)
		return (struct refusal){ "no memory for the answer", ENOMEM };
	at = (unsigned char *)(*answer + 1);
	for (uint32_t i = 0; i < count; i++) {
		program[i].answer = at;
		at += program[i].size;
	}
	refusal = request->type == FRAME_RUN ? run(program, NULL) : run_parallel(program, count);
	/* the results are often shorter than they might be */
	at = (unsigned char *)(*answer + 1);
	for (uint32_t i = 0; i < count; i++) {
		memmove(at + used, program[i].answer, program[i].size);
		used += program[i].size;
	}
	**answer = *request;
	(*answer)->type = FRAME_RESULT;
	(*answer)->size = (uint32_t)used;
	return refusal;
}
