/* Sections of a snapshot, read back into an index that is new: snapshot.c says what they are made of.
 *
 * A block has one record, found among the heads or right behind its parent (runs.h). Sections were saved one after the other,
 * so a block that one of them tells behind its parent may be told by another without it, and could not be found then. That is
 * why the starts of all sections are collected first: a block that is among them becomes a head when it is made.
 *
 * What is read cannot contradict itself: holder sets, heads and counts are made by holding, as they were in the first
 * place, and everything else is checked before it is believed. */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "engines.h"
#include "evict.h"
#include "holders.h"
#include "models.h"
#include "names.h"
#include "orphans.h"
#include "record.h"
#include "snapshot.h"

struct kvs_loading {
  kvs_index *index;
  struct kvs__map starts;      /* 1 for every block that some section tells without its predecessor */
  struct kvs__memory memory;   /* of that, which is gone when all is loaded: beyond the ceiling */
};

/* Whatever is wrong is noted once; reading goes on with zeros, and every loop ends with its input. */
struct reader {
  const uint8_t *at;
  const uint8_t *end;
  kvs_status status;
};

static void fail(struct reader *reader, kvs_status status) {
  if (reader->status == KVS_OK) reader->status = status;
  reader->at = reader->end;
}

static const uint8_t *take(struct reader *reader, uint64_t bytes) {
  const uint8_t *at = reader->at;
  if ((uint64_t)(reader->end - reader->at) < bytes) {
    fail(reader, KVS_ERR_SNAPSHOT);
    return NULL;
  }
  reader->at += bytes;
  return at;
}

