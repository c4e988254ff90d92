/* One engine's record: its media and their trust, its kinds and groups, its end. */
#include "index.h"

int kvs__record_medium(kvs_index *index, struct kvs__engine *engine, const char *text, size_t bytes, int make) {
  struct kvs__medium *medium;
  int name;
  if (bytes == 0) {
    text = "GPU";
    bytes = 3;
  }
  name = kvs__media_find(&index->media, &index->memory, text, bytes, 0);
  if (name < 0 && make && engine->media_count < KVS_MEDIA_MAX && engine->media_made < KVS__MEDIA_MADE_MAX) {
    name = kvs__media_find(&index->media, &index->memory, text, bytes, 1);
    engine->media_made += name >= 0;
  }
  if (name < 0) return -1;
  for (int i = 0; i < engine->media_count; i++)
    if (engine->media[i].name == (uint32_t)name) return i;
  if (!make || engine->media_count == KVS_MEDIA_MAX) return -1;
  medium = &engine->media[engine->media_count];
  memset(medium, 0, sizeof *medium);
  medium->name = (uint32_t)name;
  medium->trust = engine->complete ? KVS_TRUST_EXACT : KVS_TRUST_PARTIAL;
  medium->reason = engine->complete ? KVS_REASON_NONE : KVS_REASON_BEGINNING;
  medium->epoch = 1;
  return engine->media_count++;
}

static int group_of(struct kvs__engine *engine, uint32_t number, int make) {
  struct kvs__group *group;
  for (int i = 0; i < engine->groups_count; i++)
    if (engine->groups[i].number == number) return i;
  if (!make || engine->groups_count == KVS_KINDS_MAX) return -1;
  group = &engine->groups[engine->groups_count];
  memset(group, 0, sizeof *group);
  group->number = number;
  group->window = -1;
  return engine->groups_count++;
}

int kvs__record_kind(struct kvs__engine *engine, int medium, uint32_t number, int make) {
  int group = group_of(engine, number, make && engine->kinds_count < KVS_KINDS_MAX);
  if (group < 0) return -1;
  for (int i = 0; i < engine->kinds_count; i++)
    if (engine->kinds[i].medium == medium && engine->kinds[i].group == group) return i;
  if (!make || engine->kinds_count == KVS_KINDS_MAX) return -1;
  engine->kinds[engine->kinds_count].medium = (uint8_t)medium;
  engine->kinds[engine->kinds_count].group = (uint8_t)group;
  return engine->kinds_count++;
}

uint8_t kvs__record_trust(const struct kvs__engine *engine) {
  uint8_t worst = KVS_TRUST_EXACT;
  if (!engine->heard) return KVS_TRUST_UNKNOWN;
  for (int i = 0; i < engine->media_count; i++)
    if (engine->media[i].trust > worst) worst = engine->media[i].trust;
  return worst;
}

/* ---- doubt ---- */

/* The epoch has no number left: give every entry of the medium the one number that is never current. */
static void sweep(kvs_index *index, struct kvs__engine *engine, int medium) {
  struct kvs__entries_segment *segment;
  size_t at = 0;
  while ((segment = kvs__entries_segment_at(&engine->entries, at)) != NULL) {
    for (uint32_t i = 0; i < segment->capacity; i++)
      if (segment->items[i].flags != 0 && engine->kinds[segment->items[i].kind].medium == medium)
        segment->items[i].epoch = 0;
    at = kvs__entries_segment_after(&engine->entries, at);
    kvs__breathe(index, KVS_SLICE_BLOCKS);
  }
}

void kvs__record_doubt(kvs_index *index, struct kvs__engine *engine, int number, enum kvs_reason reason) {
  struct kvs__medium *medium = &engine->media[number];
  medium->reason = (uint8_t)reason;
  if (medium->entries == 0) {
    medium->trust = KVS_TRUST_PARTIAL;
    return;
  }
  if (medium->doubtful == medium->entries) return; /* nothing is certain as it is: spare the epochs */
  if (medium->epoch == KVS__EPOCH_MAX) {
    sweep(index, engine, number);
    medium->epoch = 0;
  }
  medium->epoch++;
  medium->doubtful = medium->entries;
  medium->trust = KVS_TRUST_STALE;
}

void kvs__record_doubt_all(kvs_index *index, struct kvs__engine *engine, enum kvs_reason reason) {
  engine->complete = 0;
  for (int i = 0; i < engine->media_count; i++) kvs__record_doubt(index, engine, i, reason);
}

