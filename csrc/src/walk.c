/* The walk itself: blocks behind each other first, then a probe; and who is left where holders change. */
#include "walk.h"

#include <stdlib.h>

/* Blocks hashed before the first is looked for; each time twice as many, so that a miss costs little and at most half of
 * what is hashed is in vain. */
#define HASHED_FIRST 2u

int kvs__room(void **array, uint32_t *capacity, uint32_t count, size_t size) {
  uint32_t wanted = *capacity == 0 ? 16 : *capacity * 2;
  void *grown;
  if (count < *capacity) return 1;
  grown = realloc(*array, (size_t)wanted * size);
  if (grown == NULL) return 0;
  *array = grown;
  *capacity = wanted;
  return 1;
}

int kvs__asked(const struct kvs__asking *asking, uint32_t engine) {
  size_t low = 0, high = asking->only_count;
  if (asking->only == NULL) return 1;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (asking->only[middle] < engine)
      low = middle + 1;
    else
      high = middle;
  }
  return low < asking->only_count && asking->only[low] == engine;
}

int kvs__main_group(const struct kvs__engine *engine) {
  int first = -1;
  for (int i = 0; i < engine->groups_count; i++) {
    if (engine->groups[i].block_size == 0) continue;
    if (engine->groups[i].spec == KVS__SPEC_FULL) return i;
    if (first < 0) first = i;
  }
  return first;
}

int kvs__walk_fits(const struct kvs__walk *walk, const struct kvs__engine *engine,
                   const struct kvs__group *group) {
  if (walk->block_size == 0) return 1;
  return group->block_size == walk->block_size &&
         (walk->dialect == KVS__ANY_DIALECT || walk->dialect == engine->dialect);
}

/* Does `holder` make its engine a candidate of this walk's main line? */
static struct kvs__engine *candidate(const struct kvs__asking *asking, const struct kvs__walk *walk,
                                     uint32_t holder) {
  struct kvs__engine *engine = asking->index->engines[KVS__HOLDER_ENGINE(holder)];
  int group = kvs__main_group(engine);
  if (group < 0) return NULL;
  if (asking->model >= 0 && engine->model != (uint32_t)asking->model) return NULL;
  if (engine->kinds[KVS__HOLDER_KIND(holder)]->group != group) return NULL;
  return kvs__walk_fits(walk, engine, &engine->groups[group]) ? engine : NULL;
}

static int add_candidates(struct kvs__asking *asking, struct kvs__walk *walk, uint32_t set) {
  const struct kvs__set *members;
  if (set == 0) return 1;
  members = kvs__sets_get(&asking->index->sets, set);
  for (uint32_t i = 0; i < members->count; i++) {
    const struct kvs__engine *engine = candidate(asking, walk, members->holders[i]);
    if (engine == NULL || !kvs__asked(asking, engine->number)) continue;
    if (walk->seen_count > 0 && walk->alive[walk->seen_count - 1].engine == engine->number) continue;
    if (!kvs__room((void **)&walk->alive, &walk->seen_capacity, walk->seen_count, sizeof *walk->alive))
      return 0;
    walk->alive[walk->seen_count].engine = engine->number;
    walk->alive[walk->seen_count].length = KVS__ALIVE;
    walk->seen_count++;
  }
  walk->alive_count = walk->seen_count;
  return 1;
}

int kvs__group_holds(const kvs_index *index, const struct kvs__engine *engine, int group, uint32_t set) {
  for (uint32_t kind = 0; kind < engine->kinds_count; kind++)
    if (engine->kinds[kind]->group == group &&
        kvs__sets_has(&index->sets, set, KVS__HOLDER(engine->number, kind)))
      return 1;
  return 0;
}

/* The set changed at block `at`: who is not in the new one ends here. Both are in the order of engines: one pass. */
static void thin_out(struct kvs__asking *asking, struct kvs__walk *walk, uint32_t set, uint32_t at) {
  const struct kvs__set *members = set == 0 ? NULL : kvs__sets_get(&asking->index->sets, set);
  uint32_t member = 0, members_count = members == NULL ? 0 : members->count;
  for (uint32_t i = 0; i < walk->seen_count; i++) {
    const struct kvs__engine *engine;
    int group, holds = 0;
    if (walk->alive[i].length != KVS__ALIVE) continue;
    engine = asking->index->engines[walk->alive[i].engine];
    group = kvs__main_group(engine);
    while (member < members_count && KVS__HOLDER_ENGINE(members->holders[member]) < engine->number) member++;
    for (; member < members_count && KVS__HOLDER_ENGINE(members->holders[member]) == engine->number; member++)
      holds |= engine->kinds[KVS__HOLDER_KIND(members->holders[member])]->group == group;
    if (holds) continue;
    walk->alive[i].length = at;
    walk->alive_count--;
  }
}

