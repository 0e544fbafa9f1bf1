/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The wire protocol between pytest and the agent, and what the agent's files
 * share. pytest_iommufd/agent/protocol.py is the other side: change both.
 *
 * Everything is little endian. A frame is a struct frame and then .size bytes.
 */
#ifndef PYTEST_IOMMUFD_AGENT_H
#define PYTEST_IOMMUFD_AGENT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>

#define PROTOCOL_VERSION 1
#define MAX_FRAME (16u << 20) /* one request, or one answer */
#define MAX_TEXT 256u /* of send_frame() */
#define MAX_OPS 65536u
#define MAX_REPEAT 1000000u
#define MAX_THREADS 64u
#define MAX_WORKERS 256u
#define WORKER_FDS 1000 /* a worker's own descriptors are from here on */
#define MIN_FDS 1024 /* what that needs; the server has three for each worker */
#define ARENA_SIZE (1u << 20) /* scratch memory of each worker, for structs */

struct frame {
	uint32_t size;	 /* bytes after this header */
	uint16_t type;	 /* enum frame_type */
	uint16_t worker; /* which process it is for or from; chosen by the host */
	uint32_t sequence; /* of the request; answers repeat it */
};

enum frame_type {
	/* host to agent */
	FRAME_SPAWN = 1, /* a fresh process; answered by SPAWNED */
	FRAME_FORK,	 /* payload: u32 child; answered by the child's SPAWNED */
	FRAME_RUN,	 /* payload: a program; answered by RESULT or DIED */
	FRAME_PARALLEL,	 /* u32 count, then count times u32 size and a program */
	FRAME_END,	 /* kill and reap; answered by ENDED, after all KMSG */
	FRAME_LOG,	 /* answered by LOGGED, after all KMSG */
	FRAME_LAST_REQUEST = FRAME_LOG,
	/* agent to host */
	FRAME_HELLO = 64, /* "key=value" lines */
	FRAME_SPAWNED,	  /* struct spawned */
	FRAME_RESULT,	  /* a struct result for each op, with its extra bytes */
	FRAME_DIED,	  /* u32 wait status: the process ended by itself */
	FRAME_ENDED,	  /* u32 wait status, or NO_STATUS when it never was */
	FRAME_LOGGED,
	FRAME_KMSG,	  /* one record of /dev/kmsg, as the kernel gives it */
	FRAME_ERROR,	  /* text: what is wrong with the request */
};

#define NO_STATUS 0xffffffffu

struct spawned {
	uint32_t pid;
	uint32_t arena_size;
	uint64_t arena;
};

/*
 * From a fork to the server, by its parent's pipe. The server takes its ends
 * of the fork's own pipes, which are these descriptors in the fork.
 */
#define FRAME_FORKED 128

struct forked {
	struct spawned spawned;
	int32_t to, from;
};

/* A program: u32 count, u32 zero, then count times this and its arguments. */
struct op {
	uint8_t kind;  /* enum op_kind */
	uint8_t argc;  /* number of struct arg that follow, at most 6 */
	uint16_t flags; /* OP_MUST: stop here when it fails */
	uint32_t aux;  /* SYSCALL: number; WRITE, READ, COPY: bytes */
	uint32_t repeat; /* SYSCALL: times to call, at least 1 */
	uint32_t fail_nth; /* SYSCALL: make the nth allocation in it fail */
};

enum op_kind {
	OP_SYSCALL = 1,
	OP_WRITE, /* argument: where; .aux bytes follow, padded to 8 */
	OP_READ,  /* argument: where; result's extra: the bytes */
	OP_COPY,  /* arguments: to, from */
};

#define OP_MUST 1u

struct arg {
	uint32_t kind; /* enum arg_kind */
	uint32_t op;   /* ARG_RESULT: index of an earlier op */
	uint64_t value; /* ARG_RESULT: added to what that op returned */
};

enum arg_kind { ARG_CONST = 0, ARG_RESULT };

struct result {
	int64_t ret;
	uint32_t err;	/* errno, 0 on success */
	uint32_t extra; /* bytes that follow, padded to 8 */
	uint64_t ns;	/* spent in the (first) call */
};

/* What the agent does not or cannot do; without .what, it did. */
struct refusal {
	const char *what;
	int why; /* errno, or 0 */
};

/* program.c: runs the program or programs of a request. The answer is the caller's to free. */
struct refusal program_answer(const struct frame *request, struct frame **answer);
void program_catch_faults(void);

/* worker.c: what the process of a SPAWN does with its pipes. */
_Noreturn void worker_main(uint16_t id, uint32_t sequence, int in, int out);

/* boot.c: what PID 1 does before it can serve. Returns the stream's descriptor. */
int boot(FILE *hello);

/* io.c */
struct inbox {
	unsigned char *data; /* the frame last received, then what came with it */
	size_t size, room, done;
};

/* The next frame, its payload behind it. NULL: the stream has ended, EMSGSIZE or ENOMEM. */
const struct frame *receive(struct inbox *inbox, int fd);
/* Memory that a fork does not have, as nothing would be done with its copy; NULL: none. */
void *not_forked(size_t size);
int write_all(int fd, const void *data, size_t size);
int send_frame(int fd, uint16_t type, uint16_t worker, uint32_t sequence, const void *data,
	       size_t size);
/* Moves a descriptor out of the way of what a test opens, and of what closes all of that. */
int moved(int fd);
/* Lets this process have more than its test may; setrlimit() the limit before afterwards. */
struct rlimit more_fds(void);
/* The harness cannot go on: ends the agent, and as PID 1 the guest. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* layout.c, generated from the headers of the kernel under test */
struct layout_entry {
	const char *name;
	unsigned long value;
};
extern const struct layout_entry *const agent_layout;
extern const size_t agent_layout_entries;

#endif
