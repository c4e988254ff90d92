/* Blocks, where they follow each other in prompts: in runs of up to 64.
 *
 *     run      one chunk:  [ block hash, 8 B ] x room   [ holder set, 4 B ] x room      room = 4 .. 64
 *              and 24 B beside it: where the chunk is, how much of it is used and how much is held, depth of the first
 *     slot     run << 6 | place: the number of a block for as long as anybody holds it
 *     heads    block hash of a run's first block -> run
 *
 * A child of a run's last block goes right behind it while there is room, else it heads a run of its own. So a walk
 * along a prompt is a comparison with the next hash in the same few cache lines, and a probe of `heads` only where a
 * run ends or prompts part.
 *
 * A block nobody holds stays as an empty record (set 0) while a later one of its run is held, because what it is
 * the parent of could not be found without it; a run's tail of empty records is cut off at once.
 *
 * Invariant: a block hash has one record at most. Its place is behind its parent's record, or at a head; whoever makes
 * one has looked at both. */
#ifndef KVS_RUNS_H
#define KVS_RUNS_H

#include <stdint.h>

#include "keys.h"
#include "memory.h"
#include "pool.h"

#define KVS__RUN_BLOCKS 64u
#define KVS__RUN_ROOMS 7
#define KVS__RUNS_PAGE 128u
/* Slots end where the values begin that entries use for other things. */
#define KVS__SLOT_NONE UINT32_MAX
#define KVS__SLOT_END UINT32_C(0xffff0000)
#define KVS__RUNS_MAX (KVS__SLOT_END >> 6)

struct kvs__run {
  uint64_t *hashes;
  uint32_t chunk;
  uint32_t depth; /* blocks before the first in its prompt */
  uint8_t used;   /* records, the last of them held */
  uint8_t live;   /* of these, held */
  uint8_t size;   /* class of its room */
  uint8_t unused;
  uint32_t next_free;
};

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

static inline uint64_t kvs__slot_hash(const struct kvs__runs *runs, uint32_t slot) {
  return kvs__run_of(runs, slot)->hashes[slot & 63];
}

static inline uint32_t kvs__slot_set(const struct kvs__runs *runs, uint32_t slot) {
  return kvs__run_sets(kvs__run_of(runs, slot))[slot & 63];
}

static inline uint32_t kvs__slot_depth(const struct kvs__runs *runs, uint32_t slot) {
  return kvs__run_of(runs, slot)->depth + (slot & 63);
}

/* The record of this block behind `parent` (KVS__SLOT_NONE: behind nothing known), held or empty; or KVS__SLOT_NONE. */
uint32_t kvs__runs_find(const struct kvs__runs *runs, uint32_t parent, uint64_t hash);

/* The same, made with an empty set if it is not there; KVS__SLOT_NONE = out of memory. An empty record at the end of a
 * run must be given a set at once, or given back with kvs__runs_trim. */
uint32_t kvs__runs_make(struct kvs__runs *runs, struct kvs__segments *segments, struct kvs__memory *memory,
                        uint32_t parent, uint64_t hash, uint32_t depth);

/* Give a record another set; `live` and `blocks` follow. A record that becomes empty may take its run's tail along. */
void kvs__slot_put(struct kvs__runs *runs, struct kvs__segments *segments, struct kvs__memory *memory,
                   uint32_t slot, uint32_t set);
/* Cut off a run's empty tail. */
void kvs__runs_trim(struct kvs__runs *runs, struct kvs__segments *segments, struct kvs__memory *memory,
                    uint32_t slot);

#endif
