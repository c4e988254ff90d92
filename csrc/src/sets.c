/* Holder sets: one holder more or less, found again if there is such a set already. */
#include "sets.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#define SLOTS_MIN 64u

/* A quarter apart, after the smallest; a larger set is an allocation of its own. */
static const uint16_t SIZES[KVS__SET_SIZES] = {32,   48,   64,   80,   96,   112,  128,  160,  192,
                                               224,  256,  320,  384,  448,  512,  640,  768,  896,
                                               1024, 1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096};

static size_t bytes_of(uint32_t count) {
  return offsetof(struct kvs__set, holders) + (size_t)count * sizeof(uint32_t);
}

/* KVS__SET_SIZES = none. */
static unsigned size_for(uint32_t count) {
  size_t bytes = bytes_of(count);
  unsigned size = bytes <= 128 ? (bytes <= 32 ? 0 : (unsigned)(bytes - 17) / 16) : 7;
  while (size < KVS__SET_SIZES && SIZES[size] < bytes) size++;
  return size;
}

static void moved(struct kvs__owner owner, void *chunk, uint32_t number) {
  struct kvs__sets *sets = owner.table;
  sets->slots[owner.number].set = chunk;
  sets->slots[owner.number].chunk = number;
}

void kvs__sets_init(struct kvs__sets *sets, uint64_t seed) {
  memset(sets, 0, sizeof *sets);
  sets->seed = seed;
  for (unsigned i = 0; i < KVS__SET_SIZES; i++) kvs__pool_init(&sets->pools[i], SIZES[i], moved, sets);
}

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
    sets->free = sets->slots[slot].chunk;
    return slot;
  }
  if (sets->slots_count == sets->slots_capacity) {
    struct kvs__set_slot *grown =
        kvs__list_grow(memory, sets->slots, &sets->slots_capacity, SLOTS_MIN, sizeof *grown);
    if (grown == NULL) return 0;
    memset(grown + sets->slots_count, 0, (sets->slots_capacity - sets->slots_count) * sizeof *grown);
    sets->slots = grown;
    if (sets->slots_count == 0) sets->slots_count = 1;
  }
  return sets->slots_count++;
}

static void give_slot(struct kvs__sets *sets, uint32_t slot) {
  sets->slots[slot].set = NULL;
  sets->slots[slot].generation++;
  sets->slots[slot].chunk = sets->free;
  sets->free = slot;
}

/* A number and room for a set of so many holders. 0 = out of memory. Other sets may have moved. */
static uint32_t take_set(struct kvs__sets *sets, struct kvs__memory *memory, uint32_t count) {
  struct kvs__owner owner = {sets, take_slot(sets, memory)};
  struct kvs__set_slot *slot = &sets->slots[owner.number];
  unsigned size = size_for(count);
  if (owner.number == 0) return 0;
  slot->set = size == KVS__SET_SIZES ? kvs__alloc(memory, bytes_of(count))
                                     : kvs__pool_take(&sets->pools[size], memory, owner, &slot->chunk);
  if (slot->set != NULL) return owner.number;
  give_slot(sets, owner.number);
  return 0;
}

