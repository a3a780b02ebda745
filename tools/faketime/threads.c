/* Waits of C11 threads, by a clock that libfaketime has changed.
 *
 * A deadline of cnd_timedwait is a time of the wall clock, read from the changed one. libfaketime moves
 * those of pthread_cond_timedwait back; cnd_timedwait it does not know, and the C library compares with
 * the system's clock: behind it, a wait would be over before it begins, and ahead of it last for as long
 * as the clock is wrong. librdkafka waits so. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define BILLION 1000000000LL

static long long nanoseconds(const struct timespec *time) {
  return time->tv_sec * BILLION + time->tv_nsec;
}

int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *deadline) {
  static int (*system_wait)(cnd_t *, mtx_t *, const struct timespec *);
  if (!system_wait) system_wait = dlsym(RTLD_NEXT, "cnd_timedwait");
  struct timespec changed, right;
  clock_gettime(CLOCK_REALTIME, &changed);
  /* libfaketime does not see a system call. */
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &right);
  long long moved = nanoseconds(deadline) - nanoseconds(&changed) + nanoseconds(&right);
  if (moved < 0) moved = 0;
  struct timespec until = {.tv_sec = moved / BILLION, .tv_nsec = moved % BILLION};
  return system_wait(condition, mutex, &until);
}