/* The next `count` block hashes of what is asked, from block `at` on. */
static const uint64_t *next_hashes(const struct kvs__asking *asking, struct kvs__prompt *prompt,
                                   uint64_t *buffer, uint32_t at, uint32_t count) {
  if (asking->hashes != NULL) return asking->hashes + at;
  kvs__prompt_next(prompt, buffer, count);
  return buffer;
}

/* How many of the next blocks lie behind `slot` in its run, with the same holders. */
static uint32_t unchanged(const struct kvs__runs *runs, uint32_t slot, uint32_t set, const uint64_t *hashes,
                          uint32_t count) {
  const struct kvs__run *run = kvs__run_of(runs, slot);
  uint32_t place = (slot & 63) + 1, rank, here_count, same = 0;
  const uint64_t *here;
  const uint32_t *sets;
  if (!kvs__run_has(run, place)) return 0;
  rank = kvs__run_rank(run, place);
  here = run->hashes + rank;
  sets = kvs__run_sets(run) + rank;
  /* Present places in a row from here on. The shift brings zeros in, so there is always an end. */
  here_count = run->present >> place == UINT64_MAX ? KVS__RUN_BLOCKS
                                                   : (uint32_t)__builtin_ctzll(~(run->present >> place));
  if (count > here_count) count = here_count;
  while (same < count && here[same] == hashes[same] && sets[same] == set) same++;
  return same;
}

/* Another holder set from block `at` on. 1 = go on, 0 = nobody is left, -1 = out of memory. */
static int change(struct kvs__asking *asking, struct kvs__walk *walk, uint32_t set, uint32_t at) {
  if (at == 0 && !add_candidates(asking, walk, set)) return -1;
  if (at > 0) thin_out(asking, walk, set, at);
  if (walk->alive_count == 0 && !walk->endless) return 0;
  if (!kvs__room((void **)&walk->stretches, &walk->stretches_capacity, walk->stretches_count,
                 sizeof *walk->stretches))
    return -1;
  walk->stretches[walk->stretches_count].set = set;
  walk->stretches[walk->stretches_count].start = at;
  walk->stretches_count++;
  return 1;
}

/* Not inlined: inlined into whoever asks, GCC took 9 to 14 instructions a block more. */
__attribute__((noinline)) int kvs__walk_run(struct kvs__asking *asking, struct kvs__walk *walk) {
  const struct kvs__runs *runs = &asking->index->runs;
  struct kvs__prompt prompt;
  uint64_t buffer[KVS__RUN_BLOCKS], total;
  uint32_t slot = KVS__SLOT_NONE, set = 0, ahead = HASHED_FIRST;
  int going = 1;
  if (asking->hashes != NULL) {
    total = asking->hashes_count;
  } else {
    total = asking->query->tokens_count / walk->block_size;
    kvs__prompt_begin(&prompt, asking->index, asking->query, asking->extras, walk->block_size,
                      walk->dialect == KVS__ANY_DIALECT ? KVS_DIALECT_ABSENT : walk->dialect);
  }
  if (total > UINT32_MAX) total = UINT32_MAX;
  while (going > 0 && walk->length < total) {
    uint32_t count = total - walk->length < ahead ? (uint32_t)(total - walk->length) : ahead;
    const uint64_t *hashes = next_hashes(asking, &prompt, buffer, walk->length, count);
    if (ahead < KVS__RUN_BLOCKS) ahead *= 2;
    for (uint32_t i = 0; i < count;) {
      uint32_t now;
      if (slot != KVS__SLOT_NONE) {
        uint32_t same = unchanged(runs, slot, set, hashes + i, count - i);
        slot += same;
        i += same;
        walk->length += same;
        if (i == count) break;
      }
      slot = kvs__runs_find(runs, slot, hashes[i]);
      now = slot == KVS__SLOT_NONE ? 0 : kvs__slot_set(runs, slot);
      if (walk->length == 0 || now != set) going = change(asking, walk, now, walk->length);
      if (going <= 0) break;
      set = now;
      i++;
      walk->length++;
    }
  }
  for (uint32_t i = 0; i < walk->seen_count; i++)
    if (walk->alive[i].length == KVS__ALIVE) walk->alive[i].length = walk->length;
  return going >= 0;
}
