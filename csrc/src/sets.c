#include "sets.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static size_t bytes_of(uint32_t count) { return sizeof(struct kvs__set) + (size_t)count * sizeof(uint32_t); }

/* A set's hash is the sum of its holders' words, so one step up or down costs one addition. */
static uint64_t word(const struct kvs__sets *sets, uint32_t holder) {
  uint64_t x = (holder + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ sets->seed;
  x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
  x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
  return x ^ (x >> 32);
}

/* Where `holder` stands in a set, or would stand. */
static uint32_t position(const struct kvs__set *set, uint32_t holder) {
  uint32_t low = 0, high = set->count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (set->holders[middle] < holder)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

int kvs__sets_has(const struct kvs__sets *sets, uint32_t set, uint32_t holder) {
  const struct kvs__set *members;
  uint32_t at;
  if (set == 0) return 0;
  members = kvs__sets_get(sets, set);
  at = position(members, holder);
  return at < members->count && members->holders[at] == holder;
}

static uint32_t take_slot(struct kvs__sets *sets, struct kvs__memory *memory) {
  uint32_t slot = sets->free;
  if (slot != 0) {
    sets->free = sets->slots[slot].next_free;
    return slot;
  }
  if (sets->slots_count == sets->slots_capacity) {
    uint32_t capacity = sets->slots_capacity == 0 ? 64 : sets->slots_capacity * 2;
    struct kvs__set_slot *grown =
        kvs__resize(memory, sets->slots, sets->slots_capacity * sizeof *grown, capacity * sizeof *grown);
    if (grown == NULL) return 0;
    memset(grown + sets->slots_capacity, 0, (capacity - sets->slots_capacity) * sizeof *grown);
    sets->slots = grown;
    sets->slots_capacity = capacity;
    if (sets->slots_count == 0) sets->slots_count = 1;
  }
  return sets->slots_count++;
}

static void give_slot(struct kvs__sets *sets, uint32_t slot) {
  sets->slots[slot].set = NULL;
  sets->slots[slot].generation++;
  sets->slots[slot].next_free = sets->free;
  sets->free = slot;
}

/* Is `candidate` equal to `old` with one holder more (`added`) or one less, at position `at`? */
static int equals(const struct kvs__set *candidate, const struct kvs__set *old, uint32_t old_count, uint32_t at,
                  uint32_t holder, int added) {
  const uint32_t *from = old == NULL ? NULL : old->holders;
  uint32_t count = added ? old_count + 1 : old_count - 1;
  if (candidate->count != count) return 0;
  if (at > 0 && memcmp(candidate->holders, from, at * sizeof *from) != 0) return 0;
  if (added)
    return candidate->holders[at] == holder &&
           (at == old_count ||
            memcmp(candidate->holders + at + 1, from + at, (old_count - at) * sizeof *from) == 0);
  return at == count || memcmp(candidate->holders + at, from + at + 1, (count - at) * sizeof *from) == 0;
}

/* Find or make the neighbour of `set`; one reference is added for the caller. 0 = out of memory. */
static uint32_t neighbour(struct kvs__sets *sets, struct kvs__memory *memory, uint32_t set, uint32_t holder,
                          uint32_t at, int added) {
  const struct kvs__set *old = set == 0 ? NULL : kvs__sets_get(sets, set);
  uint32_t old_count = old == NULL ? 0 : old->count;
  uint32_t count = added ? old_count + 1 : old_count - 1;
  uint64_t hash = (old == NULL ? 0 : old->hash) + (added ? word(sets, holder) : 0 - word(sets, holder));
  uint32_t head = kvs__map_get(&sets->by_hash, hash);
  uint32_t slot;
  struct kvs__set *fresh;
  for (uint32_t found = head; found != 0; found = kvs__sets_get(sets, found)->next) {
    if (!equals(kvs__sets_get(sets, found), old, old_count, at, holder, added)) continue;
    sets->slots[found].set->references++;
    return found;
  }
  fresh = kvs__alloc_zero(memory, bytes_of(count));
  if (fresh == NULL) return 0;
  slot = take_slot(sets, memory);
  if (slot == 0) {
    kvs__free(memory, fresh, bytes_of(count));
    return 0;
  }
  fresh->hash = hash;
  fresh->references = 1;
  fresh->count = count;
  fresh->next = head;
  if (at > 0) memcpy(fresh->holders, old->holders, at * sizeof(uint32_t));
  if (added) {
    fresh->holders[at] = holder;
    if (old_count > at) memcpy(fresh->holders + at + 1, old->holders + at, (old_count - at) * sizeof(uint32_t));
  } else if (count > at) {
    memcpy(fresh->holders + at, old->holders + at + 1, (count - at) * sizeof(uint32_t));
  }
  sets->slots[slot].set = fresh;
  if (!kvs__map_set(&sets->by_hash, memory, hash, slot)) {
    kvs__free(memory, fresh, bytes_of(count));
    give_slot(sets, slot);
    return 0;
  }
  sets->live++;
  return slot;
}

static int remembered(struct kvs__sets *sets, const struct kvs__step *step, uint32_t holder, uint32_t *result) {
  if (step->set == 0 || step->holder != holder) return 0;
  if (sets->slots[step->set].set == NULL || sets->slots[step->set].generation != step->generation) return 0;
  sets->slots[step->set].set->references++;
  *result = step->set;
  return 1;
}

static void remember(struct kvs__sets *sets, struct kvs__step *step, uint32_t holder, uint32_t result) {
  step->holder = holder;
  step->set = result;
  step->generation = sets->slots[result].generation;
}

int kvs__sets_with(struct kvs__sets *sets, struct kvs__memory *memory, uint32_t set, uint32_t holder,
                   uint32_t *result) {
  struct kvs__set *old = set == 0 ? NULL : sets->slots[set].set;
  uint32_t at = 0;
  if (old != NULL) {
    if (remembered(sets, &old->with, holder, result)) return 1;
    at = position(old, holder);
    assert(at == old->count || old->holders[at] != holder);
  }
  *result = neighbour(sets, memory, set, holder, at, 1);
  if (*result == 0) return 0;
  if (old != NULL) remember(sets, &old->with, holder, *result);
  return 1;
}

int kvs__sets_without(struct kvs__sets *sets, struct kvs__memory *memory, uint32_t set, uint32_t holder,
                      uint32_t *result) {
  struct kvs__set *old = sets->slots[set].set;
  uint32_t at;
  if (old->count == 1) {
    assert(old->holders[0] == holder);
    *result = 0;
    return 1;
  }
  if (remembered(sets, &old->without, holder, result)) return 1;
  at = position(old, holder);
  assert(at < old->count);
  assert(old->holders[at] == holder);
  *result = neighbour(sets, memory, set, holder, at, 0);
  if (*result == 0) return 0;
  remember(sets, &old->without, holder, *result);
  return 1;
}

void kvs__sets_release(struct kvs__sets *sets, struct kvs__memory *memory, uint32_t set) {
  struct kvs__set *gone;
  uint32_t head;
  if (set == 0) return;
  gone = sets->slots[set].set;
  assert(gone->references > 0);
  if (--gone->references > 0) return;
  head = kvs__map_get(&sets->by_hash, gone->hash);
  if (head == set) {
    if (gone->next == 0)
      kvs__map_remove(&sets->by_hash, memory, gone->hash);
    else
      (void)kvs__map_set(&sets->by_hash, memory, gone->hash, gone->next);
  } else {
    while (sets->slots[head].set->next != set) head = sets->slots[head].set->next;
    sets->slots[head].set->next = gone->next;
  }
  kvs__free(memory, gone, bytes_of(gone->count));
  give_slot(sets, set);
  sets->live--;
}

void kvs__sets_end(struct kvs__sets *sets, struct kvs__memory *memory) {
  for (uint32_t i = 1; i < sets->slots_count; i++)
    if (sets->slots[i].set != NULL) kvs__free(memory, sets->slots[i].set, bytes_of(sets->slots[i].set->count));
  kvs__free(memory, sets->slots, sets->slots_capacity * sizeof *sets->slots);
  kvs__map_end(&sets->by_hash, memory);
}
