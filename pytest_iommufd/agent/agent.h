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

#define PROTOCOL_VERSION 1
#define MAX_FRAME (16u << 20) /* one program, or one answer */
#define MAX_OPS 65536u
#define MAX_REPEAT 1000000u
#define MAX_THREADS 64u
#define MAX_WORKERS 256u
#define WORKER_FDS 1000 /* a worker's own descriptors are from here on */
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

/* program.c */
struct buffer {
	unsigned char *data;
	size_t size;
	size_t room;
};

/* Runs a program and appends its results. NULL, or what is wrong with it. */
const char *program_run(const unsigned char *text, size_t size, struct buffer *out);
const char *program_run_parallel(const unsigned char *text, size_t size, struct buffer *out);
void program_catch_faults(void);
void buffer_append(struct buffer *buffer, const void *data, size_t size);

/* boot.c: what PID 1 does before it can serve. Returns the stream's fd. */
int boot(struct buffer *hello);

/* io.c */
int read_all(int fd, void *data, size_t size);
int write_all(int fd, const void *data, size_t size);
int send_frame(int fd, uint16_t type, uint16_t worker, uint32_t sequence, const void *data,
	       size_t size);
void say(struct buffer *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* layout.c, generated from the headers of the kernel under test */
struct layout_entry {
	const char *name;
	unsigned long value;
};
extern const struct layout_entry *const agent_layout;
extern const size_t agent_layout_entries;

#endif
