/* A test harness in one page.
 *
 *   static void something_holds(void) { CHECK(1 + 1 == 2); }
 *   void tests_of_something(void) { RUN("one and one are two", something_holds); }
 *
 * A failed check is reported and the test goes on; main.c prints the sums. Random numbers begin anew from the seed in
 * each test, so that one test alone does what it does among all. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check_state {
  const char *filter; /* only tests whose name contains it; NULL = all */
  uint64_t seed;
  uint64_t random;
  uint64_t checks; /* of the test that runs */
  uint64_t failures;
  unsigned passed;
  unsigned failed;
};

extern struct check_state check_state;

void check_run(const char *name, void (*test)(void));
void check_failed(const char *file, int line, const char *what);
void check_takes_its_time(void); /* no limit, for the test that runs */

static inline int check_that(int holds, const char *file, int line, const char *what) {
  check_state.checks++;
  if (!holds) check_failed(file, line, what);
  return holds;
}

static inline int check_equal(uint64_t got, uint64_t wanted, const char *file, int line, const char *what) {
  char text[256];
  check_state.checks++;
  if (got == wanted) return 1;
  snprintf(text, sizeof text, "%s: got %" PRIu64 ", wanted %" PRIu64, what, got, wanted);
  check_failed(file, line, text);
  return 0;
}

#define RUN(name, test) check_run(name, test)
#define CHECK(condition) check_that(!!(condition), __FILE__, __LINE__, #condition)
#define CHECK_EQUAL(got, wanted) \
  check_equal((uint64_t)(got), (uint64_t)(wanted), __FILE__, __LINE__, #got " == " #wanted)

/* SplitMix64 (Steele, Lea, Flood, 2014). */
static inline uint64_t check_random(void) {
  uint64_t x = check_state.random += UINT64_C(0x9e3779b97f4a7c15);
  x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
  return x ^ (x >> 31);
}

static inline uint64_t check_below(uint64_t limit) { return check_random() % limit; }

/* malloc for tests, which cannot go on without. */
static inline void *check_alloc(size_t bytes) {
  void *pointer = malloc(bytes > 0 ? bytes : 1);
  if (pointer == NULL) {
    fprintf(stderr, "no memory for the test itself (%zu bytes)\n", bytes);
    exit(2);
  }
  return pointer;
}

/* One a file, called by main.c in this order. */
void tests_of_keys(void);
void tests_of_runs(void);
void tests_of_map(void);
void tests_of_numbers(void);
void tests_of_follow(void);
void tests_of_receive(void);
void tests_of_sets(void);
void tests_of_decode(void);
void tests_of_index(void);
void tests_of_snapshot(void);
void tests_of_groups(void);
void tests_of_allocations(void);
void tests_of_limits(void);
void tests_of_memory(void);
void tests_of_fuzz(void);
void tests_of_corpus(void);
void tests_of_threads(void);

#endif
