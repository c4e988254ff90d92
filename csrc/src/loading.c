/* Sections of a snapshot, read back into an index that is new: snapshot.c says what they are made of.
 *
 * A block lies in one place, found among the heads or right behind its parent (runs.h). Sections were saved one after the
 * other, so a block that one of them tells behind its parent may be told by another without it, and could not be found then.
 * That is why the starts of all sections are collected first: a block that is among them becomes a head when it is made.
 *
 * What is read cannot contradict itself: holder sets, heads and counts are made by holding, as they were in the first
 * place, and everything else is checked before it is believed. */
#include <stdlib.h>

#include "clock.h"
#include "engines.h"
#include "evict.h"
#include "models.h"
#include "names.h"
#include "orphans.h"
#include "reader.h"
#include "snapshot.h"

/* A section in two parts: what comes before the starts, and they. */
static void open_section(const uint8_t *bytes, size_t count, struct kvs__reader *body,
                         struct kvs__reader *starts) {
  uint64_t at;
  *body = (struct kvs__reader){bytes, bytes + count, KVS_OK};
  kvs__expect(body, kvs__take_number(body, UINT64_MAX) == KVS__SECTION_MARK);
  kvs__expect(body, kvs__take_number(body, UINT64_MAX) == KVS__SECTION_VERSION);
  at = kvs__take_number(body, count);
  *starts = (struct kvs__reader){bytes + at, bytes + count, body->status};
  kvs__expect(body, (count - at) % KVS__START_BYTES == 0);
  if (body->status == KVS_OK) body->end = bytes + at;
}

/* ---- an engine, but for its items ---- */

static void read_facts(struct kvs__reader *reader, struct kvs__engine *engine) {
  const uint8_t *counters;
  engine->heard = (uint8_t)kvs__take_number(reader, 1);
  engine->complete = (uint8_t)kvs__take_number(reader, 1);
  engine->beginning = (uint8_t)kvs__take_number(reader, KVS__BEGUN);
  engine->dialect = (uint8_t)kvs__take_number(reader, KVS_DIALECT_TAGGED);
  engine->media_made = (uint8_t)kvs__take_number(reader, KVS__MEDIA_MADE_MAX);
  engine->sequence = (int64_t)kvs__take_number(reader, UINT64_MAX);
  engine->lives = kvs__take_number(reader, UINT64_MAX);
  kvs__expect(reader, engine->sequence >= -1);
  kvs__expect(reader, kvs__take_number(reader, UINT64_MAX) == KVS_COUNTERS_COUNT);
  counters = kvs__take_bytes(reader, sizeof engine->counters);
  if (counters != NULL) memcpy(engine->counters, counters, sizeof engine->counters);
}

static void read_media(struct kvs__reader *reader, kvs_index *index, struct kvs__engine *engine) {
  uint64_t count = kvs__take_number(reader, KVS_MEDIA_MAX);
  for (uint64_t i = 0; i < count && reader->status == KVS_OK; i++) {
    size_t bytes;
    const char *name = kvs__take_text(reader, &bytes, KVS_MEDIUM_BYTES_MAX);
    int made;
    kvs__expect(reader, bytes > 0 && name != NULL && memchr(name, 0, bytes) == NULL);
    if (reader->status != KVS_OK) return;
    made = kvs__media_find(&index->media, &index->memory, name, bytes, 1);
    kvs__need(reader, made >= 0);
    engine->media[i].name = (uint32_t)made;
    engine->media[i].trust = (uint8_t)kvs__take_number(reader, KVS_TRUST_UNKNOWN);
    engine->media[i].reason = (uint8_t)kvs__take_number(reader, KVS_REASON_TOLD);
    engine->media[i].since = kvs__clock();
    for (uint64_t j = 0; j < i; j++) kvs__expect(reader, engine->media[j].name != engine->media[i].name);
  }
  engine->media_count = reader->status == KVS_OK ? (uint8_t)count : 0;
}

static void read_groups(struct kvs__reader *reader, struct kvs__engine *engine) {
  uint64_t count = kvs__take_number(reader, KVS_KINDS_MAX);
  for (uint64_t i = 0; i < count; i++) {
    struct kvs__group *group = &engine->groups[i];
    group->number = (uint32_t)kvs__take_number(reader, UINT16_MAX);
    group->block_size = (uint32_t)kvs__take_number(reader, 1u << 20);
    group->told = (uint8_t)kvs__take_number(reader, KVS__SPEC_STATE);
    group->spec = (uint8_t)kvs__take_number(reader, KVS__SPEC_STATE);
    group->on_gpu = (uint8_t)kvs__take_number(reader, 1);
    group->window = (int64_t)kvs__take_number(reader, UINT64_MAX);
    for (uint64_t j = 0; j < i; j++) kvs__expect(reader, engine->groups[j].number != group->number);
  }
  engine->groups_count = reader->status == KVS_OK ? (uint8_t)count : 0;
}

