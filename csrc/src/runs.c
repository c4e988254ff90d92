/* Blocks in runs: found, entered, taken out; the numbers of runs, and their rooms. */
#include "runs.h"

#include <assert.h>
#include <string.h>

const uint8_t kvs__run_rooms[KVS__RUN_ROOMS] = {2, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64};

#define PLACE_BYTES (sizeof(uint64_t) + sizeof(uint32_t))

static void moved(struct kvs__owner owner, void *chunk, uint32_t number) {
  struct kvs__run *run = kvs__run_of(owner.table, owner.number << 6);
  run->hashes = chunk;
  run->chunk = number;
}

void kvs__runs_init(struct kvs__runs *runs) {
  memset(runs, 0, sizeof *runs);
  kvs__keys_init(&runs->heads, 0);
  for (int i = 0; i < KVS__RUN_ROOMS; i++)
    kvs__pool_init(&runs->pools[i], kvs__run_rooms[i] * (uint32_t)PLACE_BYTES, moved, runs);
}

void kvs__runs_end(struct kvs__runs *runs, struct kvs__segments *segments, struct kvs__memory *memory) {
  kvs__keys_end(&runs->heads, segments, memory);
  for (int i = 0; i < KVS__RUN_ROOMS; i++) kvs__pool_end(&runs->pools[i], memory);
  for (uint32_t i = 0; i < runs->pages_count; i++)
    kvs__free(memory, runs->pages[i], KVS__RUNS_PAGE * sizeof **runs->pages);
  kvs__free(memory, runs->pages, runs->pages_capacity * sizeof *runs->pages);
  kvs__runs_init(runs);
}

uint32_t kvs__runs_find(const struct kvs__runs *runs, uint32_t parent, uint64_t hash) {
  struct kvs__seat seat;
  if (parent != KVS__SLOT_NONE) {
    const struct kvs__run *run = kvs__run_of(runs, parent);
    uint32_t next = (parent & 63) + 1;
    if (kvs__run_has(run, next) && run->hashes[kvs__run_rank(run, next)] == hash) return parent + 1;
  }
  seat = kvs__keys_find(&runs->heads, hash);
  return seat.bucket == NULL ? KVS__SLOT_NONE : kvs__seat_value(seat);
}

/* ---- run numbers ---- */

static int more_numbers(struct kvs__runs *runs, struct kvs__memory *memory) {
  if (runs->pages_count == runs->pages_capacity) {
    struct kvs__run **grown = kvs__list_grow(memory, runs->pages, &runs->pages_capacity, 4, sizeof *grown);
    if (grown == NULL) return 0;
    runs->pages = grown;
  }
  runs->pages[runs->pages_count] = kvs__alloc_zero(memory, KVS__RUNS_PAGE * sizeof **runs->pages);
  if (runs->pages[runs->pages_count] == NULL) return 0;
  runs->pages_count++;
  return 1;
}

/* KVS__SLOT_NONE = no number is left. */
static uint32_t number_take(struct kvs__runs *runs, struct kvs__memory *memory) {
  uint32_t number = runs->free;
  if (number != 0) {
    runs->free = kvs__run_of(runs, (number - 1) << 6)->depth;
    return number - 1;
  }
  if (runs->count == KVS__RUNS_MAX) return KVS__SLOT_NONE;
  if (runs->count == runs->pages_count * KVS__RUNS_PAGE && !more_numbers(runs, memory)) return KVS__SLOT_NONE;
  return runs->count++;
}

static void number_give(struct kvs__runs *runs, uint32_t number) {
  struct kvs__run *run = kvs__run_of(runs, number << 6);
  memset(run, 0, sizeof *run);
  run->depth = runs->free;
  runs->free = number + 1;
}

/* ---- blocks ---- */

static uint32_t count_of(const struct kvs__run *run) { return kvs__places(run->present); }

/* 0 = out of memory, nothing changed. */
static int resize(struct kvs__runs *runs, struct kvs__memory *memory, uint32_t number, uint8_t size) {
  struct kvs__run *run = kvs__run_of(runs, number << 6);
  struct kvs__owner owner = {runs, number};
  uint32_t chunk, count = count_of(run);
  uint64_t *hashes = kvs__pool_take(&runs->pools[size], memory, owner, &chunk);
  if (hashes == NULL) return 0;
  memcpy(hashes, run->hashes, count * sizeof *hashes);
  memcpy(hashes + kvs__run_rooms[size], kvs__run_sets(run), count * sizeof(uint32_t));
  kvs__pool_give(&runs->pools[run->size], memory, run->chunk);
  run->hashes = hashes;
  run->chunk = chunk;
  run->size = size;
  return 1;
}

/* The smallest size with room for so many; for the largest room if they are more. */
static uint8_t size_for(uint32_t count) {
  uint8_t size = 0;
  while (size < KVS__RUN_ROOMS - 1 && kvs__run_rooms[size] < count) size++;
  return size;
}

/* More room for a run that is full: for what is coming, and by a quarter at least. 0 = out of memory. */
static int grow(struct kvs__runs *runs, struct kvs__memory *memory, uint32_t number, uint32_t coming) {
  uint32_t count = count_of(kvs__run_of(runs, number << 6));
  if (coming < count / 4 + 2) coming = count / 4 + 2;
  return resize(runs, memory, number, size_for(count + coming));
}

