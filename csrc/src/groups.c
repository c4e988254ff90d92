/* Engines whose model has several groups of KV caches, each stored and evicted on its own.
 *
 * n blocks are reusable where every group would hit (docs/design/index.md, "Match"). In a run of equal holder sets a
 * group's unbroken length only grows or is cut, so the longest valid length inside a run is at its end. Groups
 * of different block sizes walk in chains of their own and are compared token by token. */
#include <stdlib.h>

#include "walk.h"

static int counting_groups(const struct kvs__engine *engine) {
  int count = 0;
  for (int i = 0; i < engine->groups_count; i++) count += engine->groups[i].block_size > 0;
  return count;
}

/* How many last blocks a group needs to be there at length n; full attention needs all. */
static uint64_t needed(const struct kvs__group *group, uint64_t n) {
  uint64_t last;
  if (group->spec == KVS__SPEC_FULL) return n;
  if (group->spec == KVS__SPEC_STATE) return n < 1 ? n : 1;
  last = group->window <= 1 ? 0 : ((uint64_t)group->window - 1 + group->block_size - 1) / group->block_size;
  return n < last ? n : last;
}

/* All groups of one block size: look at the end of each run. */
static uint32_t longest_by_runs(const struct kvs__asking *asking, const struct kvs__walk *walk,
                                const struct kvs__engine *engine) {
  uint32_t unbroken[KVS_KINDS_MAX] = {0};
  uint32_t best = 0;
  for (uint32_t stretch = 0; stretch < walk->stretches_count; stretch++) {
    uint32_t end = kvs__stretch_end(walk, stretch);
    int valid = 1;
    for (int g = 0; g < engine->groups_count; g++) {
      const struct kvs__group *group = &engine->groups[g];
      if (group->block_size == 0) continue;
      if (walk->stretches[stretch].set != 0 &&
          kvs__group_holds(asking->index, engine, g, walk->stretches[stretch].set))
        unbroken[g] += end - walk->stretches[stretch].start;
      else if (group->spec == KVS__SPEC_FULL)
        return best;
      else
        unbroken[g] = 0;
      valid &= unbroken[g] >= needed(group, end);
    }
    if (valid) best = end;
  }
  return best;
}

static const struct kvs__walk *walk_for(const struct kvs__asking *asking, const struct kvs__engine *engine,
                                        const struct kvs__group *group) {
  for (uint32_t i = 0; i < asking->walks_count; i++)
    if (kvs__walk_fits(&asking->walks[i], engine, group)) return &asking->walks[i];
  return NULL;
}

/* NEVER once there is none below it: engines choose the sizes. */
#define NEVER UINT64_MAX

static uint64_t common_multiple(uint64_t a, uint64_t b) {
  uint64_t x = a, y = b, multiple;
  if (a == NEVER) return NEVER;
  while (y != 0) {
    uint64_t rest = x % y;
    x = y;
    y = rest;
  }
  return __builtin_mul_overflow(a / x, b, &multiple) ? NEVER : multiple;
}

/* For each length n of one group's chain, how many blocks up to n are unbroken. NULL = out of memory. */
static uint32_t *unbroken_lengths(const struct kvs__asking *asking, const struct kvs__walk *walk,
                                  const struct kvs__engine *engine, int group) {
  uint32_t *lengths = calloc((size_t)walk->length + 1, sizeof *lengths);
  if (lengths == NULL) return NULL;
  for (uint32_t stretch = 0; stretch < walk->stretches_count; stretch++) {
    int held = walk->stretches[stretch].set != 0 &&
               kvs__group_holds(asking->index, engine, group, walk->stretches[stretch].set);
    for (uint32_t i = walk->stretches[stretch].start; i < kvs__stretch_end(walk, stretch); i++)
      lengths[i + 1] = held ? lengths[i] + 1 : 0;
  }
  return lengths;
}

/* Groups of different block sizes: try every length that is whole in all of them. -1 = out of memory. */
static int64_t longest_by_tokens(const struct kvs__asking *asking, const struct kvs__engine *engine) {
  uint32_t *lengths[KVS_KINDS_MAX] = {NULL};
  const struct kvs__walk *walks[KVS_KINDS_MAX] = {NULL};
  uint64_t step = 1;
  int64_t best = 0;
  for (int g = 0; g < engine->groups_count && best >= 0; g++) {
    const struct kvs__group *group = &engine->groups[g];
    if (group->block_size == 0) continue;
    step = common_multiple(step, group->block_size);
    walks[g] = walk_for(asking, engine, group);
    if (walks[g] == NULL) {
      step = NEVER;
      continue;
    }
    lengths[g] = unbroken_lengths(asking, walks[g], engine, g);
    if (lengths[g] == NULL) best = -1;
  }
  for (uint64_t tokens = step; best >= 0 && step != NEVER && tokens <= asking->query->tokens_count;
       tokens += step) {
    int valid = 1, over = 0;
    for (int g = 0; g < engine->groups_count; g++) {
      const struct kvs__group *group = &engine->groups[g];
      uint64_t n;
      if (group->block_size == 0) continue;
      n = tokens / group->block_size;
      if (n > walks[g]->length || lengths[g][n] < needed(group, n)) {
        valid = 0;
        over |= group->spec == KVS__SPEC_FULL;
      }
    }
    if (over) break;
    if (valid) best = (int64_t)tokens;
  }
  for (int g = 0; g < engine->groups_count; g++) free(lengths[g]);
  return best;
}

static int one_block_size(const struct kvs__engine *engine, uint32_t block_size) {
  for (int g = 0; g < engine->groups_count; g++)
    if (engine->groups[g].block_size != 0 && engine->groups[g].block_size != block_size) return 0;
  return 1;
}

int64_t kvs__longest(const struct kvs__asking *asking, const struct kvs__walk *walk,
                     const struct kvs__engine *engine, uint32_t alive_length) {
  const struct kvs__group *group = &engine->groups[kvs__main_group(engine)];
  int64_t tokens;
  if (counting_groups(engine) == 1 && group->spec == KVS__SPEC_FULL) return alive_length;
  if (one_block_size(engine, group->block_size) || asking->hashes != NULL)
    return longest_by_runs(asking, walk, engine);
  tokens = longest_by_tokens(asking, engine);
  return tokens < 0 ? tokens : tokens / group->block_size;
}
