/* map.c against a flat array. */
#include "map.h"

#include "check.h"

#define KEYS 5000u

static uint64_t key_of(uint64_t number) {
  /* Some neighbours, some far apart, zero among them. */
  return number % 2 == 0 ? number / 2 : number * UINT64_C(0xd6e8feb86659fd93);
}

static void agree(const struct kvs__map *map, const uint32_t *values) {
  uint32_t count = 0;
  for (uint64_t i = 0; i < KEYS; i++) {
    CHECK_EQUAL(kvs__map_get(map, key_of(i)), values[i]);
    count += values[i] != 0;
  }
  CHECK_EQUAL(map->count, count);
}

static void random_steps(void) {
  static uint32_t values[KEYS];
  struct kvs__memory memory = {0};
  struct kvs__map map = {0};
  memset(values, 0, sizeof values);
  CHECK_EQUAL(kvs__map_get(&map, 0), 0);
  kvs__map_remove(&map, &memory, 0);
  for (unsigned wave = 0; wave < 12; wave++) {
    for (unsigned i = 0; i < 20000; i++) {
      uint64_t number = check_below(KEYS);
      if (check_below(10) < (wave % 2 == 0 ? 7u : 2u)) {
        values[number] = 1 + (uint32_t)check_below(UINT32_MAX);
        CHECK(kvs__map_set(&map, &memory, key_of(number), values[number]));
      } else {
        values[number] = 0;
        kvs__map_remove(&map, &memory, key_of(number));
      }
    }
    agree(&map, values);
  }
  for (uint64_t i = 0; i < KEYS; i++) kvs__map_remove(&map, &memory, key_of(i));
  CHECK_EQUAL(memory.used, 0);
  CHECK_EQUAL(map.capacity, 0);
}

static void failures_change_nothing(void) {
  static uint32_t values[KEYS];
  struct kvs__memory memory = {0};
  struct kvs__map map = {0};
  unsigned failures = 0;
  memset(values, 0, sizeof values);
  for (uint32_t i = 0; i < KEYS; i++) {
    memory.fail_at = memory.calls + 1;
    if (!kvs__map_set(&map, &memory, key_of(i), i + 1)) {
      failures++;
      CHECK_EQUAL(kvs__map_get(&map, key_of(i)), 0);
      if (i > 0) {
        /* A full map still takes another value for a key it has. */
        memory.fail_at = memory.calls + 1;
        CHECK(kvs__map_set(&map, &memory, key_of(0), 77));
        values[0] = 77;
      }
      agree(&map, values);
      memory.fail_at = 0;
      CHECK(kvs__map_set(&map, &memory, key_of(i), i + 1));
    }
    values[i] = i + 1;
    if (i == 0) continue;
    values[0] = kvs__map_get(&map, key_of(0));
  }
  CHECK(failures > 5);
  agree(&map, values);
  for (uint64_t i = 0; i < KEYS; i++) {
    memory.fail_at = memory.calls + 1;
    kvs__map_remove(&map, &memory, key_of(i));
    CHECK_EQUAL(kvs__map_get(&map, key_of(i)), 0);
  }
  CHECK_EQUAL(memory.used, 0);
}

void tests_of_map(void) {
  RUN("map: random steps agree with an array", random_steps);
  RUN("map: a failed allocation changes nothing", failures_change_nothing);
}