/* Put a block into a free place. 0 = out of memory. */
static int enter(struct kvs__runs *runs, struct kvs__memory *memory, uint32_t slot, uint64_t hash,
                 uint32_t coming) {
  struct kvs__run *run = kvs__run_of(runs, slot);
  uint32_t count = count_of(run), at = kvs__run_rank(run, slot & 63), *sets;
  if (count == kvs__run_rooms[run->size] && !grow(runs, memory, slot >> 6, coming)) return 0;
  sets = kvs__run_sets(run);
  memmove(run->hashes + at + 1, run->hashes + at, (count - at) * sizeof *run->hashes);
  memmove(sets + at + 1, sets + at, (count - at) * sizeof *sets);
  run->hashes[at] = hash;
  sets[at] = 0;
  run->present |= UINT64_C(1) << (slot & 63);
  runs->blocks++;
  return 1;
}

static void leave(struct kvs__runs *runs, uint32_t slot) {
  struct kvs__run *run = kvs__run_of(runs, slot);
  uint32_t count = count_of(run), at = kvs__run_rank(run, slot & 63), *sets = kvs__run_sets(run);
  memmove(run->hashes + at, run->hashes + at + 1, (count - at - 1) * sizeof *run->hashes);
  memmove(sets + at, sets + at + 1, (count - at - 1) * sizeof *sets);
  run->present &= ~(UINT64_C(1) << (slot & 63));
  runs->blocks--;
}

int kvs__runs_head(struct kvs__runs *runs, struct kvs__segments *segments, struct kvs__memory *memory,
                   uint32_t slot) {
  struct kvs__run *run = kvs__run_of(runs, slot);
  uint64_t bit = UINT64_C(1) << (slot & 63);
  if (run->headed & bit) return 1;
  if (kvs__keys_insert(&runs->heads, segments, memory, kvs__slot_hash(runs, slot), slot).bucket == NULL)
    return 0;
  run->headed |= bit;
  return 1;
}

static void free_run(struct kvs__runs *runs, struct kvs__segments *segments, struct kvs__memory *memory,
                     uint32_t number) {
  struct kvs__run *run = kvs__run_of(runs, number << 6);
  kvs__pool_give(&runs->pools[run->size], memory, run->chunk);
  number_give(runs, number);
  if (runs->blocks == 0) kvs__runs_end(runs, segments, memory); /* the pages of numbers, too */
}

/* A run of its own. */
static uint32_t begin(struct kvs__runs *runs, struct kvs__segments *segments, struct kvs__memory *memory,
                      uint64_t hash, uint32_t depth, uint32_t coming) {
  struct kvs__owner owner = {runs, 0};
  struct kvs__run *run;
  uint32_t number = number_take(runs, memory), chunk;
  if (number == KVS__SLOT_NONE) return KVS__SLOT_NONE;
  run = kvs__run_of(runs, number << 6);
  memset(run, 0, sizeof *run);
  owner.number = number;
  run->size = size_for(coming);
  run->hashes = kvs__pool_take(&runs->pools[run->size], memory, owner, &chunk);
  if (run->hashes == NULL) {
    number_give(runs, number);
    return KVS__SLOT_NONE;
  }
  run->chunk = chunk;
  run->depth = depth;
  (void)enter(runs, memory, number << 6, hash, coming); /* there is room */
  if (kvs__runs_head(runs, segments, memory, number << 6)) return number << 6;
  leave(runs, number << 6);
  free_run(runs, segments, memory, number);
  return KVS__SLOT_NONE;
}

uint32_t kvs__runs_make(struct kvs__runs *runs, struct kvs__segments *segments, struct kvs__memory *memory,
                        uint32_t parent, uint64_t hash, uint32_t depth, uint32_t coming) {
  uint32_t slot = kvs__runs_find(runs, parent, hash), left;
  if (slot != KVS__SLOT_NONE) return slot;
  left = parent == KVS__SLOT_NONE ? 0 : KVS__RUN_BLOCKS - 1 - (parent & 63); /* places behind it */
  if (left > 0 && !kvs__run_has(kvs__run_of(runs, parent), (parent & 63) + 1))
    return enter(runs, memory, parent + 1, hash, coming < left ? coming : left) ? parent + 1 : KVS__SLOT_NONE;
  return begin(runs, segments, memory, hash, depth, coming);
}

int kvs__slot_remove(struct kvs__runs *runs, struct kvs__segments *segments, struct kvs__memory *memory,
                     uint32_t slot) {
  struct kvs__run *run = kvs__run_of(runs, slot);
  uint64_t bit = UINT64_C(1) << (slot & 63);
  uint32_t number = slot >> 6, count;
  if (kvs__run_has(run, (slot & 63) + 1) && !kvs__runs_head(runs, segments, memory, slot + 1)) return 0;
  if (run->headed & bit) {
    kvs__keys_remove(&runs->heads, segments, memory, kvs__slot_hash(runs, slot));
    run->headed &= ~bit;
  }
  leave(runs, slot);
  count = count_of(run);
  if (count == 0)
    free_run(runs, segments, memory, number);
  else if (run->size > 0 && count < kvs__run_rooms[run->size - 1])
    /* One place of slack, so that a run that breathes at a border is not moved with every breath. */
    (void)resize(runs, memory, number, (uint8_t)(run->size - 1));
  return 1;
}