static uint64_t number_at(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

/* Beyond `most`: not a snapshot. */
static uint64_t number(struct reader *reader, uint64_t most) {
  const uint8_t *at = take(reader, sizeof(uint64_t));
  uint64_t value = at == NULL ? 0 : number_at(at);
  if (value <= most) return value;
  fail(reader, KVS_ERR_SNAPSHOT);
  return 0;
}

static void expect(struct reader *reader, int holds) {
  if (!holds) fail(reader, KVS_ERR_SNAPSHOT);
}

static void need(struct reader *reader, int had_memory) {
  if (!had_memory) fail(reader, KVS_ERR_MEMORY);
}

static const char *text(struct reader *reader, size_t *bytes, uint64_t most) {
  *bytes = (size_t)number(reader, most);
  return (const char *)take(reader, *bytes);
}

/* A section in two parts: what comes before the starts, and they. */
static void open_section(const uint8_t *bytes, size_t count, struct reader *body, struct reader *starts) {
  uint64_t at;
  *body = (struct reader){bytes, bytes + count, KVS_OK};
  expect(body, number(body, UINT64_MAX) == KVS__SECTION_MARK);
  expect(body, number(body, UINT64_MAX) == KVS__SECTION_VERSION);
  at = number(body, count);
  *starts = (struct reader){bytes + at, bytes + count, body->status};
  expect(body, (count - at) % KVS__START_BYTES == 0);
  if (body->status == KVS_OK) body->end = bytes + at;
}

/* ---- items ---- */

struct columns {
  const uint8_t *hows;
  const uint8_t *keys;
  struct reader *starts;
  uint32_t slot; /* of the item before */
};

/* The record of a block, found or made; KVS__SLOT_NONE = out of memory. */
static uint32_t block_of(struct kvs_loading *loading, uint32_t parent, uint64_t block, uint32_t depth,
                         uint32_t coming) {
  kvs_index *index = loading->index;
  uint32_t slot = kvs__runs_make(&index->runs, &index->segments, &index->memory, parent, block, depth, coming);
  if (slot == KVS__SLOT_NONE || kvs__slot_set(&index->runs, slot) != 0) return slot;
  if (kvs__map_get(&loading->starts, block) == 0) return slot;
  return kvs__runs_head(&index->runs, &index->segments, &index->memory, slot) ? slot : KVS__SLOT_NONE;
}

/* This item and those that follow it, each the child of the one before. */
static uint32_t coming(const uint8_t *how, const uint8_t *end) {
  uint32_t count = 1;
  while (++how < end && (*how & KVS__HOW_BITS) == KVS__HOW_NEXT && count < KVS__RUN_BLOCKS) count++;
  return count;
}

/* The slot that the item at `at` is tied to, or KVS__UNTIED. */
static uint32_t slot_of(struct reader *reader, struct kvs_loading *loading, struct columns *columns,
                        const uint8_t *at) {
  enum kvs__how how = (enum kvs__how)(*at & KVS__HOW_BITS);
  uint64_t block, depth;
  if (how == KVS__HOW_UNTIED) return KVS__UNTIED;
  if (how == KVS__HOW_START) {
    block = number(columns->starts, UINT64_MAX);
    depth = number(columns->starts, UINT32_MAX);
    expect(reader, columns->starts->status == KVS_OK && kvs__map_get(&loading->starts, block) != 0);
    if (reader->status != KVS_OK) return KVS__UNTIED;
    columns->slot = block_of(loading, KVS__SLOT_NONE, block, (uint32_t)depth, coming(at, columns->keys));
  } else {
    expect(reader, columns->slot != KVS__SLOT_NONE);
    block = how == KVS__HOW_NEXT ? number(reader, UINT64_MAX) : 0;
    if (reader->status != KVS_OK) return KVS__UNTIED;
    if (how == KVS__HOW_NEXT)
      columns->slot =
          block_of(loading, columns->slot, block, kvs__slot_depth(&loading->index->runs, columns->slot) + 1, 1);
  }
  need(reader, columns->slot != KVS__SLOT_NONE);
  return columns->slot;
}

static void read_item(struct reader *reader, struct kvs_loading *loading, struct kvs__engine *engine,
                      uint32_t kind, struct kvs__key key, uint8_t how, uint32_t slot) {
  kvs_index *index = loading->index;
  struct kvs__kind *where = engine->kinds[kind];
  struct kvs__medium *medium = &engine->media[where->medium];
  struct kvs__seat seat;
  expect(reader, key.form == KVS__INTEGERS ||
                     (key.value > 0 && key.value < engine->names_count && engine->names[key.value] != NULL));
  expect(reader, reader->status != KVS_OK || kvs__entry_find(engine, key, kind).bucket == NULL);
  if (reader->status != KVS_OK) return;
  if (slot != KVS__UNTIED && !kvs__hold(index, engine, kind, slot)) {
    fail(reader, KVS_ERR_MEMORY);
    return;
  }
  seat = kvs__keys_insert(&where->held[key.form], &index->segments, &index->memory, key.value, slot);
  if (seat.bucket == NULL) {
    fail(reader, KVS_ERR_MEMORY);
    return;
  }
  if (how & KVS__HOW_DOUBTFUL) seat.bucket->doubtful |= 1u << seat.at;
  if (how & KVS__HOW_COPIES) seat.bucket->marked |= 1u << seat.at;
  kvs__key_hold(engine, key);
  medium->entries++;
  medium->doubtful += how & KVS__HOW_DOUBTFUL ? 1 : 0;
  engine->held++;
  index->entries_held++;
  engine->untied += slot == KVS__UNTIED;
}

static void read_copies(struct reader *reader, kvs_index *index, struct kvs__kind *kind, uint8_t form,
                        const struct columns *columns, uint64_t count) {
  for (uint64_t i = 0; i < count && reader->status == KVS_OK; i++) {
    uint32_t copies;
    if (!(columns->hows[i] & KVS__HOW_COPIES)) continue;
    copies = (uint32_t)number(reader, INT32_MAX);
    expect(reader, copies > 1);
    if (reader->status == KVS_OK)
      need(reader, kvs__map_set(&kind->copies[form], &index->memory, number_at(columns->keys + i * 8), copies));
  }
}

static void read_items(struct reader *reader, struct kvs_loading *loading, struct reader *starts,
                       struct kvs__engine *engine, uint32_t kind, uint8_t form) {
  uint64_t count = number(reader, (uint64_t)(reader->end - reader->at));
  struct columns columns = {take(reader, count), NULL, starts, KVS__SLOT_NONE};
  columns.keys = take(reader, count * sizeof(uint64_t));
  for (uint64_t i = 0; i < count && reader->status == KVS_OK; i++) {
    uint8_t how = columns.hows[i];
    struct kvs__key key = {number_at(columns.keys + i * sizeof(uint64_t)), form};
    uint32_t slot;
    expect(reader, (how & ~KVS__HOW_ALL) == 0);
    slot = slot_of(reader, loading, &columns, columns.hows + i);
    if (reader->status == KVS_OK) read_item(reader, loading, engine, kind, key, how, slot);
  }
  read_copies(reader, loading->index, engine->kinds[kind], form, &columns, count);
}

static void read_kind(struct reader *reader, struct kvs_loading *loading, struct reader *starts,
                      struct kvs__engine *engine) {
  uint64_t medium = number(reader, KVS_MEDIA_MAX - 1), group = number(reader, KVS_KINDS_MAX - 1);
  int kind;
  expect(reader, medium < engine->media_count && group < engine->groups_count);
  if (reader->status != KVS_OK) return;
  kind = kvs__record_kind(loading->index, engine, (int)medium, engine->groups[group].number, 1);
  if (kind < 0) {
    fail(reader, KVS_ERR_MEMORY);
    return;
  }
  expect(reader, kind + 1 == engine->kinds_count); /* each comes once */
  for (uint8_t form = 0; form < 2 && reader->status == KVS_OK; form++)
    read_items(reader, loading, starts, engine, (uint32_t)kind, form);
}

/* ---- the rest ---- */

static void read_facts(struct reader *reader, struct kvs__engine *engine) {
  const uint8_t *counters;
  engine->heard = (uint8_t)number(reader, 1);
  engine->complete = (uint8_t)number(reader, 1);
  engine->beginning = (uint8_t)number(reader, KVS__BEGUN);
  engine->dialect = (uint8_t)number(reader, KVS_DIALECT_TAGGED);
  engine->media_made = (uint8_t)number(reader, KVS__MEDIA_MADE_MAX);
  engine->sequence = (int64_t)number(reader, UINT64_MAX);
  engine->lives = number(reader, UINT64_MAX);
  expect(reader, engine->sequence >= -1);
  expect(reader, number(reader, UINT64_MAX) == KVS_COUNTERS_COUNT);
  counters = take(reader, sizeof engine->counters);
  if (counters != NULL) memcpy(engine->counters, counters, sizeof engine->counters);
}

static void read_media(struct reader *reader, kvs_index *index, struct kvs__engine *engine) {
  uint64_t count = number(reader, KVS_MEDIA_MAX);
  for (uint64_t i = 0; i < count && reader->status == KVS_OK; i++) {
    size_t bytes;
    const char *name = text(reader, &bytes, KVS_MEDIUM_BYTES_MAX);
    int made;
    expect(reader, bytes > 0 && name != NULL && memchr(name, 0, bytes) == NULL);
    if (reader->status != KVS_OK) return;
    made = kvs__media_find(&index->media, &index->memory, name, bytes, 1);
    need(reader, made >= 0);
    engine->media[i].name = (uint32_t)made;
    engine->media[i].trust = (uint8_t)number(reader, KVS_TRUST_UNKNOWN);
    engine->media[i].reason = (uint8_t)number(reader, KVS_REASON_TOLD);
    engine->media[i].since = kvs__clock();
    for (uint64_t j = 0; j < i; j++) expect(reader, engine->media[j].name != engine->media[i].name);
  }
  engine->media_count = reader->status == KVS_OK ? (uint8_t)count : 0;
}

static void read_groups(struct reader *reader, struct kvs__engine *engine) {
  uint64_t count = number(reader, KVS_KINDS_MAX);
  for (uint64_t i = 0; i < count; i++) {
    struct kvs__group *group = &engine->groups[i];
    group->number = (uint32_t)number(reader, UINT16_MAX);
    group->block_size = (uint32_t)number(reader, 1u << 20);
    group->told = (uint8_t)number(reader, KVS__SPEC_STATE);
    group->spec = (uint8_t)number(reader, KVS__SPEC_STATE);
    group->on_gpu = (uint8_t)number(reader, 1);
    group->window = (int64_t)number(reader, UINT64_MAX);
    for (uint64_t j = 0; j < i; j++) expect(reader, engine->groups[j].number != group->number);
  }
  engine->groups_count = reader->status == KVS_OK ? (uint8_t)count : 0;
}

/* Byte hashes get the numbers they had; each is held by this until the end of its engine. */
static void read_names(struct reader *reader, kvs_index *index, struct kvs__engine *engine) {
  uint64_t count = number(reader, UINT32_MAX);
  for (uint64_t i = 1; i < count && reader->status == KVS_OK; i++) {
    size_t bytes;
    const char *at = text(reader, &bytes, KVS_HASH_BYTES_MAX);
    if (reader->status != KVS_OK) return;
    need(reader, kvs__name_load(index, engine, (const uint8_t *)at, (uint32_t)bytes));
  }
}

static void read_orphan(struct reader *reader, kvs_index *index, struct kvs__engine *engine) {
  const uint8_t *at = take(reader, sizeof(struct kvs__orphan));
  struct kvs__orphan orphan;
  struct kvs__key key, parent;
  struct kvs__seat seat;
  uint32_t added;
  if (at == NULL) return;
  memcpy(&orphan, at, sizeof orphan);
  expect(reader, orphan.kind < engine->kinds_count && orphan.key_form < 2 && orphan.parent_form < 2);
  expect(reader,
         orphan.parent_form == KVS__INTEGERS || (orphan.parent > 0 && orphan.parent < engine->names_count &&
                                                 engine->names[orphan.parent] != NULL));
  if (reader->status != KVS_OK) return;
  key = (struct kvs__key){orphan.key, orphan.key_form};
  parent = (struct kvs__key){orphan.parent, orphan.parent_form};
  seat = kvs__entry_find(engine, key, orphan.kind);
  expect(reader, seat.bucket != NULL && seat.bucket->values[seat.at] == KVS__UNTIED);
  if (reader->status != KVS_OK) return;
  added = kvs__orphan_add(index, engine, key, orphan.kind, parent, orphan.local);
  need(reader, added != 0);
  if (added != 0) seat.bucket->values[seat.at] = KVS__ORPHAN(added);
}

static void read_engine(struct reader *reader, struct kvs_loading *loading, struct reader *starts,
                        struct kvs__engine *engine) {
  kvs_index *index = loading->index;
  uint64_t count;
  read_facts(reader, engine);
  read_media(reader, index, engine);
  read_groups(reader, engine);
  read_names(reader, index, engine);
  count = number(reader, KVS_KINDS_MAX);
  for (uint64_t i = 0; i < count && reader->status == KVS_OK; i++) read_kind(reader, loading, starts, engine);
  count = number(reader, KVS_ORPHANS_MAX);
  for (uint64_t i = 0; i < count && reader->status == KVS_OK; i++) read_orphan(reader, index, engine);
  for (int i = 0; i < engine->media_count; i++)
    expect(reader, (engine->media[i].trust == KVS_TRUST_STALE) == (engine->media[i].doubtful > 0));
  expect(reader, number(reader, UINT64_MAX) == KVS__SECTION_MARK && reader->at == reader->end);
  expect(reader, starts->status == KVS_OK && starts->at == starts->end);
  if (reader->status != KVS_OK) return;
  kvs__names_loaded(index, engine);
  engine->unproven = engine->heard;
  kvs__evict_beyond(index, engine);
  need(reader, kvs__model_refresh(index, engine->model));
}

/* ---- the door ---- */

kvs_status kvs_loading_begin(kvs_index *index, kvs_loading **loading) {
  if (index == NULL || loading == NULL || index->engines_count > 0) return KVS_ERR_ARGUMENT;
  *loading = calloc(1, sizeof **loading);
  if (*loading == NULL) return KVS_ERR_MEMORY;
  (*loading)->index = index;
  return KVS_OK;
}

kvs_status kvs_loading_starts(kvs_loading *loading, const uint8_t *bytes, size_t count) {
  struct reader body, starts;
  if (loading == NULL || bytes == NULL) return KVS_ERR_ARGUMENT;
  open_section(bytes, count, &body, &starts);
  while (body.status == KVS_OK && starts.at < starts.end) {
    uint64_t block = number(&starts, UINT64_MAX);
    (void)number(&starts, UINT32_MAX);
    need(&body, kvs__map_set(&loading->starts, &loading->memory, block, 1));
  }
  return body.status != KVS_OK ? body.status : starts.status;
}

kvs_status kvs_loading_engine(kvs_loading *loading, const char *model, size_t model_bytes, const uint8_t *bytes,
                              size_t count, uint32_t *number) {
  struct reader body, starts;
  if (loading == NULL || bytes == NULL || number == NULL) return KVS_ERR_ARGUMENT;
  if ((model == NULL && model_bytes > 0) || model_bytes > KVS_TEXT_BYTES_MAX) return KVS_ERR_ARGUMENT;
  open_section(bytes, count, &body, &starts);
  if (body.status != KVS_OK) return body.status;
  pthread_mutex_lock(&loading->index->writing);
  kvs__state_begin(loading->index);
  body.status = kvs__engine_add(loading->index, model, model_bytes, number);
  if (body.status == KVS_OK) read_engine(&body, loading, &starts, loading->index->engines[*number]);
  kvs__state_end(loading->index);
  pthread_mutex_unlock(&loading->index->writing);
  return body.status;
}

void kvs_loading_end(kvs_loading *loading) {
  if (loading == NULL) return;
  kvs__map_end(&loading->starts, &loading->memory);
  free(loading);
}
