/* When the ceiling is reached: the largest record gives up its deepest blocks. When one record is beyond its own limit:
 * that one does.
 *
 * Deepest first keeps prefixes closed by construction: whatever continues a block is deeper than it, so
 * it goes first or with it, and what stays is still a true lower bound. One pass counts depths; a second takes away all
 * that is deeper than some depth, and as many of that depth itself as make it an eighth of the record: blocks of one
 * depth do not continue each other. Untied entries count as deepest: they can match nothing. The deepest class holds many
 * depths, so it goes whole.
 *
 * The one exception is the event that room is made for. Its blocks are often the deepest, and without it would go as they
 * come: so they stay, if all before them does. */
#include "evict.h"

#include "entries.h"
#include "trust.h"

#define DEPTHS 1024u

static uint32_t depth_class(const kvs_index *index, uint32_t value) {
  uint32_t depth;
  if (!kvs__is_tied(value)) return DEPTHS - 1;
  depth = kvs__slot_depth(&index->runs, value);
  return depth < DEPTHS - 1 ? depth : DEPTHS - 1;
}

static struct kvs__engine *largest(const kvs_index *index) {
  struct kvs__engine *found = NULL;
  for (uint32_t i = 0; i < index->engines_count; i++)
    if (index->engines[i] != NULL && (found == NULL || index->engines[i]->held > found->held))
      found = index->engines[i];
  return found != NULL && found->held > 0 ? found : NULL;
}

static void count_depths(kvs_index *index, const struct kvs__keys *held, uint64_t *counts) {
  struct kvs__tour tour = {0};
  while (kvs__keys_next(held, &tour)) {
    counts[depth_class(index, kvs__seat_value(tour.seat))]++;
    if (tour.left == 0) kvs__breathe(index, 1); /* a bucket costs about as much as a block */
  }
}

/* What is to go: all deeper than `depth`, and `quota` items of it, but for what is spared. */
struct cut {
  uint32_t depth;
  uint64_t quota;
  struct kvs__spare spare;
};

static struct cut where_to_cut(kvs_index *index, const struct kvs__engine *engine) {
  uint64_t counts[DEPTHS] = {0}, target = engine->held / 8 + 1, sum = 0;
  uint32_t depth = DEPTHS;
  for (int kind = 0; kind < engine->kinds_count; kind++)
    for (int form = 0; form < 2; form++) count_depths(index, &engine->kinds[kind]->held[form], counts);
  while (depth > 0 && sum < target) sum += counts[--depth];
  if (depth == DEPTHS - 1) return (struct cut){.depth = depth, .quota = UINT64_MAX};
  return (struct cut){.depth = depth, .quota = target - (sum - counts[depth])};
}

static int spared(const struct kvs__spare *spare, const kvs_index *index, uint32_t value) {
  uint32_t depth;
  if (spare->count == 0 || !kvs__is_tied(value)) return 0;
  depth = kvs__slot_depth(&index->runs, value);
  return depth >= spare->depth && depth - spare->depth < spare->count &&
         spare->slots[depth - spare->depth] == value;
}

static int goes(void *context, const kvs_index *index, uint32_t value) {
  struct cut *cut = context;
  uint32_t depth = depth_class(index, value);
  if (depth < cut->depth || (depth == cut->depth && cut->quota == 0)) return 0;
  if (spared(&cut->spare, index, value)) return 0;
  if (depth > cut->depth) return 1;
  cut->quota--;
  return 1;
}

static uint64_t give_up(kvs_index *index, struct kvs__engine *engine, const struct kvs__spare *spare) {
  uint64_t evicted = 0;
  struct cut cut;
  index->memory.urgent++;
  cut = where_to_cut(index, engine);
  /* Spared only where all that comes before them stays: a prefix is closed, or it is none. */
  if (spare != NULL && spare->engine == engine && spare->depth <= cut.depth) cut.spare = *spare;
  for (uint32_t kind = 0; kind < engine->kinds_count; kind++) {
    uint64_t gone = kvs__kind_drop(index, engine, kind, goes, &cut);
    if (gone > 0) kvs__record_lower(engine, engine->kinds[kind]->medium, KVS_REASON_EVICTED);
    evicted += gone;
  }
  index->memory.urgent--;
  engine->counters[KVS_COUNTER_EVICTED] += evicted;
  index->evicted += evicted;
  return evicted;
}

int kvs__evict(kvs_index *index, const struct kvs__spare *spare) {
  struct kvs__engine *engine = largest(index);
  return engine != NULL && give_up(index, engine, spare) > 0;
}

void kvs__evict_beyond(kvs_index *index, struct kvs__engine *engine) {
  while (index->entries_max > 0 && engine->held > index->entries_max)
    if (give_up(index, engine, NULL) == 0)
      return; /* no memory to take holders away: the next event tries again */
}
