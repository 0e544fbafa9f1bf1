// SPDX-License-Identifier: GPL-2.0-only
/* What programs consist of; a program has those items that it uses. What uses another is below. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/types.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The program's status; ASTRAY: it did not come to what the rule is about. */
enum { HOLDS, VIOLATED, ASTRAY };

/* Of all processes. */
static struct found {
	int violated; /* judged calls that gave something else than the rule wants */
	int other; /* what was something else than in the test */
	_Atomic int asked[16], done[16]; /* turns of processes */
} *found;

static const char *name_of(int error)
{
	static _Thread_local char number[16];
	const char *name = error ? strerrorname_np(error) : "OK";

	if (name)
		return name;
	snprintf(number, sizeof(number), "errno %d", error);
	return number;
}

static void begin(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	found = mmap(NULL, sizeof(*found), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (found == MAP_FAILED)
		exit(ASTRAY);
}

/* A call that leads to what the rule is about. */
static void step(const char *call, long ret, int in_test)
{
	int error = ret == -1 ? errno : 0;

	printf("%s: %s\n", call, name_of(error));
	if (error == in_test)
		return;
	printf("in the test it was %s: this program cannot go on\n", name_of(in_test));
	exit(found->violated ? VIOLATED : ASTRAY);
}

/* In the test the kernel did not do what the rule says; what follows was made of that. */
static void ends_if_it_holds(void)
{
	if (found->violated)
		return;
	printf("the test went on from what the rule does not allow: HOLDS\n");
	exit(HOLDS);
}

/* A call that the rule is about; -1: it did not return in the test. */
static void judged(const char *call, long ret, int wanted, int in_test)
{
	int error = ret == -1 ? errno : 0;

	printf("%s: %s, as the rule wants: %s\n", call, name_of(error),
	       error == wanted ? "yes" : "no");
	if (error == ENOTTY && wanted != ENOTTY && in_test != ENOTTY) {
		printf("the kernel does not have this command\n");
		exit(ASTRAY);
	}
	found->violated += error != wanted;
	found->other += error != in_test;
}

static void told_value(const char *what, unsigned long long got, unsigned long long in_test)
{
	printf("  %s = %#llx\n", what, got);
	if (got == in_test)
		return;
	printf("  in the test it was %#llx\n", in_test);
	found->other++;
}

/* What the kernel wrote into a field. */
#define value(field, in_test) told_value(#field, field, in_test)

/* A call that the rule is about, and that returned something else than 0 in the test. */
static void judged_value(const char *call, long ret, long in_test)
{
	judged(call, ret, 0, 0);
	if (ret != -1)
		told_value(call, ret, in_test);
}

/* A call that returned something else than 0 in the test. */
static void gives(const char *call, long ret, long in_test)
{
	step(call, ret, 0);
	told_value(call, ret, in_test);
}

/* A call of threads that race: what it gives may differ from run to run. */
static void free_call(const char *call, long ret)
{
	printf("%s: %s\n", call, name_of(ret == -1 ? errno : 0));
}

/* Memory that the test looked at, and what it had, which may be a pattern that repeats. */
static void bytes(const void *memory, size_t size, const void *in_test, size_t period)
{
	const unsigned char *got = memory, *wanted = in_test;
	size_t i = 0;

	while (i < size && got[i] == wanted[i % period])
		i++;
	if (i == size) {
		printf("  %zu bytes are as in the test\n", size);
		return;
	}
	printf("  byte %zu of %zu is %#04x, in the test %#04x\n", i, size, got[i], wanted[i % period]);
	found->other++;
}

/* A line of a text that the test read. */
static void text_line(const void *text, const char *in_test)
{
	int there = !!strstr(text, in_test);

	printf("  %s: %s", there ? "as in the test" : "not so, unlike in the test", in_test);
	found->other += !there;
}

static void repeat(void *memory, size_t size, const void *pattern, size_t period)
{
	for (size_t i = 0; i < size; i++)
		((char *)memory)[i] = ((const char *)pattern)[i % period];
}

static void set_up(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);

	if (file < 0 || write(file, text, strlen(text)) < 0)
		printf("%s cannot be set: is debugfs mounted, and has the kernel fault injection?\n",
		       path);
	if (file >= 0)
		close(file);
}

static void fail_nth(int file, unsigned int nth)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", nth);
	if (pwrite(file, text, strlen(text), 0) >= 0)
		return;
	printf("the kernel cannot inject failures: %s\n", strerror(errno));
	exit(ASTRAY);
}

