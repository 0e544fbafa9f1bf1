// SPDX-License-Identifier: GPL-2.0-only
/*
 * Checks and runs a program: a list of system calls, and of writes, reads and
 * copies in this process's memory. A program is checked as it is read, each
 * length against what is left, so that bad input ends in a sentence.
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

/* Fault injection counts allocations of this thread only. */
static int fail_nth_open(void)
{
	return open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
}

static void fail_nth_set(int fd, uint32_t nth)
{
	char text[16];
	int size = snprintf(text, sizeof(text), "%u", nth);

	if (pwrite(fd, text, (size_t)size, 0) < 0)
		_exit(70); /* the next call would run without its fault */
}

static uint32_t fail_nth_left(int fd)
{
	char text[16] = "";

	if (pread(fd, text, sizeof(text) - 1, 0) < 0)
		_exit(70);
	return (uint32_t)strtoul(text, NULL, 10);
}

static void append_result(struct buffer *out, struct result result, const void *extra)
{
	static const unsigned char zero[8];

	buffer_append(out, &result, sizeof(result));
	buffer_append(out, extra, result.extra);
	buffer_append(out, zero, padded(result.extra) - result.extra);
}

static struct result call(const struct op *op, const uint64_t *arg, struct buffer *extra)
{
	struct result result = { 0 };
	int fail_fd = -1;

	if (op->fail_nth) {
		fail_fd = fail_nth_open();
		if (fail_fd < 0) {
			result.ret = -1;
			result.err = ENOSYS;
			return result;
		}
	}
	for (uint32_t i = 0; i < op->repeat; i++) {
		uint64_t start, ns;
		long ret;
		int err;

		if (op->fail_nth)
			fail_nth_set(fail_fd, op->fail_nth);
		start = now_ns();
		errno = 0;
		ret = syscall((long)op->aux, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
		err = errno;
		ns = now_ns() - start;
		if (op->fail_nth) {
			uint32_t left = fail_nth_left(fail_fd);

			fail_nth_set(fail_fd, 0);
			buffer_append(extra, &left, sizeof(left));
		}
		if (op->repeat > 1)
			buffer_append(extra, &ns, sizeof(ns));
		if (i == 0)
			result.ns = ns;
		result.ret = ret;
		result.err = ret == -1 ? (uint32_t)err : 0;
	}
	if (fail_fd >= 0)
		close(fail_fd);
	return result;
}

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

static const char *run_op(struct reader *reader, int64_t *returned, uint32_t index,
			  struct buffer *out, int *stopped)
{
	struct result result = { 0 };
	struct buffer extra = { 0 };
	uint64_t value[6] = { 0 };
	const unsigned char *blob = NULL;
	const char *wrong;
	struct op op;

	if (take(reader, &op, sizeof(op)))
		return "a program that ends inside an op";
	wrong = check_op(&op);
	if (wrong)
		return wrong;
	for (unsigned int i = 0; i < op.argc; i++) {
		struct arg arg;

		if (take(reader, &arg, sizeof(arg)))
			return "a program that ends inside an argument";
		value[i] = arg.value;
		if (arg.kind == ARG_RESULT) {
			if (arg.op >= index)
				return "an argument that refers to a later op";
			value[i] += (uint64_t)returned[arg.op];
		} else if (arg.kind != ARG_CONST) {
			return "an argument of no known kind";
		}
	}
	if (op.kind == OP_WRITE) {
		blob = reader->at;
		if (take(reader, NULL, padded(op.aux)))
			return "a program that ends inside the bytes to write";
	}