static void give_set(struct kvs__sets *sets, struct kvs__memory *memory, uint32_t set) {
  struct kvs__set_slot slot = sets->slots[set];
  unsigned size = size_for(slot.set->count);
  give_slot(sets, set);
  if (size == KVS__SET_SIZES)
    kvs__free(memory, slot.set, bytes_of(slot.set->count));
  else
    kvs__pool_give(&sets->pools[size], memory, slot.chunk);
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

/* Write the members of a set's neighbour. */
static void fill(struct kvs__set *fresh, const struct kvs__set *old, uint32_t at, uint32_t holder, int added) {
  const uint32_t *rest = added ? (old == NULL ? NULL : old->holders + at) : old->holders + at + 1;
  uint32_t *to = fresh->holders + at;
  if (at > 0) memcpy(fresh->holders, old->holders, at * sizeof *to);
  if (added) *to++ = holder;
  if (to < fresh->holders + fresh->count)
    memcpy(to, rest, (size_t)(fresh->holders + fresh->count - to) * sizeof *to);
}

/* Find or make the neighbour of `set`; one reference is added for the caller. 0 = out of memory. */
static uint32_t neighbour(struct kvs__sets *sets, struct kvs__memory *memory, uint32_t set, uint32_t holder,
                          uint32_t at, int added) {
  const struct kvs__set *old = set == 0 ? NULL : kvs__sets_get(sets, set);
  uint32_t old_count = old == NULL ? 0 : old->count;
  uint32_t count = added ? old_count + 1 : old_count - 1;
  uint64_t hash = (old == NULL ? 0 : old->hash) + (added ? word(sets, holder) : 0 - word(sets, holder));
  uint32_t head = kvs__map_get(&sets->by_hash, hash), number;
  struct kvs__set *fresh;
  for (uint32_t found = head; found != 0; found = kvs__sets_get(sets, found)->next) {
    if (!equals(kvs__sets_get(sets, found), old, old_count, at, holder, added)) continue;
    sets->slots[found].set->references++;
    return found;
  }
  number = take_set(sets, memory, count);
  if (number == 0) return 0;
  fresh = sets->slots[number].set;
  fresh->hash = hash;
  fresh->references = 1;
  fresh->count = count;
  fresh->next = head;
  fill(fresh, set == 0 ? NULL : kvs__sets_get(sets, set), at, holder, added);
  if (!kvs__map_set(&sets->by_hash, memory, hash, number)) {
    give_set(sets, memory, number);
    return 0;
  }
  sets->live++;
  return number;
}

/* ---- remembered steps ---- */

static struct kvs__step *step_of(struct kvs__sets *sets, uint32_t set, uint32_t holder, uint32_t added) {
  uint64_t place = ((uint64_t)set << 32 | holder) * UINT64_C(0x9e3779b97f4a7c15) + added;
  return &sets->steps[place >> 56];
}

_Static_assert(KVS__STEPS == 256, "eight bits say where a step is noted");

static int remembered(struct kvs__sets *sets, uint32_t set, uint32_t holder, uint32_t added, uint32_t *result) {
  const struct kvs__step *step = step_of(sets, set, holder, added);
  if (step->result == 0 || step->set != set || step->holder != holder || step->added != added) return 0;
  if (sets->slots[set].generation != step->set_generation) return 0;
  if (sets->slots[step->result].generation != step->result_generation) return 0;
  sets->slots[step->result].set->references++;
  *result = step->result;
  return 1;
}

static void remember(struct kvs__sets *sets, uint32_t set, uint32_t holder, uint32_t added, uint32_t result) {
  *step_of(sets, set, holder, added) = (struct kvs__step){
      set, holder, result, sets->slots[set].generation, sets->slots[result].generation, added};
}

int kvs__sets_with(struct kvs__sets *sets, struct kvs__memory *memory, uint32_t set, uint32_t holder,
                   uint32_t *result) {
  uint32_t at = 0;
  if (remembered(sets, set, holder, 1, result)) return 1;
  if (set != 0) {
    const struct kvs__set *old = kvs__sets_get(sets, set);
    at = position(old, holder);
    assert(at == old->count || old->holders[at] != holder);
  }
  *result = neighbour(sets, memory, set, holder, at, 1);
  if (*result == 0) return 0;
  remember(sets, set, holder, 1, *result);
  return 1;
}

int kvs__sets_without(struct kvs__sets *sets, struct kvs__memory *memory, uint32_t set, uint32_t holder,
                      uint32_t *result) {
  const struct kvs__set *old = kvs__sets_get(sets, set);
  uint32_t at;
  if (old->count == 1) {
    assert(old->holders[0] == holder);
    *result = 0;
    return 1;
  }
  if (remembered(sets, set, holder, 0, result)) return 1;
  at = position(old, holder);
  assert(at < old->count);
  assert(old->holders[at] == holder);
  *result = neighbour(sets, memory, set, holder, at, 0);
  if (*result == 0) return 0;
  remember(sets, set, holder, 0, *result);
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
  give_set(sets, memory, set);
  sets->live--;
  if (sets->live == 0 && sets->slots_capacity > SLOTS_MIN) kvs__sets_end(sets, memory);
}

void kvs__sets_end(struct kvs__sets *sets, struct kvs__memory *memory) {
  for (uint32_t i = 1; i < sets->slots_count; i++) {
    const struct kvs__set *set = sets->slots[i].set;
    if (set != NULL && size_for(set->count) == KVS__SET_SIZES)
      kvs__free(memory, sets->slots[i].set, bytes_of(set->count));
  }
  for (unsigned i = 0; i < KVS__SET_SIZES; i++) kvs__pool_end(&sets->pools[i], memory);
  kvs__free(memory, sets->slots, sets->slots_capacity * sizeof *sets->slots);
  kvs__map_end(&sets->by_hash, memory);
  kvs__sets_init(sets, sets->seed);
}
