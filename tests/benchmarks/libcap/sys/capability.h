/* SPDX-License-Identifier: GPL-2.0-only */
/* What the kernel's C selftest uses of libcap, so that it builds where libcap-dev is missing. */
#ifndef CAPABILITY_SHIM_H
#define CAPABILITY_SHIM_H

#include <linux/capability.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef int cap_value_t;
typedef enum { CAP_EFFECTIVE } cap_flag_t;
typedef enum { CAP_CLEAR, CAP_SET } cap_flag_value_t;
typedef struct cap_sets {
	struct __user_cap_header_struct header;
	struct __user_cap_data_struct data[2];
} *cap_t;

static inline cap_t cap_get_proc(void)
{
	cap_t caps = calloc(1, sizeof(*caps));

	if (!caps)
		return NULL;
	caps->header.version = _LINUX_CAPABILITY_VERSION_3;
	if (syscall(SYS_capget, &caps->header, caps->data)) {
		free(caps);
		return NULL;
	}
	return caps;
}

static inline int cap_set_flag(cap_t caps, cap_flag_t flag, int count, const cap_value_t *values,
			       cap_flag_value_t on)
{
	(void)flag;
	for (int i = 0; i < count; i++) {
		__u32 bit = 1u << (values[i] % 32), *word = &caps->data[values[i] / 32].effective;

		*word = on == CAP_SET ? *word | bit : *word & ~bit;
	}
	return 0;
}

static inline int cap_set_proc(cap_t caps)
{
	return syscall(SYS_capset, &caps->header, caps->data);
}

static inline int cap_free(void *caps)
{
	free(caps);
	return 0;
}

#endif
