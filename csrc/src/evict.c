/* When the ceiling is reached: the largest record gives up its deepest blocks.
 *
 * Deepest first keeps prefixes closed by construction: whatever continues a block is deeper than it, so
 * it goes first or with it, and what stays is still a true lower bound. One pass counts depths; a second takes away all
 * that is deeper than some depth, and as many of that depth itself as make it an eighth of the record: blocks of one
 * depth do not continue each other. Untied entries count as deepest: they can match nothing. The deepest class holds many
 * depths, so it goes whole. */
#include "index.h"

#define DEPTHS 1024u

static uint32_t depth_class(const struct kvs__entry *entry) {
  if (!(entry->flags & KVS__ENTRY_TIED)) return DEPTHS - 1;
  return entry->depth < DEPTHS - 1 ? entry->depth : DEPTHS - 1;
}

static struct kvs__engine *largest(const kvs_index *index) {
  struct kvs__engine *found = NULL;
  for (uint32_t i = 0; i < index->engines_count; i++)
    if (index->engines[i] != NULL && (found == NULL || index->engines[i]->held > found->held))
      found = index->engines[i];
  return found != NULL && found->held > 0 ? found : NULL;
}

/* What is to go: all deeper than `depth`, and `quota` entries of it. */
struct cut {
  uint32_t depth;
  uint64_t quota;
};

static struct cut where_to_cut(const struct kvs__engine *engine) {
  uint64_t counts[DEPTHS] = {0}, target = engine->held / 8 + 1, sum = 0;
  const struct kvs__entries_segment *segment;
  uint32_t depth = DEPTHS;
  size_t at = 0;
  while ((segment = kvs__entries_segment_at(&engine->entries, at)) != NULL) {
    for (uint32_t i = 0; i < segment->capacity; i++)
      if (segment->items[i].flags != 0 && !(segment->items[i].flags & KVS__ENTRY_GHOST))
        counts[depth_class(&segment->items[i])]++;
    at = kvs__entries_segment_after(&engine->entries, at);
  }
  while (depth > 0 && sum < target) sum += counts[--depth];
  if (depth == DEPTHS - 1) return (struct cut){depth, UINT64_MAX};
  return (struct cut){depth, target - (sum - counts[depth])};
}

static int goes(const struct cut *cut, const struct kvs__entry *entry) {
  uint32_t depth = depth_class(entry);
  return depth > cut->depth || (depth == cut->depth && cut->quota > 0);
}

static uint64_t cut_off(kvs_index *index, struct kvs__engine *engine, struct cut cut) {
  struct kvs__entries_table *table = &engine->entries;
  struct kvs__entries_segment *segment;
  uint64_t evicted = 0;
  size_t at = 0;
  while ((segment = kvs__entries_segment_at(table, at)) != NULL) {
    size_t after = kvs__entries_segment_after(table, at);
    for (uint32_t i = 0; i < segment->capacity;) {
      struct kvs__entry *entry = &segment->items[i];
      struct kvs__key key = {entry->key, entry->flags & KVS__ENTRY_BYTES};
      int ghost = (entry->flags & KVS__ENTRY_GHOST) != 0;
      int medium = engine->kinds[entry->kind].medium, counts = !ghost && depth_class(entry) == cut.depth;
      if (entry->flags == 0 || (!ghost && !goes(&cut, entry)) || !kvs__entry_drop(index, engine, entry)) {
        i++;
        continue;
      }
      cut.quota -= counts;
      kvs__entries_shift_back(table, segment, i);
      kvs__key_release(index, engine, key);
      evicted += !ghost;
      if (!ghost) kvs__record_lower(engine, medium, KVS_REASON_EVICTED);
      kvs__breathe(index, 1);
    }
    if (table->count == 0) {
      kvs__entries_end(table, &index->memory);
      break;
    }
    kvs__entries_tidy(table, &index->memory, at == 0 ? 0 : (uint64_t)at << (64 - table->depth));
    at = after;
  }
  return evicted;
}

int kvs__evict(kvs_index *index) {
  struct kvs__engine *engine = largest(index);
  uint64_t evicted;
  if (engine == NULL) return 0;
  index->memory.urgent++;
  evicted = cut_off(index, engine, where_to_cut(engine));
  index->memory.urgent--;
  engine->counters[KVS_COUNTER_EVICTED] += evicted;
  index->evicted += evicted;
  return evicted > 0;
}
