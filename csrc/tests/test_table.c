/* table.h as a template: a table of (key, value), held against a flat array of values by key. */
#include <stdlib.h>

#include "check.h"
#include "memory.h"

struct pair {
  uint64_t key; /* 0 = free */
  uint64_t value;
};

/* `clumps` makes places collide: how many low bits of the key a place shows. NULL = all of them. */
static uint64_t place_of(const void *clumps, uint64_t key) {
  uint64_t x = clumps == NULL ? key : key & *(const uint64_t *)clumps;
  x *= UINT64_C(0x9e3779b97f4a7c15);
  x = (x ^ (x >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
  return x ^ (x >> 32);
}

#define TABLE pairs
#define TABLE_ITEM struct pair
#define TABLE_EMPTY(item) ((item)->key == 0)
#define TABLE_PLACE(context, item) place_of((context), (item)->key)
#include "table.h"

#define KEYS 60000u

struct fixture {
  struct pairs_table table;
  struct kvs__memory memory;
  uint64_t *values; /* by key, 0 = absent */
  uint64_t count;
};

static void begin(struct fixture *fixture, const uint64_t *clumps) {
  memset(fixture, 0, sizeof *fixture);
  fixture->table.context = clumps;
  fixture->values = calloc(KEYS + 1, sizeof *fixture->values);
  CHECK(fixture->values != NULL);
}

static void finish(struct fixture *fixture) {
  pairs_end(&fixture->table, &fixture->memory);
  CHECK_EQUAL(fixture->memory.used, 0);
  CHECK_EQUAL(fixture->table.count, 0);
  free(fixture->values);
}

static struct pair *look_up(const struct fixture *fixture, uint64_t key) {
  uint64_t place = place_of(fixture->table.context, key);
  struct pair *pair = pairs_first(&fixture->table, place);
  while (pair != NULL && pair->key != key) pair = pairs_next(&fixture->table, place, pair);
  return pair;
}

static int put(struct fixture *fixture, uint64_t key, uint64_t value) {
  struct pair *pair = look_up(fixture, key);
  if (pair == NULL) {
    pair = pairs_insert(&fixture->table, &fixture->memory, place_of(fixture->table.context, key));
    if (pair == NULL) return 0;
    CHECK(pair->key == 0 && pair->value == 0);
    pair->key = key;
    fixture->count++;
  }
  pair->value = value;
  fixture->values[key] = value;
  return 1;
}

static void take(struct fixture *fixture, uint64_t key) {
  struct pair *pair = look_up(fixture, key);
  CHECK_EQUAL(pair != NULL, fixture->values[key] != 0);
  if (pair == NULL) return;
  pairs_remove(&fixture->table, &fixture->memory, pair);
  fixture->values[key] = 0;
  fixture->count--;
}

/* The table holds what the array holds, and a walk meets each item once. */
static void agree(const struct fixture *fixture) {
  uint8_t *met = calloc(KEYS + 1, 1);
  const struct pairs_segment *segment;
  uint64_t items = 0;
  size_t at = 0;
  CHECK(met != NULL);
  while ((segment = pairs_segment_at(&fixture->table, at)) != NULL) {
    uint64_t in_segment = 0;
    for (uint32_t i = 0; i < segment->capacity; i++) {
      const struct pair *pair = &segment->items[i];
      if (pair->key == 0) continue;
      in_segment++;
      CHECK_EQUAL(met[pair->key]++, 0);
      CHECK_EQUAL(pair->value, fixture->values[pair->key]);
    }
    CHECK_EQUAL(in_segment, segment->count);
    CHECK(segment->count < segment->capacity);
    items += in_segment;
    at = pairs_segment_after(&fixture->table, at);
  }
  CHECK_EQUAL(items, fixture->count);
  CHECK_EQUAL(fixture->table.count, fixture->count);
  for (uint64_t key = 1; key <= KEYS; key++) {
    const struct pair *pair = look_up(fixture, key);
    CHECK_EQUAL(pair == NULL ? 0 : pair->value, fixture->values[key]);
  }
  free(met);
}

/* Waves of growth and shrinking: `insertions` of ten steps insert. */
static void steps(struct fixture *fixture, unsigned count, unsigned insertions, uint64_t keys) {
  for (unsigned i = 0; i < count; i++) {
    uint64_t key = 1 + check_below(keys);
    if (check_below(10) < insertions)
      put(fixture, key, 1 + check_random() % 1000);
    else
      take(fixture, key);
  }
}

static void random_steps(void) {
  struct fixture fixture;
  begin(&fixture, NULL);
  steps(&fixture, 400000, 8, KEYS);
  agree(&fixture);
  CHECK(fixture.table.depth > 3); /* it did split */
  steps(&fixture, 400000, 1, KEYS);
  agree(&fixture);
  steps(&fixture, 400000, 5, KEYS);
  agree(&fixture);
  steps(&fixture, 400000, 5, 64);
  agree(&fixture);
  for (uint64_t key = 1; key <= KEYS; key++) take(&fixture, key);
  CHECK_EQUAL(fixture.memory.used, 0); /* an empty table owns nothing */
  CHECK(fixture.table.directory == NULL);
  steps(&fixture, 1000, 8, KEYS);
  agree(&fixture);
  finish(&fixture);
}

static void memory_follows_count(void) {
  struct fixture fixture;
  uint64_t full;
  begin(&fixture, NULL);
  for (uint64_t key = 1; key <= KEYS; key++) put(&fixture, key, key);
  full = fixture.memory.used;
  CHECK(full < 4u * KEYS * sizeof(struct pair));
  for (uint64_t key = 1; key <= KEYS - 100; key++) take(&fixture, key);
  agree(&fixture);
  CHECK(fixture.memory.used < full / 8);
  finish(&fixture);
}

static void clumps_collide(void) {
  uint64_t places = 63; /* every 64th key has the same place */
  struct fixture fixture;
  begin(&fixture, &places);
  steps(&fixture, 100000, 7, 4000);
  agree(&fixture);
  steps(&fixture, 100000, 2, 4000);
  agree(&fixture);
  finish(&fixture);
}

static void one_place_is_full_one_day(void) {
  uint64_t places = 0;
  struct fixture fixture;
  uint64_t key = 1;
  begin(&fixture, &places);
  fixture.memory.limit = UINT64_C(64) << 20; /* or the directory would grow to its full depth first */
  while (key <= 2000 && put(&fixture, key, key)) key++;
  CHECK(key > KVS__SEGMENT_ITEMS_MAX / 2 && key <= KVS__SEGMENT_ITEMS_MAX);
  CHECK(fixture.memory.used <= fixture.memory.limit);
  agree(&fixture);
  while (--key > 0) take(&fixture, key);
  finish(&fixture);
}

/* Insertion number n fails at every allocation it makes, and leaves the table as it was. */
static void failures_change_nothing(void) {
  struct fixture fixture;
  unsigned failures = 0;
  begin(&fixture, NULL);
  for (uint64_t key = 1; key <= 20000; key++) {
    fixture.memory.fail_at = fixture.memory.calls + 1;
    while (!put(&fixture, key, key)) {
      failures++;
      CHECK(look_up(&fixture, key) == NULL);
      fixture.memory.fail_at = fixture.memory.calls + 1 + failures % 3;
    }
    fixture.memory.fail_at = 0;
  }
  CHECK(failures > 20);
  agree(&fixture);
  for (uint64_t key = 1; key <= 20000; key++) {
    fixture.memory.fail_at = fixture.memory.calls + 1; /* shrinking may fail unseen */
    take(&fixture, key);
  }
  CHECK_EQUAL(fixture.memory.used, 0);
  finish(&fixture);
}

void tests_of_table(void) {
  RUN("table: random insertions and removals agree with an array", random_steps);
  RUN("table: memory follows the number of items", memory_follows_count);
  RUN("table: items of one place are told apart", clumps_collide);
  RUN("table: too many items of one place fail as memory does", one_place_is_full_one_day);
  RUN("table: a failed allocation changes nothing", failures_change_nothing);
}
