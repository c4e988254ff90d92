/* Blocks, where they follow each other in prompts: in runs of up to 64 places.
 *
 *     run, 32 B                                       its chunk, here with room for 8: 96 B
 *     [ hashes*          ] -----------------------> [ h0 | h1 | h3 | h4 | h5 |    |    |    ]   block hash, 8 B each
 *     [ present ..111011 ]  a bit for each place     [s0|s1|s3|s4|s5|  |  |  ]                   holder set, 4 B each
 *     [ headed  ..001001 ]  those found by `heads`
 *     [ depth            ]  of place 0 in its prompt       nobody holds place 2, so it takes no room; what lies behind it
 *     [ chunk, size      ]  room 2, 4, 6 .. 64             is a head
 *
 *     slot      run << 6 | place: the number of a block for as long as anybody holds it
 *     heads     block hash -> slot, for every block that does not lie right behind its parent   (keys.h)
 *
 * A child of a run's block goes into the place right behind it if that is free, else it begins a run of its own. So a
 * walk along a prompt is a comparison with the next hash in the same few cache lines, and a probe of `heads` only where a
 * run ends or prompts part.
 *
 * Lines. A full run is 768 B: 8 lines of hashes and 4 of sets, read in order. With the run itself (half a line) and the
 * probe that finds it, 64 steps of a walk touch 14 lines: one for every four or five blocks. To find one block by its slot is
 * the run, a hash and a set: three lines, none of which is shared with a neighbour unless it is asked for as well.
 *
 * A block that nobody holds any more is taken out at once, and takes no room. If one lies right behind it, that one
 * becomes a head: its parent may come back elsewhere, and then it must be found all the same.
 *
 * Invariants. A block lies in one place at most. Every block is in `heads` (its bit in `headed` says so), or lies right
 * behind its parent. Whoever enters one has looked in both places. */
#ifndef KVS_RUNS_H
#define KVS_RUNS_H

#include <stdint.h>

#include "keys.h"
#include "memory.h"
#include "pool.h"
#include "prefetch.h"

#define KVS__RUN_BLOCKS 64u
#define KVS__RUN_ROOMS 11
#define KVS__RUNS_PAGE 128u
/* Slots end where the values begin that entries use for other things. */
#define KVS__SLOT_NONE UINT32_MAX
#define KVS__SLOT_END UINT32_C(0xffff0000)
#define KVS__RUNS_MAX (KVS__SLOT_END >> 6)

struct kvs__run {
  uint64_t *hashes;
  uint64_t present; /* of places; 0 = the number is free */
  uint64_t headed;  /* of places */
  uint32_t depth;   /* blocks before place 0 in its prompt; of a free number: the next free one + 1 */
  uint32_t chunk : 28;
  uint32_t size : 4; /* class of its room */
};

_Static_assert(sizeof(struct kvs__run) == 32, "two runs share a cache line");
_Static_assert(KVS__RUN_BLOCKS * (sizeof(uint64_t) + sizeof(uint32_t)) == 12 * 64,
               "a full chunk is twelve lines");
_Static_assert(KVS__RUNS_MAX < 1u << 28 && KVS__RUN_ROOMS <= 16, "a run's chunk and size fit their bits");

struct kvs__runs {
  struct kvs__run **pages;
  uint32_t pages_count;
  uint32_t pages_capacity;
  uint32_t count; /* run numbers given out at some time */
  uint32_t free;  /* chain of free numbers + 1 */
  uint64_t blocks;
  struct kvs__keys heads;
  struct kvs__pool pools[KVS__RUN_ROOMS];
};

extern const uint8_t kvs__run_rooms[KVS__RUN_ROOMS];

void kvs__runs_init(struct kvs__runs *runs);
void kvs__runs_end(struct kvs__runs *runs, struct kvs__segments *segments, struct kvs__memory *memory);

static inline struct kvs__run *kvs__run_of(const struct kvs__runs *runs, uint32_t slot) {
  uint32_t run = slot >> 6;
  return &runs->pages[run / KVS__RUNS_PAGE][run % KVS__RUNS_PAGE];
}

static inline uint32_t *kvs__run_sets(const struct kvs__run *run) {
  return (uint32_t *)(run->hashes + kvs__run_rooms[run->size]);
}

/* Bits that are set. Nearly always they are in one row from the first place on, and then this is no count. */
static inline uint32_t kvs__places(uint64_t present) {
  if ((present & (present + 1)) == 0) return present == UINT64_MAX ? 64 : (uint32_t)__builtin_ctzll(~present);
  return (uint32_t)__builtin_popcountll(present);
}

/* Where a place's block is among the packed ones. */
static inline uint32_t kvs__run_rank(const struct kvs__run *run, uint32_t place) {
  return kvs__places(run->present & ((UINT64_C(1) << place) - 1));
}

static inline int kvs__run_has(const struct kvs__run *run, uint32_t place) {
  return place < KVS__RUN_BLOCKS && (run->present >> place & 1);
}

static inline uint64_t kvs__slot_hash(const struct kvs__runs *runs, uint32_t slot) {
  const struct kvs__run *run = kvs__run_of(runs, slot);
  return run->hashes[kvs__run_rank(run, slot & 63)];
}

static inline uint32_t kvs__slot_set(const struct kvs__runs *runs, uint32_t slot) {
  const struct kvs__run *run = kvs__run_of(runs, slot);
  return kvs__run_sets(run)[kvs__run_rank(run, slot & 63)];
}

/* Bring the lines of its hash and set into the cache. */
static inline void kvs__slot_prefetch(const struct kvs__runs *runs, uint32_t slot) {
  const struct kvs__run *run = kvs__run_of(runs, slot);
  uint32_t at = kvs__run_rank(run, slot & 63);
  kvs__prefetch(run->hashes + at);
  kvs__prefetch(kvs__run_sets(run) + at);
}

static inline uint32_t kvs__slot_depth(const struct kvs__runs *runs, uint32_t slot) {
  return kvs__run_of(runs, slot)->depth + (slot & 63);
}

/* The slot of this block behind `parent` (KVS__SLOT_NONE: behind nothing known), or KVS__SLOT_NONE. */
uint32_t kvs__runs_find(const struct kvs__runs *runs, uint32_t parent, uint64_t hash);

/* The same, made with an empty set if it is not there; KVS__SLOT_NONE = out of memory. A block must not stay with an
 * empty set: give it one, or take it out. `coming`: so many blocks will be made one behind the other, this one included;
 * a hint that makes room for them at once. */
uint32_t kvs__runs_make(struct kvs__runs *runs, struct kvs__segments *segments, struct kvs__memory *memory,
                        uint32_t parent, uint64_t hash, uint32_t depth, uint32_t coming);

static inline void kvs__slot_put(struct kvs__runs *runs, uint32_t slot, uint32_t set) {
  const struct kvs__run *run = kvs__run_of(runs, slot);
  kvs__run_sets(run)[kvs__run_rank(run, slot & 63)] = set;
}

/* File a block among the heads, wherever it lies. 0 = out of memory, nothing changed. */
int kvs__runs_head(struct kvs__runs *runs, struct kvs__segments *segments, struct kvs__memory *memory,
                   uint32_t slot);

/* Take a block out. 0 = out of memory, nothing changed. */
int kvs__slot_remove(struct kvs__runs *runs, struct kvs__segments *segments, struct kvs__memory *memory,
                     uint32_t slot);

#endif
