/* Moves the wall clock of one process, as a correction of the system's clock does: the monotonic one goes on.
 *
 * Loaded by LD_PRELOAD. The file that AADSTREAM_TEST_CLOCK names holds one signed 64-bit number, the nanoseconds by
 * which this process is ahead; whoever writes it moves the clock at once, also for waits that have begun. The kernel does
 * that with a wait for a time of day, and the Kafka client waits so: libraries that translate the time when a wait begins
 * do not show what a jump does to it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

/* A wait looks at the clock this often. */
#define SLICE_NS 50000000LL
#define SECOND_NS 1000000000LL

static const _Atomic int64_t none;
static const _Atomic int64_t *ahead = &none;
static int (*real_clock)(clockid_t, struct timespec *);
static int (*real_wait)(cnd_t *, mtx_t *, const struct timespec *);

/* Others may call before a constructor of ours runs. */
static void look_up(void) {
    if (!real_clock) real_clock = dlsym(RTLD_NEXT, "clock_gettime");
    if (!real_wait) real_wait = dlsym(RTLD_NEXT, "cnd_timedwait");
}

__attribute__((constructor)) static void begin(void) {
    look_up();
    const char *path = getenv("AADSTREAM_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) abort();
    void *page = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) abort();
    ahead = page;
    close(file);
}

static struct timespec of_ns(int64_t ns) {
    return (struct timespec){.tv_sec = ns / SECOND_NS, .tv_nsec = ns % SECOND_NS};
}

static int64_t to_ns(const struct timespec *time) { return time->tv_sec * SECOND_NS + time->tv_nsec; }

static int64_t true_ns(void) {
    struct timespec now;
    look_up();
    real_clock(CLOCK_REALTIME, &now);
    return to_ns(&now);
}

static int64_t shown_ns(void) { return true_ns() + *ahead; }

int clock_gettime(clockid_t clock, struct timespec *time) {
    look_up();
    int status = real_clock(clock, time);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) *time = of_ns(to_ns(time) + *ahead);
    return status;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    int64_t now = shown_ns();
    *time = (struct timeval){.tv_sec = now / SECOND_NS, .tv_usec = now % SECOND_NS / 1000};
    return 0;
}

time_t time(time_t *result) {
    time_t now = shown_ns() / SECOND_NS;
    if (result) *result = now;
    return now;
}

int timespec_get(struct timespec *time, int base) {
    if (base == TIME_UTC) *time = of_ns(shown_ns());
    return base == TIME_UTC ? base : 0;
}

/* Until the shown clock reads `until`. */
int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
    look_up();
    for (;;) {
        int64_t left = to_ns(until) - shown_ns();
        int64_t slice = left < SLICE_NS ? left : SLICE_NS;
        struct timespec end = of_ns(true_ns() + (slice > 0 ? slice : 0));
        int status = real_wait(condition, mutex, &end);
        if (status != thrd_timedout || shown_ns() >= to_ns(until)) return status;
    }
}
