/* Runs every test, or those whose name contains the first argument; the second is a seed. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

/* A test that runs for ever is seen by the processor's time, which other programs on the machine do not lengthen; one that
 * waits for ever, by the clock. */
#define TEST_CPU_SECONDS_MAX 60
#define TEST_SECONDS_MAX 900
#define REPORTS_MAX 10 /* of one test: the first failures say it all */

struct check_state check_state = {.seed = 20240607};

static void timed_out(int signal) {
  static const char text[] = "a test takes too long: it is the one after the last named\n";
  (void)signal;
  if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(4);
  _exit(3);
}

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void limit_time(unsigned cpu_seconds, unsigned seconds) {
  struct itimerval cpu = {.it_value.tv_sec = cpu_seconds};
  setitimer(ITIMER_PROF, &cpu, NULL);
  alarm(seconds);
}

void check_takes_its_time(void) { limit_time(0, 0); }

void check_failed(const char *file, int line, const char *what) {
  if (++check_state.failures <= REPORTS_MAX) fprintf(stderr, "    %s:%d: %s\n", file, line, what);
}

void check_run(const char *name, void (*test)(void)) {
  double start = seconds_now();
  if (check_state.filter != NULL && strstr(name, check_state.filter) == NULL) return;
  check_state.random = check_state.seed;
  check_state.checks = check_state.failures = 0;
  limit_time(TEST_CPU_SECONDS_MAX, TEST_SECONDS_MAX);
  test();
  if (check_state.failures == 0)
    check_state.passed++;
  else
    check_state.failed++;
  printf("%s  %-72s %9" PRIu64 " checks %6.2f s\n", check_state.failures == 0 ? "ok  " : "FAIL", name,
         check_state.checks, seconds_now() - start);
  fflush(stdout);
}

int main(int count, char **arguments) {
  if (count > 1 && arguments[1][0] != '\0') check_state.filter = arguments[1];
  if (count > 2) check_state.seed = strtoull(arguments[2], NULL, 0);
  signal(SIGALRM, timed_out);
  signal(SIGPROF, timed_out);
  printf("seed %" PRIu64 "\n", check_state.seed);
  tests_of_keys();
  tests_of_runs();
  tests_of_map();
  tests_of_numbers();
  tests_of_receive();
  tests_of_follow();
  tests_of_sets();
  tests_of_decode();
  tests_of_index();
  tests_of_snapshot();
  tests_of_groups();
  tests_of_allocations();
  tests_of_limits();
  tests_of_memory();
  tests_of_fuzz();
  tests_of_corpus();
  tests_of_threads();
  printf("%u passed, %u failed\n", check_state.passed, check_state.failed);
  return check_state.failed == 0 && check_state.passed > 0 ? 0 : 1;
}