void kvs__record_lower(struct kvs__engine *engine, int number, enum kvs_reason reason) {
  struct kvs__medium *medium = &engine->media[number];
  engine->complete = 0;
  if (medium->trust != KVS_TRUST_EXACT) return;
  medium->trust = KVS_TRUST_PARTIAL;
  medium->reason = (uint8_t)reason;
}

/* ---- dropping ---- */

uint64_t kvs__record_drop(kvs_index *index, struct kvs__engine *engine, int medium) {
  struct kvs__entries_table *table = &engine->entries;
  struct kvs__entries_segment *segment;
  uint64_t dropped = 0;
  size_t at = 0;
  index->memory.urgent++;
  while ((segment = kvs__entries_segment_at(table, at)) != NULL) {
    size_t after = kvs__entries_segment_after(table, at);
    for (uint32_t i = 0; i < segment->capacity;) {
      struct kvs__entry *entry = &segment->items[i];
      struct kvs__key key = {entry->key, entry->flags & KVS__ENTRY_BYTES};
      int ghost = (entry->flags & KVS__ENTRY_GHOST) != 0;
      if (entry->flags == 0 || (medium >= 0 && engine->kinds[entry->kind].medium != medium) ||
          !kvs__entry_drop(index, engine, entry)) {
        i++;
        continue;
      }
      kvs__entries_shift_back(table, segment, i); /* fills this slot again: look at it once more */
      kvs__key_release(index, engine, key);
      dropped += !ghost;
      kvs__breathe(index, 1);
    }
    if (table->count == 0) {
      kvs__entries_end(table, &index->memory);
      break;
    }
    kvs__entries_tidy(table, &index->memory, at == 0 ? 0 : (uint64_t)at << (64 - table->depth));
    at = after;
  }
  index->memory.urgent--;
  return dropped;
}

/* ---- lives ---- */

static void begin_life(struct kvs__engine *engine) {
  engine->heard = 0;
  engine->complete = 0;
  engine->beginning = KVS__EXPECT_ZERO;
  engine->dialect = KVS_DIALECT_NONE;
  engine->kinds_count = 0;
  engine->media_count = 0;
  engine->groups_count = 0;
  engine->sequence = -1;
  engine->ghosts_at = 0;
}

void kvs__record_init(struct kvs__engine *engine) {
  begin_life(engine);
  engine->lives = 1;
}

static void free_parts(kvs_index *index, struct kvs__engine *engine) {
  struct kvs__memory *memory = &index->memory;
  kvs__entries_end(&engine->entries, memory);
  kvs__free(memory, engine->names, engine->names_capacity * sizeof *engine->names);
  kvs__free(memory, engine->names_next, engine->names_capacity * sizeof *engine->names_next);
  engine->names = NULL;
  engine->names_next = NULL;
  engine->names_count = engine->names_capacity = engine->names_free = 0;
  kvs__map_end(&engine->names_by_hash, memory);
  kvs__free(memory, engine->ghosts, engine->ghosts_capacity * sizeof *engine->ghosts);
  engine->ghosts = NULL;
  engine->ghosts_capacity = 0;
  kvs__orphans_end(index, engine);
  kvs__map_end(&engine->aliases, memory);
}

/* Free what a record that holds nothing any more still has. */
static void free_empty(kvs_index *index, struct kvs__engine *engine) {
  assert(engine->held == 0);
  assert(engine->untied == 0);
  assert(engine->ghosts_live == 0);
  assert(engine->orphans_live == 0);
  assert(engine->names_by_hash.count == 0);
  assert(engine->aliases.count == 0);
  free_parts(index, engine);
}

void kvs__record_reset(kvs_index *index, struct kvs__engine *engine) {
  (void)kvs__record_drop(index, engine, -1);
  if (engine->held > 0) {
    /* Real memory ran out while taking holders away: what is left is doubted, and goes with its removals. */
    kvs__record_doubt_all(index, engine, KVS_REASON_MEMORY);
    engine->sequence = -1;
    engine->beginning = KVS__EXPECT_ZERO;
    return;
  }
  free_empty(index, engine);
  begin_life(engine);
}

int kvs__record_end(kvs_index *index, struct kvs__engine *engine) {
  (void)kvs__record_drop(index, engine, -1);
  if (engine->held > 0) {
    kvs__record_doubt_all(index, engine, KVS_REASON_MEMORY);
    return 0;
  }
  free_empty(index, engine);
  return 1;
}

void kvs__record_discard(kvs_index *index, struct kvs__engine *engine) {
  for (uint32_t i = 1; i < engine->names_count; i++)
    if (engine->names[i] != NULL)
      kvs__free(&index->memory, engine->names[i], sizeof *engine->names[i] + engine->names[i]->length);
  free_parts(index, engine);
}