/* Byte hashes get the numbers they had; each is held by this until the end of its engine. */
static void read_names(struct kvs__reader *reader, kvs_index *index, struct kvs__engine *engine) {
  uint64_t count = kvs__take_number(reader, UINT32_MAX);
  for (uint64_t i = 1; i < count && reader->status == KVS_OK; i++) {
    size_t bytes;
    const char *at = kvs__take_text(reader, &bytes, KVS_HASH_BYTES_MAX);
    if (reader->status != KVS_OK) return;
    kvs__need(reader, kvs__name_load(index, engine, (const uint8_t *)at, (uint32_t)bytes));
  }
}

static void read_orphan(struct kvs__reader *reader, kvs_index *index, struct kvs__engine *engine) {
  const uint8_t *at = kvs__take_bytes(reader, sizeof(struct kvs__orphan));
  struct kvs__orphan orphan;
  struct kvs__key key, parent;
  struct kvs__seat seat;
  uint32_t added;
  if (at == NULL) return;
  memcpy(&orphan, at, sizeof orphan);
  kvs__expect(reader, orphan.kind < engine->kinds_count && orphan.key_form < 2 && orphan.parent_form < 2);
  kvs__expect(reader, orphan.parent_form == KVS__INTEGERS ||
                          (orphan.parent > 0 && orphan.parent < engine->names_count &&
                           engine->names[orphan.parent] != NULL));
  if (reader->status != KVS_OK) return;
  key = (struct kvs__key){orphan.key, orphan.key_form};
  parent = (struct kvs__key){orphan.parent, orphan.parent_form};
  seat = kvs__entry_find(engine, key, orphan.kind);
  kvs__expect(reader, seat.bucket != NULL && kvs__seat_value(seat) == KVS__UNTIED);
  if (reader->status != KVS_OK) return;
  added = kvs__orphan_add(index, engine, key, orphan.kind, parent, orphan.local);
  kvs__need(reader, added != 0);
  if (added != 0) seat.bucket->values[seat.at] = KVS__ORPHAN(added);
}

static void read_engine(struct kvs__reader *reader, struct kvs_loading *loading, struct kvs__reader *starts,
                        struct kvs__engine *engine) {
  kvs_index *index = loading->index;
  uint64_t count;
  read_facts(reader, engine);
  read_media(reader, index, engine);
  read_groups(reader, engine);
  read_names(reader, index, engine);
  count = kvs__take_number(reader, KVS_KINDS_MAX);
  for (uint64_t i = 0; i < count && reader->status == KVS_OK; i++)
    kvs__read_kind(reader, loading, starts, engine);
  count = kvs__take_number(reader, KVS_ORPHANS_MAX);
  for (uint64_t i = 0; i < count && reader->status == KVS_OK; i++) read_orphan(reader, index, engine);
  for (int i = 0; i < engine->media_count; i++)
    kvs__expect(reader, (engine->media[i].trust == KVS_TRUST_STALE) == (engine->media[i].doubtful > 0));
  kvs__expect(reader, kvs__take_number(reader, UINT64_MAX) == KVS__SECTION_MARK && reader->at == reader->end);
  kvs__expect(reader, starts->status == KVS_OK && starts->at == starts->end);
  if (reader->status != KVS_OK) return;
  kvs__names_loaded(index, engine);
  engine->unproven = engine->heard;
  kvs__evict_beyond(index, engine);
  kvs__need(reader, kvs__model_refresh(index, engine->model));
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
  struct kvs__reader body, starts;
  if (loading == NULL || bytes == NULL) return KVS_ERR_ARGUMENT;
  open_section(bytes, count, &body, &starts);
  while (body.status == KVS_OK && starts.at < starts.end) {
    uint64_t block = kvs__take_number(&starts, UINT64_MAX);
    (void)kvs__take_number(&starts, UINT32_MAX);
    kvs__need(&body, kvs__map_set(&loading->starts, &loading->memory, block, 1));
  }
  return body.status != KVS_OK ? body.status : starts.status;
}

kvs_status kvs_loading_engine(kvs_loading *loading, const char *model, size_t model_bytes, const uint8_t *bytes,
                              size_t count, uint32_t *number) {
  struct kvs__reader body, starts;
  uint32_t added;
  if (loading == NULL || bytes == NULL || number == NULL) return KVS_ERR_ARGUMENT;
  if ((model == NULL && model_bytes > 0) || model_bytes > KVS_TEXT_BYTES_MAX) return KVS_ERR_ARGUMENT;
  open_section(bytes, count, &body, &starts);
  if (body.status != KVS_OK) return body.status;
  pthread_mutex_lock(&loading->index->writing);
  kvs__state_begin(loading->index);
  body.status = kvs__engine_add(loading->index, model, model_bytes, &added);
  if (body.status == KVS_OK) read_engine(&body, loading, &starts, loading->index->engines[added]);
  kvs__state_end(loading->index);
  pthread_mutex_unlock(&loading->index->writing);
  if (body.status == KVS_OK) *number = added;
  return body.status;
}

void kvs_loading_end(kvs_loading *loading) {
  if (loading == NULL) return;
  kvs__map_end(&loading->starts, &loading->memory);
  free(loading);
}