	if (*stopped) {
		result.ret = -1;
		result.err = ECANCELED;
	} else if (op.kind == OP_SYSCALL) {
		result = call(&op, value, &extra);
	} else if (op.kind == OP_READ) {
		buffer_append(&extra, NULL, 0);
		extra.data = realloc(extra.data, (size_t)op.aux + 1);
		if (!extra.data)
			abort();
		extra.size = op.aux;
		if (copy_guarded(extra.data, (const void *)(uintptr_t)value[0], op.aux)) {
			extra.size = 0;
			result.err = EFAULT;
		}
	} else {
		const void *from = op.kind == OP_WRITE ? blob :
							 (const void *)(uintptr_t)value[1];

		if (copy_guarded((void *)(uintptr_t)value[0], from, op.aux))
			result.err = EFAULT;
	}
	if (result.err == EFAULT && op.kind != OP_SYSCALL)
		result.ret = -1;
	if ((op.flags & OP_MUST) && result.ret == -1)
		*stopped = 1;
	returned[index] = result.ret;
	result.extra = (uint32_t)extra.size;
	append_result(out, result, extra.data);
	free(extra.data);
	return NULL;
}

const char *program_run(const unsigned char *text, size_t size, struct buffer *out)
{
	struct reader reader = { .at = text, .left = size };
	const char *wrong = NULL;
	int64_t *returned;
	uint32_t count[2];
	int stopped = 0;

	if (take(&reader, count, sizeof(count)))
		return "a program without a length";
	if (count[0] > MAX_OPS)
		return "a program of too many ops";
	returned = calloc(count[0] + 1, sizeof(*returned));
	if (!returned)
		abort();
	for (uint32_t i = 0; i < count[0] && !wrong; i++) {
		wrong = run_op(&reader, returned, i, out, &stopped);
		if (out->size > MAX_FRAME)
			wrong = "a program whose answer is too large";
	}
	if (!wrong && reader.left)
		wrong = "a program with bytes after its last op";
	free(returned);
	return wrong;
}

struct thread {
	pthread_t id;
	uint32_t index;
	pthread_barrier_t *barrier;
	const unsigned char *text;
	size_t size;
	struct buffer out;
	const char *wrong;
};

static void *thread_main(void *argument)
{
	struct thread *thread = argument;
	cpu_set_t one;

	/* each on a CPU of its own as far as they go, or there is no race */
	CPU_ZERO(&one);
	CPU_SET(thread->index % (unsigned int)sysconf(_SC_NPROCESSORS_ONLN), &one);
	sched_setaffinity(0, sizeof(one), &one);
	pthread_barrier_wait(thread->barrier);
	thread->wrong = program_run(thread->text, thread->size, &thread->out);
	return NULL;
}

/* All programs start together, each in a thread of its own. */
const char *program_run_parallel(const unsigned char *text, size_t size, struct buffer *out)
{
	struct reader reader = { .at = text, .left = size };
	struct thread thread[MAX_THREADS] = { 0 };
	pthread_barrier_t barrier;
	const char *wrong = NULL;
	uint32_t count;

	if (take(&reader, &count, sizeof(count)) || count == 0 || count > MAX_THREADS)
		return "a parallel run of no or too many programs";
	for (uint32_t i = 0; i < count; i++) {
		uint32_t length;

		if (take(&reader, &length, sizeof(length)))
			return "a parallel run that ends inside a length";
		thread[i].index = i;
		thread[i].text = reader.at;
		thread[i].size = length;
		thread[i].barrier = &barrier;
		if (take(&reader, NULL, length))
			return "a parallel run that ends inside a program";
	}
	if (reader.left)
		return "a parallel run with bytes after its last program";
	pthread_barrier_init(&barrier, NULL, count);
	for (uint32_t i = 0; i < count; i++)
		if (pthread_create(&thread[i].id, NULL, thread_main, &thread[i]))
			_exit(71); /* the others wait at the barrier for ever */
	for (uint32_t i = 0; i < count; i++) {
		pthread_join(thread[i].id, NULL);
		if (!wrong)
			wrong = thread[i].wrong;
		buffer_append(out, thread[i].out.data, thread[i].out.size);
		free(thread[i].out.data);
	}
	pthread_barrier_destroy(&barrier);
	return wrong;
}