static int start_failing(unsigned int nth)
{
	int file;

	set_up("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
	set_up("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N");
	set_up("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	file = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	fail_nth(file, nth);
	return file;
}

static void stop_failing(int file, int in_test)
{
	char text[16] = "";
	int fired = pread(file, text, sizeof(text) - 1, 0) > 0 && !atoi(text);

	fail_nth(file, 0);
	close(file);
	printf("the point %s\n", fired ? "fails" : "is not there");
	found->other += fired != in_test;
}

/* Makes the nth point of a call fail that can; in the test there was such a point, or was not. */
#define with_fail_nth(nth, in_test, call)           \
	({                                          \
		int fail_file = start_failing(nth); \
		long ret = call;                    \
		int error = errno;                  \
		stop_failing(fail_file, in_test);   \
		errno = error;                      \
		ret;                                \
	})

static void hangs(int signal_number)
{
	static const char text[] = "the call does not return: VIOLATED\n";

	(void)signal_number;
	_exit(write(1, text, sizeof(text) - 1) < 0 ? ASTRAY : VIOLATED);
}

/* A call that may be the last, if it takes more than so many seconds. */
static void announce(const char *call, int seconds)
{
	printf("%s ...\n", call);
	signal(SIGALRM, hangs);
	alarm(seconds);
}

typedef void *(*thread_function)(void *);

static pthread_barrier_t barrier;

/* Starts together with the others, on a CPU of its own as far as they go. */
static void meet(int number)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(number % (int)sysconf(_SC_NPROCESSORS_ONLN), &one);
	sched_setaffinity(0, sizeof(one), &one);
	pthread_barrier_wait(&barrier);
}

static void run_threads(unsigned int count, const thread_function *functions)
{
	pthread_t threads[count];

	pthread_barrier_init(&barrier, NULL, count);
	for (unsigned int i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, functions[i], NULL))
			exit(ASTRAY);
	for (unsigned int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
}

static pid_t processes[16];

/* Processes take turns, as they did in the test. */
static int forked(int number)
{
	processes[number] = fork();
	if (processes[number] < 0)
		exit(ASTRAY);
	if (!processes[number])
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return !processes[number];
}

static void turn(int number)
{
	static int turns;

	for (turns++; number < 0 || found->asked[number] < turns;)
		usleep(100);
}

static void done(int number)
{
	found->done[number]++;
}

/* Has a process do what comes next of it. */
static void let(int number)
{
	printf("process %d:\n", number);
	found->asked[number]++;
	while (found->done[number] < found->asked[number]) {
		if (waitpid(processes[number], NULL, WNOHANG)) {
			printf("process %d has ended\n", number);
			exit(ASTRAY);
		}
		usleep(100);
	}
	printf("first process:\n");
}

static void end(int number)
{
	kill(processes[number], SIGKILL);
	waitpid(processes[number], NULL, 0);
}

static int verdict(const char *rule, const char *about, int status)
{
	static const char *const names[] = { "HOLDS", "VIOLATED", "astray" };

	printf("%s%s: %s\n", rule, about, names[status]);
	return status;
}

/* Whether something is not as in the test, which passed. */
static int differs(void)
{
	if (found->other)
		printf("the values above differ from the test's, which passed\n");
	return !!found->other;
}

static int devices_are_left(void)
{
	glob_t devices;
	int are_left = !glob("/sys/bus/iommufd_mock/devices/*", 0, NULL, &devices);

	if (are_left)
		printf("%zu mock devices are left\n", devices.gl_pathc);
	return are_left;
}

static int log_file;

static void open_log(void)
{
	int file = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	/* out of the way of the descriptors that the test had */
	log_file = fcntl(file, F_DUPFD_CLOEXEC, 1000);
	close(file);
	lseek(log_file, 0, SEEK_END);
}

/* Whether the kernel has printed a warning or a report since then. */
static int has_splat(void)
{
	static const char *const marks[] = { "WARNING: ", "BUG: ", "Oops: ", "INFO: ", "UBSAN: ",
					     "general protection fault", "refcount_t: " };
	char line[8192];
	ssize_t size;
	int splats = 0;

	while ((size = read(log_file, line, sizeof(line) - 1)) > 0 || errno == EPIPE) {
		line[size > 0 ? size : 0] = 0;
		for (size_t i = 0; i < sizeof(marks) / sizeof(*marks); i++) {
			if (!strstr(line, marks[i]))
				continue;
			printf("the kernel printed: %s\n", line);
			splats++;
			break;
		}
	}
	return !!splats;
}
