/* The items of a kind, in the order of their slots and in columns: snapshot.c says what they are. */
#include <stdlib.h>

#include "saving.h"
#include "snapshot.h"

struct item {
  uint64_t key;
  uint32_t slot; /* or KVS__UNTIED */
  uint32_t copies : 31;
  uint32_t doubtful : 1;
};

static uint64_t gather(const struct kvs__kind *kind, uint8_t form, struct item *items) {
  const struct kvs__keys *held = &kind->held[form];
  struct kvs__tour tour = {0};
  struct item *item = items;
  for (; kvs__keys_next(held, &tour); item++) {
    uint32_t value = kvs__seat_value(tour.seat);
    item->key = kvs__seat_key(tour.seat);
    item->slot = kvs__is_tied(value) ? value : KVS__UNTIED;
    item->copies = kvs__copies_of(kind, (struct kvs__key){item->key, form}, tour.seat) & INT32_MAX;
    item->doubtful = (uint32_t)kvs__seat_doubtful(held, tour.seat) & 1;
  }
  return (uint64_t)(item - items);
}

#define DIGIT_BITS 11u
#define DIGITS 3u
#define DIGIT_VALUES (1u << DIGIT_BITS)

_Static_assert(DIGIT_BITS *DIGITS >= 32, "all of a slot is sorted by");

/* By slot, from the lowest digit up: runs lie in memory in about this order, so what follows misses few lines. The
 * sorted items are in the array that is returned, which is one of the two. */
static struct item *sort(struct item *items, struct item *spare, uint64_t count) {
  for (unsigned digit = 0; digit < DIGITS; digit++) {
    uint64_t starts[DIGIT_VALUES] = {0}, sum = 0;
    struct item *sorted = spare;
    for (uint64_t i = 0; i < count; i++) starts[items[i].slot >> digit * DIGIT_BITS & (DIGIT_VALUES - 1)]++;
    for (unsigned value = 0; value < DIGIT_VALUES; value++) {
      uint64_t many = starts[value];
      starts[value] = sum;
      sum += many;
    }
    for (uint64_t i = 0; i < count; i++)
      sorted[starts[items[i].slot >> digit * DIGIT_BITS & (DIGIT_VALUES - 1)]++] = items[i];
    spare = items;
    items = sorted;
  }
  return items;
}

static uint8_t how_of(const kvs_index *index, const struct item *item, const struct item *before) {
  uint32_t slot = item->slot;
  if (slot == KVS__UNTIED) return KVS__HOW_UNTIED;
  if (before == NULL) return KVS__HOW_START;
  if (before->slot == slot) return KVS__HOW_SAME;
  /* A head may lie behind a block that is not its parent. */
  if (before->slot + 1 == slot && (slot & 63) != 0 &&
      !(kvs__run_of(&index->runs, slot)->headed >> (slot & 63) & 1))
    return KVS__HOW_NEXT;
  return KVS__HOW_START;
}

/* The columns of items in order. */
static void put_items(struct kvs__saving *saving, const struct item *items, uint64_t count) {
  struct kvs__writer *body = &saving->body;
  size_t hows_at = body->count;
  (void)kvs__put_room(body, count);
  for (uint64_t i = 0; i < count; i++) kvs__put_number(body, items[i].key);
  for (uint64_t i = 0; i < count && !body->failed; i++) {
    uint8_t how = how_of(saving->index, &items[i], i == 0 ? NULL : &items[i - 1]);
    if (how == KVS__HOW_NEXT) kvs__put_number(body, kvs__slot_hash(&saving->index->runs, items[i].slot));
    if (how == KVS__HOW_START) {
      kvs__put_number(&saving->starts, kvs__slot_hash(&saving->index->runs, items[i].slot));
      kvs__put_number(&saving->starts, kvs__slot_depth(&saving->index->runs, items[i].slot));
    }
    if (items[i].doubtful) how |= KVS__HOW_DOUBTFUL;
    if (items[i].copies > 1) how |= KVS__HOW_COPIES;
    body->bytes[hows_at + i] = how;
  }
  for (uint64_t i = 0; i < count; i++)
    if (items[i].copies > 1) kvs__put_number(body, items[i].copies);
}

void kvs__put_kind(struct kvs__saving *saving, const struct kvs__kind *kind) {
  struct kvs__writer *body = &saving->body;
  kvs__put_number(body, kind->medium);
  kvs__put_number(body, kind->group);
  for (uint8_t form = 0; form < 2; form++) {
    uint64_t count = kind->held[form].count;
    struct item *items;
    kvs__put_number(body, count);
    if (count == 0) continue;
    items = malloc(2 * count * sizeof *items);
    if (items == NULL) {
      body->failed = 1;
      return;
    }
    put_items(saving, sort(items, items + count, gather(kind, form, items)), count);
    free(items);
  }
}
