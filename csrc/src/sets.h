/* Holder sets: who holds a block, shared by all blocks that have the same holders.
 *
 *     number   slots, 16 B each            a set: one chunk of a pool
 *     5 -----> [ set* | generation | .. ] -----> [ hash 8 | references 4 | count 4 | next 4 | holder 4 | holder 4 | ... ]
 *                                                                                           ascending, (engine << 8 | kind)
 *     by_hash   hash -> the first set number of that hash; sets of the same hash are chained by `next`
 *     steps     (set, holder) -> the set with it, or without it: the last of each place of a small table
 *
 * A set is sorted, immutable and interned: equal sets are one set, so a walk along a prompt sees "nothing changed" as one
 * equal number. Set 0 is the empty set.
 *
 * Lines. A store or removal beside one of its kind: a step (24 B, of 6 KB in all) and the reference counts of two sets. The
 * first of a kind: by_hash, and both sets to compare or to copy, (20 + 4 x holders) / 64 lines each. A walk looks at a set
 * only where its number differs from that of the block before.
 *
 * Few sets have many blocks each while prompts are whole, and then only time counts: a run of stores by one engine finds
 * its step remembered and costs one comparison a block. Once blocks have gone in any order, nearly every block has a set of
 * its own, and what counts is bytes: chunks are packed (pool.h) in sizes a quarter apart, and what helps only sets that
 * are shared is not in them. */
#ifndef KVS_SETS_H
#define KVS_SETS_H

#include <stddef.h>
#include <stdint.h>

#include "map.h"
#include "memory.h"
#include "pool.h"

#define KVS__HOLDER(engine, kind) (((uint32_t)(engine) << 8) | (uint32_t)(kind))
#define KVS__HOLDER_ENGINE(holder) ((holder) >> 8)
#define KVS__HOLDER_KIND(holder) ((holder) & 0xff)

#define KVS__SET_SIZES 27
#define KVS__STEPS 256u

struct kvs__set {
  uint64_t hash;
  uint32_t references; /* blocks that have it */
  uint32_t count;
  uint32_t next;      /* same hash, other members */
  uint32_t holders[]; /* ascending */
};

_Static_assert(offsetof(struct kvs__set, holders) == 20, "a set of three holders is half a cache line");

struct kvs__set_slot {
  struct kvs__set *set; /* NULL = free */
  uint32_t generation;
  uint32_t chunk; /* in the pool of its size; of a free number: the next free one */
};

_Static_assert(sizeof(struct kvs__set_slot) == 16, "four numbers share a cache line");

/* Numbers are used again, so a step counts only with the generations it was noted in. */
struct kvs__step {
  uint32_t set;
  uint32_t holder;
  uint32_t result; /* 0 = none noted */
  uint32_t set_generation;
  uint32_t result_generation;
  uint32_t added;
};

_Static_assert(sizeof(struct kvs__step) * KVS__STEPS == 6 << 10, "all steps fit a first-level cache");

struct kvs__sets {
  struct kvs__set_slot *slots; /* 0 stays unused */
  uint32_t slots_count;
  uint32_t slots_capacity;
  uint32_t free;
  uint32_t live;
  uint64_t seed;
  struct kvs__map by_hash;
  struct kvs__pool pools[KVS__SET_SIZES];
  struct kvs__step steps[KVS__STEPS];
};

/* It must keep its address. */
void kvs__sets_init(struct kvs__sets *sets, uint64_t seed);

/* The set with `holder` added, or taken away, holding one reference for the caller; the old one keeps its own.
 * 0 = out of memory (status), nothing changed. Taking away may answer with set 0, so it reports apart. */
int kvs__sets_with(struct kvs__sets *sets, struct kvs__memory *memory, uint32_t set, uint32_t holder,
                   uint32_t *result);
int kvs__sets_without(struct kvs__sets *sets, struct kvs__memory *memory, uint32_t set, uint32_t holder,
                      uint32_t *result);
void kvs__sets_release(struct kvs__sets *sets, struct kvs__memory *memory, uint32_t set);
int kvs__sets_has(const struct kvs__sets *sets, uint32_t set, uint32_t holder);
void kvs__sets_end(struct kvs__sets *sets, struct kvs__memory *memory);

/* Dies with the next set that is made or released. */
static inline const struct kvs__set *kvs__sets_get(const struct kvs__sets *sets, uint32_t set) {
  return sets->slots[set].set;
}

#endif
