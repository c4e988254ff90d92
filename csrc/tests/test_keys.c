/* keys.c: tables of keys, held against a flat array; and pools, which must stay packed below them. */
#include "keys.h"

#include "check.h"

#define KEYS 40000u
#define TABLES 3u

struct truth {
  uint32_t value; /* 0 = absent */
  uint8_t doubtful;
  uint8_t marked;
};

struct fixture {
  struct kvs__segments segments;
  struct kvs__memory memory;
  struct kvs__keys tables[TABLES];
  struct truth *truth[TABLES];
  uint64_t counts[TABLES];
};

/* Keys of two shapes: spread out, and as small integers. Seed 0 takes keys as places, so those are spread. */
static uint64_t key_of(unsigned table, uint32_t number) {
  uint64_t x = number + 1;
  if (table == 1) return x;
  x *= UINT64_C(0x9e3779b97f4a7c15);
  x = (x ^ (x >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
  return x ^ (x >> 32);
}

static struct fixture *begin(void) {
  struct fixture *fixture = check_alloc(sizeof *fixture);
  memset(fixture, 0, sizeof *fixture);
  kvs__segments_init(&fixture->segments);
  for (unsigned t = 0; t < TABLES; t++) {
    kvs__keys_init(&fixture->tables[t], t == 0 ? 0 : check_random() | 1);
    fixture->truth[t] = check_alloc(KEYS * sizeof *fixture->truth[t]);
    memset(fixture->truth[t], 0, KEYS * sizeof *fixture->truth[t]);
  }
  return fixture;
}

static void end(struct fixture *fixture) {
  for (unsigned t = 0; t < TABLES; t++) {
    kvs__keys_end(&fixture->tables[t], &fixture->segments, &fixture->memory);
    free(fixture->truth[t]);
  }
  kvs__segments_end(&fixture->segments, &fixture->memory);
  CHECK_EQUAL(fixture->memory.used, 0);
  free(fixture);
}

static void agree_on(const struct fixture *fixture, unsigned table, uint32_t number) {
  const struct kvs__keys *keys = &fixture->tables[table];
  const struct truth *truth = &fixture->truth[table][number];
  struct kvs__seat seat = kvs__keys_find(keys, key_of(table, number));
  if (!CHECK_EQUAL(seat.bucket != NULL, truth->value != 0) || truth->value == 0) return;
  CHECK_EQUAL(seat.bucket->values[seat.at], truth->value);
  CHECK_EQUAL(kvs__seat_doubtful(keys, seat), truth->doubtful);
  CHECK_EQUAL(seat.bucket->marked >> seat.at & 1, truth->marked);
}

static void agree(const struct fixture *fixture) {
  for (unsigned t = 0; t < TABLES; t++) {
    CHECK_EQUAL(fixture->tables[t].count, fixture->counts[t]);
    for (uint32_t i = 0; i < KEYS; i += 7) agree_on(fixture, t, i);
  }
}

static int put(struct fixture *fixture, unsigned table, uint32_t number) {
  struct truth *truth = &fixture->truth[table][number];
  uint32_t value = 1 + (uint32_t)check_below(UINT32_MAX);
  struct kvs__seat seat;
  if (truth->value != 0) return 1;
  seat = kvs__keys_insert(&fixture->tables[table], &fixture->segments, &fixture->memory, key_of(table, number),
                          value);
  if (seat.bucket == NULL) return 0;
  truth->value = value;
  truth->doubtful = 0;
  truth->marked = (uint8_t)check_below(2);
  if (truth->marked) seat.bucket->marked |= 1u << seat.at;
  fixture->counts[table]++;
  return 1;
}

static void take(struct fixture *fixture, unsigned table, uint32_t number) {
  if (fixture->truth[table][number].value == 0) return;
  kvs__keys_remove(&fixture->tables[table], &fixture->segments, &fixture->memory, key_of(table, number));
  fixture->truth[table][number].value = 0;
  fixture->counts[table]--;
}

static void doubt(struct fixture *fixture, unsigned table) {
  kvs__keys_doubt(&fixture->tables[table]);
  for (uint32_t i = 0; i < KEYS; i++) fixture->truth[table][i].doubtful = 1;
}

static void trust(struct fixture *fixture, unsigned table, uint32_t number) {
  struct kvs__seat seat = kvs__keys_find(&fixture->tables[table], key_of(table, number));
  if (seat.bucket == NULL) return;
  kvs__seat_trust(&fixture->tables[table], seat);
  fixture->truth[table][number].doubtful = 0;
}

/* Keys beyond those whose truth is kept, of table 1. */
static void put_key(struct fixture *fixture, uint32_t number) {
  struct kvs__seat seat =
      kvs__keys_insert(&fixture->tables[1], &fixture->segments, &fixture->memory, key_of(1, number), 1);
  CHECK(seat.bucket != NULL);
}

static void take_key(struct fixture *fixture, uint32_t number) {
  kvs__keys_remove(&fixture->tables[1], &fixture->segments, &fixture->memory, key_of(1, number));
}

/* Items in segments, as a walk sees them. */
static uint64_t walked(const struct kvs__keys *keys) {
  uint64_t items = 0;
  for (uint32_t s = 0; s < keys->segments_count; s++)
    for (uint32_t b = 0; b < kvs__segment_buckets(&keys->segments[s]); b++)
      items += (uint64_t)__builtin_popcount(keys->segments[s].buckets[b].used);
  return items;
}

static void like_a_flat_array(void) {
  struct fixture *fixture = begin();
  for (unsigned round = 0; round < 40; round++) {
    unsigned adds = 20 + (unsigned)check_below(75); /* of a hundred: some rounds grow, some shrink */
    for (unsigned i = 0; i < 20000; i++) {
      unsigned table = (unsigned)check_below(TABLES);
      uint32_t number = (uint32_t)check_below(KEYS);
      if (check_below(100) < adds)
        CHECK(put(fixture, table, number));
      else
        take(fixture, table, number);
      if (i % 64 == 0) trust(fixture, table, (uint32_t)check_below(KEYS));
    }
    if (round % 3 == 0) doubt(fixture, (unsigned)check_below(TABLES));
    agree(fixture);
    for (unsigned t = 0; t < TABLES; t++) CHECK_EQUAL(walked(&fixture->tables[t]), fixture->counts[t]);
  }
  end(fixture);
}

static void more_doubts_than_epochs(void) {
  struct fixture *fixture = begin();
  for (uint32_t i = 0; i < 500; i++) put(fixture, 1, i);
  for (unsigned i = 0; i < 600; i++) {
    uint32_t fresh = 500 + i;
    doubt(fixture, 1);
    put(fixture, 1, fresh);
    trust(fixture, 1, i % 500);
    agree_on(fixture, 1, fresh);
    agree_on(fixture, 1, i % 500);
    agree_on(fixture, 1, (i + 1) % 500);
  }
  agree(fixture);
  end(fixture);
}

/* A walk takes items away in place; what it leaves is found, and the room goes back afterwards. */
static void taken_in_place(void) {
  struct fixture *fixture = begin();
  struct kvs__keys *keys = &fixture->tables[2];
  uint64_t full;
  for (uint32_t i = 0; i < KEYS; i++) put(fixture, 2, i);
  full = fixture->memory.used;
  for (uint32_t s = 0; s < keys->segments_count; s++)
    for (uint32_t at = 0; at < kvs__segment_buckets(&keys->segments[s]) * KVS__BUCKET_ITEMS; at++) {
      const struct kvs__bucket *bucket = &keys->segments[s].buckets[at / KVS__BUCKET_ITEMS];
      if (bucket->used >> (at % KVS__BUCKET_ITEMS) & 1 && bucket->keys[at % KVS__BUCKET_ITEMS] % 10 != 0)
        kvs__keys_remove_at(keys, s, at);
    }
  for (uint32_t i = 0; i < KEYS; i++)
    if (key_of(2, i) % 10 != 0) {
      fixture->truth[2][i].value = 0;
      fixture->counts[2]--;
    }
  agree(fixture);
  for (uint32_t step = 0; kvs__keys_tidy(keys, &fixture->segments, &fixture->memory, step); step++) {
  }
  agree(fixture);
  CHECK(fixture->memory.used < full / 4);
  end(fixture);
}

static void few_bytes_an_item(void) {
  struct fixture *fixture = begin();
  for (uint32_t i = 0; i < KEYS; i++) put(fixture, 2, i);
  CHECK(fixture->memory.used < KEYS * 19);
  for (uint32_t i = 0; i < KEYS; i++)
    if (i % 10 != 0) take(fixture, 2, i);
  CHECK(fixture->memory.used < KEYS / 10 * 36); /* segments have merged */
  CHECK(fixture->tables[2].segments_free != 0);
  agree(fixture);
  end(fixture);
}

/* Buckets that a search looks at. */
static unsigned looked_at(const struct kvs__keys *keys, uint64_t key) {
  uint64_t place = kvs__place_of(keys, key);
  const struct kvs__segment *segment = kvs__segment_of(keys, place);
  uint32_t buckets = kvs__segment_buckets(segment), at = kvs__home_of(place, buckets);
  const struct kvs__bucket *last = kvs__keys_find(keys, key).bucket;
  for (unsigned looked = 1;; looked++, at = (at + 1) % buckets)
    if (last == NULL ? segment->buckets[at].passed == 0 : &segment->buckets[at] == last) return looked;
}

struct figures {
  double there, not_there, bytes;
};

/* Added to what was counted before; keys from `from` to `to` are there. */
static void count_figures(const struct kvs__keys *keys, uint32_t from, uint32_t to, struct figures *sum) {
  uint64_t there = 0, not_there = 0, units = 0;
  for (uint32_t i = from; i < to; i++) there += looked_at(keys, key_of(1, i));
  for (uint32_t i = from; i < to; i++) not_there += looked_at(keys, key_of(1, KEYS * 10 + i));
  for (uint32_t s = 0; s < keys->segments_count; s++) units += keys->segments[s].units;
  sum->there += (double)there / (to - from);
  sum->not_there += (double)not_there / (to - from);
  sum->bytes += (double)units * KVS__UNIT_BUCKETS * sizeof(struct kvs__bucket) / (to - from);
}

/* Averages over sizes that lie evenly between one and its double, after which all is as it was. */
static void as_the_header_says(void) {
  enum { SIZES = 6 };
  static const uint32_t sizes[SIZES] = {20000, 22449, 25198, 28284, 31748, 35636};
  struct figures grown = {0}, steady = {0}, shrunk = {0};
  for (unsigned i = 0; i < SIZES; i++) {
    struct fixture *fixture = begin();
    uint32_t count = sizes[i], from = 0;
    for (uint32_t key = 0; key < count; key++) put_key(fixture, key);
    count_figures(&fixture->tables[1], from, count, &grown);
    for (; from < 4 * count; from++) {
      take_key(fixture, from);
      put_key(fixture, from + count);
    }
    count_figures(&fixture->tables[1], from, from + count, &steady);
    for (uint32_t gone = 0; gone < count / 2; gone++) take_key(fixture, from++);
    count_figures(&fixture->tables[1], from, from + count - count / 2, &shrunk);
    end(fixture);
  }
  CHECK(grown.there / SIZES > 1.25 && grown.there / SIZES < 1.4);
  CHECK(grown.not_there / SIZES > 2.75 && grown.not_there / SIZES < 3.05);
  CHECK(grown.bytes / SIZES > 15.2 && grown.bytes / SIZES < 15.7);
  CHECK(steady.there / SIZES > 1.4 && steady.there / SIZES < 1.52);
  CHECK(steady.not_there / SIZES > 3.4 && steady.not_there / SIZES < 4.0);
  CHECK(steady.bytes / SIZES > 16.2 && steady.bytes / SIZES < 16.8);
  CHECK(shrunk.bytes / SIZES > 17.5 && shrunk.bytes / SIZES < 18.5);
}

static void no_memory_changes_nothing(void) {
  for (uint64_t n = 1; n < 400; n++) {
    struct fixture *fixture = begin();
    uint32_t number = 0;
    fixture->memory.fail_at = n;
    while (number < 3000 && put(fixture, 1, number)) number++;
    if (number < 3000) {
      for (uint32_t i = 0; i <= number; i++) agree_on(fixture, 1, i);
      CHECK(put(fixture, 1, number));
    }
    for (uint32_t i = 0; i < number; i++) take(fixture, 1, i);
    agree(fixture);
    end(fixture);
  }
}

void tests_of_keys(void) {
  RUN("keys: like a flat array", like_a_flat_array);
  RUN("keys: more doubts than epochs", more_doubts_than_epochs);
  RUN("keys: taken in place", taken_in_place);
  RUN("keys: few bytes an item, and they come back", few_bytes_an_item);
  RUN("keys: as many lines and bytes as the header says", as_the_header_says);
  RUN("keys: no memory changes nothing", no_memory_changes_nothing);
}
