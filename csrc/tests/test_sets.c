/* sets.c: equal members are one number, and other members another, whatever way led there. */
#include "sets.h"

#include "check.h"

#define BLOCKS 300u
#define HOLDERS 12u

/* What each block's set should be: a bit for each holder. */
struct fixture {
  struct kvs__sets sets;
  struct kvs__memory memory;
  uint32_t set[BLOCKS];
  uint32_t members[BLOCKS];
};

static uint32_t holder(unsigned number) { return KVS__HOLDER(number / 3 * 1000, number % 3); }

static void begin(struct fixture *fixture) {
  memset(fixture, 0, sizeof *fixture);
  kvs__sets_init(&fixture->sets, check_random());
}

/* Add the holder to the block's set, or take it away. 0 = out of memory. */
static int flip(struct fixture *fixture, unsigned block, unsigned number) {
  uint32_t bit = UINT32_C(1) << number, fresh = 0;
  int added = !(fixture->members[block] & bit);
  int whole =
      added ? kvs__sets_with(&fixture->sets, &fixture->memory, fixture->set[block], holder(number), &fresh)
            : kvs__sets_without(&fixture->sets, &fixture->memory, fixture->set[block], holder(number), &fresh);
  if (!whole) return 0;
  kvs__sets_release(&fixture->sets, &fixture->memory, fixture->set[block]);
  fixture->set[block] = fresh;
  fixture->members[block] ^= bit;
  return 1;
}

static void agree(const struct fixture *fixture) {
  uint32_t distinct = 0;
  for (unsigned i = 0; i < BLOCKS; i++) {
    int seen = fixture->members[i] == 0;
    CHECK_EQUAL(fixture->set[i] == 0, fixture->members[i] == 0);
    for (unsigned n = 0; n < HOLDERS; n++)
      CHECK_EQUAL(kvs__sets_has(&fixture->sets, fixture->set[i], holder(n)), fixture->members[i] >> n & 1);
    for (unsigned j = 0; j < i; j++) {
      CHECK_EQUAL(fixture->set[i] == fixture->set[j], fixture->members[i] == fixture->members[j]);
      seen |= fixture->members[i] == fixture->members[j];
    }
    if (fixture->set[i] != 0) {
      const struct kvs__set *set = kvs__sets_get(&fixture->sets, fixture->set[i]);
      uint32_t references = 0;
      for (unsigned j = 0; j < BLOCKS; j++) references += fixture->set[j] == fixture->set[i];
      CHECK_EQUAL(set->references, references);
      for (uint32_t k = 1; k < set->count; k++) CHECK(set->holders[k - 1] < set->holders[k]);
    }
    distinct += !seen;
  }
  CHECK_EQUAL(fixture->sets.live, distinct);
}

static void finish(struct fixture *fixture) {
  for (unsigned i = 0; i < BLOCKS; i++) kvs__sets_release(&fixture->sets, &fixture->memory, fixture->set[i]);
  CHECK_EQUAL(fixture->sets.live, 0);
  CHECK_EQUAL(fixture->sets.by_hash.count, 0);
  kvs__sets_end(&fixture->sets, &fixture->memory);
  CHECK_EQUAL(fixture->memory.used, 0);
}

static void random_steps(void) {
  static struct fixture fixture;
  begin(&fixture);
  for (unsigned round = 0; round < 40; round++) {
    /* Few holders make many equal sets, many holders many numbers that come and go. */
    unsigned holders = round % 4 == 0 ? HOLDERS : 2 + round % 4;
    for (unsigned i = 0; i < 5000; i++)
      CHECK(flip(&fixture, (unsigned)check_below(BLOCKS), (unsigned)check_below(holders)));
    agree(&fixture);
  }
  finish(&fixture);
}

/* A remembered step must not survive the reuse of the number it leads to. */
static void memos_forget(void) {
  static struct fixture fixture;
  uint32_t first;
  begin(&fixture);
  CHECK(flip(&fixture, 0, 0) && flip(&fixture, 1, 0)); /* both {0} */
  CHECK(flip(&fixture, 0, 1));                         /* {0} remembers: with 1 -> first */
  first = fixture.set[0];
  CHECK(flip(&fixture, 0, 0)); /* {1}: the number is free again */
  CHECK(flip(&fixture, 2, 5)); /* and taken by {5} */
  CHECK_EQUAL(fixture.set[2], first);
  CHECK(flip(&fixture, 1, 1)); /* {0} with 1 must not be {5} now */
  CHECK(fixture.set[1] != fixture.set[2]);
  agree(&fixture);
  finish(&fixture);
}

/* Whichever allocation fails, of numbers, of chunks or of the table: the block keeps the set it had. */
static void failures_change_nothing(void) {
  static struct fixture fixture;
  uint64_t asked = 1;
  for (uint64_t n = 1; n <= asked; n++) {
    unsigned failures = 0;
    begin(&fixture);
    fixture.memory.fail_at = n;
    for (unsigned i = 0; i < 3000; i++) {
      unsigned block = (unsigned)check_below(BLOCKS), number = (unsigned)check_below(HOLDERS);
      uint32_t before = fixture.set[block];
      if (flip(&fixture, block, number)) continue;
      failures++;
      CHECK_EQUAL(fixture.set[block], before);
      agree(&fixture);
    }
    CHECK(failures <= 1);
    agree(&fixture);
    asked = fixture.memory.calls;
    finish(&fixture);
  }
  CHECK(asked > 20);
}

/* Sets of every size are kept apart by what is in them, and all of their room comes back. */
static void large_sets(void) {
  static struct fixture fixture;
  uint32_t set = 0, other = 0, fresh;
  begin(&fixture);
  for (unsigned count = 1; count <= 3000; count++) {
    CHECK(kvs__sets_with(&fixture.sets, &fixture.memory, set, KVS__HOLDER(count, 0), &fresh));
    kvs__sets_release(&fixture.sets, &fixture.memory, set);
    set = fresh;
    CHECK_EQUAL(kvs__sets_get(&fixture.sets, set)->count, count);
  }
  CHECK(fixture.memory.used < 3 * 3000 * sizeof(uint32_t));
  for (unsigned count = 3000; count >= 1; count--) {
    CHECK(kvs__sets_with(&fixture.sets, &fixture.memory, other, KVS__HOLDER(count, 0), &fresh));
    kvs__sets_release(&fixture.sets, &fixture.memory, other);
    other = fresh;
  }
  CHECK_EQUAL(set, other);
  for (unsigned i = 0; i < 2; i++) kvs__sets_release(&fixture.sets, &fixture.memory, set);
  CHECK_EQUAL(fixture.sets.live, 0);
  kvs__sets_end(&fixture.sets, &fixture.memory);
  CHECK_EQUAL(fixture.memory.used, 0);
}

void tests_of_sets(void) {
  RUN("sets: equal members are one number, others another", random_steps);
  RUN("sets: a remembered step dies with the number it leads to", memos_forget);
  RUN("sets: large sets", large_sets);
  RUN("sets: a failed allocation changes nothing", failures_change_nothing);
}
