/* Holder sets: who holds a block, shared by all blocks that have the same holders.
 *
 * A holder is (engine << 8 | kind). A set is sorted, immutable and interned: equal sets are one set,
 * so a walk along a prompt sees "nothing changed" as one equal number. Set 0 is the empty set.
 * Each set remembers the last step away from it in either direction, which makes a run of stores by
 * one engine cost one comparison a block. */
#ifndef KVS_SETS_H
#define KVS_SETS_H

#include <stdint.h>

#include "map.h"
#include "memory.h"

#define KVS__HOLDER(engine, kind) (((uint32_t)(engine) << 8) | (uint32_t)(kind))
#define KVS__HOLDER_ENGINE(holder) ((holder) >> 8)
#define KVS__HOLDER_KIND(holder) ((holder) & 0xff)

struct kvs__step {
  uint32_t holder;
  uint32_t set;
  uint32_t generation; /* of the set's number when noted: numbers are reused */
};

struct kvs__set {
  uint64_t hash;
  uint32_t references; /* blocks that have it */
  uint32_t count;
  uint32_t next; /* same hash, other members */
  struct kvs__step with;
  struct kvs__step without;
  uint32_t holders[]; /* ascending */
};

struct kvs__set_slot {
  struct kvs__set *set; /* NULL = free */
  uint32_t generation;
  uint32_t next_free;
};

struct kvs__sets {
  struct kvs__set_slot *slots; /* 0 stays unused */
  uint32_t slots_count;
  uint32_t slots_capacity;
  uint32_t free;
  uint32_t live;
  uint64_t seed;
  struct kvs__map by_hash;
};

/* The set with `holder` added, or taken away, holding one reference for the caller; the old one keeps its own.
 * 0 = out of memory (status), nothing changed. Taking away may answer with set 0, so it reports apart. */
int kvs__sets_with(struct kvs__sets *sets, struct kvs__memory *memory, uint32_t set, uint32_t holder,
                   uint32_t *result);
int kvs__sets_without(struct kvs__sets *sets, struct kvs__memory *memory, uint32_t set, uint32_t holder,
                      uint32_t *result);
void kvs__sets_release(struct kvs__sets *sets, struct kvs__memory *memory, uint32_t set);
int kvs__sets_has(const struct kvs__sets *sets, uint32_t set, uint32_t holder);
void kvs__sets_end(struct kvs__sets *sets, struct kvs__memory *memory);

static inline const struct kvs__set *kvs__sets_get(const struct kvs__sets *sets, uint32_t set) {
  return sets->slots[set].set;
}

#endif
