/* One engine's record: its media, kinds and groups, its lives and its end. */
#include "record.h"

#include <assert.h>
#include <string.h>

#include "adapters.h"
#include "clock.h"
#include "entries.h"
#include "gone.h"
#include "orphans.h"
#include "trust.h"

int kvs__record_medium(kvs_index *index, struct kvs__engine *engine, const char *text, size_t bytes, int make) {
  struct kvs__medium *medium;
  int name;
  if (bytes == 0) {
    text = "GPU";
    bytes = 3;
  }
  for (int i = 0; i < engine->media_count; i++) { /* as nearly always: known, and in capitals */
    const struct kvs__medium_name *known = kvs__media_name(&index->media, engine->media[i].name);
    if (known->bytes == bytes && memcmp(known->text, text, bytes) == 0) return i;
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
  medium->since = kvs__clock();
  medium->reason = engine->complete ? KVS_REASON_NONE : KVS_REASON_BEGINNING;
  return engine->media_count++;
}

int kvs__record_gpu(kvs_index *index, struct kvs__engine *engine) {
  return kvs__record_medium(index, engine, "GPU", 3, 1);
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

int kvs__record_kind(kvs_index *index, struct kvs__engine *engine, int medium, uint32_t number, int make) {
  int group = group_of(engine, number, make && engine->kinds_count < KVS_KINDS_MAX);
  struct kvs__kind *kind;
  if (group < 0) return -1;
  for (int i = 0; i < engine->kinds_count; i++)
    if (engine->kinds[i]->medium == medium && engine->kinds[i]->group == group) return i;
  if (!make || engine->kinds_count == KVS_KINDS_MAX) return -1;
  kind = kvs__alloc_zero(&index->memory, sizeof *kind);
  if (kind == NULL) return -1;
  kind->medium = (uint8_t)medium;
  kind->group = (uint8_t)group;
  for (int form = 0; form < 2; form++) kvs__keys_init(&kind->held[form], index->hasher.seed | 1);
  engine->kinds[engine->kinds_count] = kind;
  return engine->kinds_count++;
}

int kvs__event_place(kvs_index *index, struct kvs__engine *engine, const struct kvs__event *event,
                     int *medium) {
  *medium = kvs__record_medium(index, engine, event->medium.at, event->medium.bytes, 0);
  if (engine->kinds_count == KVS_KINDS_MAX)
    return *medium < 0 ? -1 : kvs__record_kind(index, engine, *medium, event->group, 0);
  if (*medium < 0) *medium = kvs__record_medium(index, engine, event->medium.at, event->medium.bytes, 1);
  return *medium < 0 ? -1 : kvs__record_kind(index, engine, *medium, event->group, 1);
}

/* ---- dropping ---- */

#define EVERY_MEDIUM (-1)

/* Drop every entry of a medium, and its orphans; counts what was held. */
static uint64_t drop(kvs_index *index, struct kvs__engine *engine, int medium) {
  uint64_t dropped = 0;
  index->memory.urgent++;
  for (uint32_t kind = 0; kind < engine->kinds_count; kind++)
    if (medium == EVERY_MEDIUM || engine->kinds[kind]->medium == medium)
      dropped += kvs__kind_drop(index, engine, kind, NULL, NULL);
  index->memory.urgent--;
  return dropped;
}

uint64_t kvs__record_clear(kvs_index *index, struct kvs__engine *engine, int number) {
  uint64_t dropped = drop(index, engine, number);
  struct kvs__medium *medium = &engine->media[number];
  if (medium->entries > 0) {
    kvs__record_doubt(engine, number, KVS_REASON_MEMORY);
  } else {
    kvs__medium_set_trust(medium, KVS_TRUST_EXACT);
    medium->reason = KVS_REASON_NONE;
  }
  return dropped;
}

/* ---- lives ---- */

static void begin_life(struct kvs__engine *engine) {
  engine->heard = 0;
  engine->complete = 0;
  engine->unproven = 0;
  engine->beginning = KVS__EXPECT_ZERO;
  engine->dialect = KVS_DIALECT_NONE;
  engine->media_count = 0;
  engine->groups_count = 0;
  engine->sequence = -1;
}

void kvs__record_init(struct kvs__engine *engine) {
  begin_life(engine);
  engine->lives = 1;
}

static void free_parts(kvs_index *index, struct kvs__engine *engine) {
  struct kvs__memory *memory = &index->memory;
  for (int i = 0; i < engine->kinds_count; i++) {
    struct kvs__kind *kind = engine->kinds[i];
    for (int form = 0; form < 2; form++) {
      kvs__keys_end(&kind->held[form], &index->segments, memory);
      kvs__map_end(&kind->copies[form], memory);
      kvs__map_end(&kind->gone[form], memory);
    }
    kvs__map_end(&kind->aliases, memory);
    kvs__free(memory, kind, sizeof *kind);
    engine->kinds[i] = NULL;
  }
  engine->kinds_count = 0;
  kvs__free(memory, engine->names, engine->names_capacity * sizeof *engine->names);
  kvs__free(memory, engine->names_next, engine->names_capacity * sizeof *engine->names_next);
  engine->names = NULL;
  engine->names_next = NULL;
  engine->names_count = engine->names_capacity = engine->names_free = 0;
  kvs__map_end(&engine->names_by_hash, memory);
  kvs__free(memory, engine->gone, engine->gone_capacity * sizeof *engine->gone);
  engine->gone = NULL;
  engine->gone_count = engine->gone_capacity = engine->gone_mapped = 0;
  kvs__orphans_end(index, engine);
  kvs__adapters_end(index, engine);
}

int kvs__record_end(kvs_index *index, struct kvs__engine *engine) {
  kvs__gone_flush(index, engine);
  (void)drop(index, engine, EVERY_MEDIUM);
  if (engine->held > 0 || engine->gone_count > 0) {
    kvs__record_doubt_all(engine, KVS_REASON_MEMORY);
    return 0;
  }
  assert(engine->untied == 0);
  assert(engine->orphans_live == 0);
  assert(engine->names_by_hash.count == 0);
  free_parts(index, engine);
  return 1;
}

void kvs__record_reset(kvs_index *index, struct kvs__engine *engine) {
  if (kvs__record_end(index, engine)) {
    begin_life(engine);
    return;
  }
  /* What is left goes with its removals. */
  engine->sequence = -1;
  engine->beginning = KVS__EXPECT_ZERO;
}

void kvs__record_discard(kvs_index *index, struct kvs__engine *engine) {
  for (uint32_t i = 1; i < engine->names_count; i++)
    if (engine->names[i] != NULL)
      kvs__free(&index->memory, engine->names[i], sizeof *engine->names[i] + engine->names[i]->length);
  free_parts(index, engine);
}
