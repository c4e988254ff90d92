/* A whole index as bytes, and back.
 *
 *   header   mark, version, seed
 *   models, media names: in the order of their numbers
 *   runs     for each number: depth, places, and the block hashes packed; nothing where the number is free
 *   engines  for each number: facts, media, groups, byte hashes, kinds with their items, orphans
 *
 * Holder sets, heads and counts are not written: they follow from the items, and are made again by holding them. So what
 * is read cannot contradict itself, and everything else is checked before it is believed. Byte order is the host's; the
 * mark does not read the same in the other. Whoever keeps the bytes adds a checksum. */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "index.h"

#define MARK UINT64_C(0x31706e7363767973)
#define VERSION 1u

/* ---- writing ---- */

struct writer {
  uint8_t *bytes;
  size_t count;
  size_t capacity;
  int failed;
};

static void put(struct writer *writer, const void *data, size_t bytes) {
  if (writer->count + bytes > writer->capacity && !writer->failed) {
    size_t capacity = (writer->count + bytes) * 2;
    uint8_t *grown = realloc(writer->bytes, capacity);
    writer->failed = grown == NULL;
    if (grown != NULL) {
      writer->bytes = grown;
      writer->capacity = capacity;
    }
  }
  if (writer->failed) return;
  if (bytes > 0) memcpy(writer->bytes + writer->count, data, bytes);
  writer->count += bytes;
}

static void put_number(struct writer *writer, uint64_t number) { put(writer, &number, sizeof number); }

static void put_text(struct writer *writer, const void *text, size_t bytes) {
  put_number(writer, bytes);
  put(writer, text, bytes);
}

static void put_runs(struct writer *writer, const struct kvs__runs *runs) {
  put_number(writer, runs->count);
  for (uint32_t i = 0; i < runs->count; i++) {
    const struct kvs__run *run = kvs__run_of(runs, i << 6);
    put_number(writer, run->present);
    if (run->present == 0) continue;
    put_number(writer, run->headed);
    put_number(writer, run->depth);
    put(writer, run->hashes, (size_t)__builtin_popcountll(run->present) * sizeof *run->hashes);
  }
}

struct item {
  uint64_t key;
  uint32_t value;
  uint32_t copies;
  uint32_t doubtful;
  uint32_t unused;
};

static void put_kind(struct writer *writer, const struct kvs__kind *kind) {
  put_number(writer, kind->medium);
  put_number(writer, kind->group);
  for (int form = 0; form < 2; form++) {
    const struct kvs__keys *held = &kind->held[form];
    put_number(writer, held->count);
    for (uint32_t s = 0; s < held->segments_count; s++)
      for (uint32_t b = 0; b < kvs__segment_buckets(&held->segments[s]); b++)
        for (unsigned i = 0; i < KVS__BUCKET_ITEMS; i++) {
          const struct kvs__bucket *bucket = &held->segments[s].buckets[b];
          struct kvs__seat seat = {&held->segments[s].buckets[b], i};
          struct item item = {bucket->keys[i], bucket->values[i], 1, 0, 0};
          if (!(bucket->used >> i & 1)) continue;
          if (bucket->marked >> i & 1) item.copies = kvs__map_get(&kind->copies[form], item.key);
          item.doubtful = (uint32_t)kvs__seat_doubtful(held, seat);
          if (kvs__is_orphan(item.value)) item.value = KVS__UNTIED; /* told again by its orphan */
          put(writer, &item, sizeof item);
        }
  }
}

static void put_engine(struct writer *writer, const struct kvs__engine *engine) {
  put_number(writer, engine->model);
  put_number(writer, engine->heard);
  put_number(writer, engine->complete);
  put_number(writer, engine->beginning);
  put_number(writer, engine->dialect);
  put_number(writer, engine->media_made);
  put_number(writer, (uint64_t)engine->sequence);
  put_number(writer, engine->lives);
  put(writer, engine->counters, sizeof engine->counters);
  put_number(writer, engine->media_count);
  for (int i = 0; i < engine->media_count; i++) {
    put_number(writer, engine->media[i].name);
    put_number(writer, engine->media[i].trust);
    put_number(writer, engine->media[i].reason);
  }
  put_number(writer, engine->groups_count);
  for (int i = 0; i < engine->groups_count; i++) {
    const struct kvs__group *group = &engine->groups[i];
    put_number(writer, group->number);
    put_number(writer, group->block_size);
    put_number(writer, group->told);
    put_number(writer, group->spec);
    put_number(writer, group->on_gpu);
    put_number(writer, (uint64_t)group->window);
  }
  put_number(writer, engine->names_count);
  for (uint32_t i = 1; i < engine->names_count; i++)
    put_text(writer, engine->names[i] == NULL ? NULL : engine->names[i]->bytes,
             engine->names[i] == NULL ? 0 : engine->names[i]->length);
  put_number(writer, engine->kinds_count);
  for (int i = 0; i < engine->kinds_count; i++) put_kind(writer, engine->kinds[i]);
  put_number(writer, engine->orphans_live);
  for (uint32_t i = 1; i < engine->orphans_count; i++)
    if (engine->orphans[i].used) put(writer, &engine->orphans[i], sizeof engine->orphans[i]);
}

kvs_status kvs_index_save(kvs_index *index, uint8_t **bytes, size_t *count) {
  struct writer writer = {0};
  if (index == NULL || bytes == NULL || count == NULL) return KVS_ERR_ARGUMENT;
  pthread_mutex_lock(&index->writing);
  put_number(&writer, MARK);
  put_number(&writer, VERSION);
  put_number(&writer, index->hasher.seed);
  put_number(&writer, index->models_count);
  for (uint32_t i = 0; i < index->models_count; i++)
    put_text(&writer, index->models[i].name, index->models[i].name_bytes);
  put_number(&writer, index->media.count);
  for (uint32_t i = 0; i < index->media.count; i++)
    put_text(&writer, kvs__media_name(&index->media, i)->text, kvs__media_name(&index->media, i)->bytes);
  put_runs(&writer, &index->runs);
  put_number(&writer, index->engines_count);
  for (uint32_t i = 0; i < index->engines_count; i++) {
    put_number(&writer, index->engines[i] != NULL);
    if (index->engines[i] != NULL) put_engine(&writer, index->engines[i]);
  }
  put_number(&writer, MARK);
  pthread_mutex_unlock(&index->writing);
  if (writer.failed) {
    free(writer.bytes);
    return KVS_ERR_MEMORY;
  }
  *bytes = writer.bytes;
  *count = writer.count;
  return KVS_OK;
}

void kvs_bytes_free(uint8_t *bytes) { free(bytes); }

/* ---- reading ---- */

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

/* Beyond `most`: not a snapshot. */
static uint64_t number(struct reader *reader, uint64_t most) {
  uint64_t value = 0;
  const uint8_t *at = take(reader, sizeof value);
  if (at != NULL) memcpy(&value, at, sizeof value);
  if (value > most) {
    fail(reader, KVS_ERR_SNAPSHOT);
    return 0;
  }
  return value;
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

static void read_runs(struct reader *reader, kvs_index *index) {
  uint64_t count = number(reader, KVS__RUNS_MAX);
  for (uint64_t i = 0; i < count && reader->status == KVS_OK; i++) {
    uint64_t present = number(reader, UINT64_MAX), headed;
    const uint8_t *hashes;
    uint32_t depth;
    if (present == 0) {
      need(reader, kvs__runs_load(&index->runs, &index->segments, &index->memory, 0, 0, 0, NULL));
      continue;
    }
    headed = number(reader, UINT64_MAX);
    depth = (uint32_t)number(reader, UINT32_MAX);
    hashes = take(reader, (uint64_t)__builtin_popcountll(present) * sizeof(uint64_t));
    /* A block that begins a row of places must be a head, or nobody would find it. */
    expect(reader, (headed & ~present) == 0 && (present & ~(present << 1) & ~headed) == 0);
    if (reader->status != KVS_OK) return;
    need(reader,
         kvs__runs_load(&index->runs, &index->segments, &index->memory, depth, present, headed, hashes));
  }
  kvs__runs_loaded(&index->runs);
}

static int slot_exists(const kvs_index *index, uint32_t slot) {
  return slot >> 6 < index->runs.count && kvs__run_has(kvs__run_of(&index->runs, slot), slot & 63);
}

static void read_item(struct reader *reader, kvs_index *index, struct kvs__engine *engine, uint32_t kind,
                      uint8_t form) {
  struct kvs__kind *where = engine->kinds[kind];
  struct kvs__medium *medium = &engine->media[where->medium];
  struct kvs__key key = {0, form};
  const uint8_t *at = take(reader, sizeof(struct item));
  struct kvs__seat seat;
  struct item item;
  if (at == NULL) return;
  memcpy(&item, at, sizeof item);
  key.value = item.key;
  expect(reader, item.copies > 0 && item.doubtful <= 1);
  expect(reader, form == KVS__INTEGERS ||
                     (item.key > 0 && item.key < engine->names_count && engine->names[item.key] != NULL));
  expect(reader, item.value == KVS__UNTIED || (kvs__is_tied(item.value) && slot_exists(index, item.value)));
  expect(reader, reader->status != KVS_OK || kvs__entry_find(engine, key, kind).bucket == NULL);
  if (reader->status != KVS_OK) return;
  if (item.value != KVS__UNTIED && !kvs__hold(index, engine, kind, item.value)) {
    fail(reader, KVS_ERR_MEMORY);
    return;
  }
  seat = kvs__keys_insert(&where->held[form], &index->segments, &index->memory, item.key, item.value);
  if (seat.bucket == NULL ||
      (item.copies > 1 && !kvs__map_set(&where->copies[form], &index->memory, item.key, item.copies))) {
    fail(reader, KVS_ERR_MEMORY);
    return;
  }
  if (item.copies > 1) seat.bucket->marked |= 1u << seat.at;
  if (item.doubtful) seat.bucket->doubtful |= 1u << seat.at;
  kvs__key_hold(engine, key);
  medium->entries++;
  medium->doubtful += item.doubtful;
  engine->held++;
  index->entries_held++;
  engine->untied += item.value == KVS__UNTIED;
}

static void read_kind(struct reader *reader, kvs_index *index, struct kvs__engine *engine) {
  uint64_t medium = number(reader, KVS_MEDIA_MAX - 1), group = number(reader, KVS_KINDS_MAX - 1);
  int kind;
  expect(reader, medium < engine->media_count && group < engine->groups_count);
  if (reader->status != KVS_OK) return;
  kind = kvs__record_kind(index, engine, (int)medium, engine->groups[group].number, 1);
  if (kind < 0) {
    fail(reader, KVS_ERR_MEMORY);
    return;
  }
  expect(reader, kind + 1 == engine->kinds_count); /* each comes once */
  for (uint8_t form = 0; form < 2; form++) {
    uint64_t count = number(reader, UINT64_MAX);
    for (uint64_t i = 0; i < count && reader->status == KVS_OK; i++)
      read_item(reader, index, engine, (uint32_t)kind, form);
  }
}

static void read_orphan(struct reader *reader, kvs_index *index, struct kvs__engine *engine) {
  const uint8_t *at = take(reader, sizeof(struct kvs__orphan));
  struct kvs__orphan orphan;
  struct kvs__seat seat;
  uint32_t added;
  if (at == NULL) return;
  memcpy(&orphan, at, sizeof orphan);
  expect(reader, orphan.kind < engine->kinds_count && orphan.key_form < 2 && orphan.parent_form < 2);
  expect(reader,
         orphan.parent_form == KVS__INTEGERS || (orphan.parent > 0 && orphan.parent < engine->names_count &&
                                                 engine->names[orphan.parent] != NULL));
  if (reader->status != KVS_OK) return;
  {
    struct kvs__key key = {orphan.key, orphan.key_form}, parent = {orphan.parent, orphan.parent_form};
    seat = kvs__entry_find(engine, key, orphan.kind);
    expect(reader, seat.bucket != NULL && seat.bucket->values[seat.at] == KVS__UNTIED);
    if (reader->status != KVS_OK) return;
    added = kvs__orphan_add(index, engine, key, orphan.kind, parent, orphan.local);
    need(reader, added != 0);
    if (added != 0) seat.bucket->values[seat.at] = KVS__ORPHAN(added);
  }
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

static void read_engine(struct reader *reader, kvs_index *index) {
  uint64_t model = number(reader, UINT32_MAX), count;
  const uint8_t *counters;
  struct kvs__engine *engine;
  uint32_t engine_number;
  kvs_status status;
  expect(reader, model < index->models_count);
  if (reader->status != KVS_OK) return;
  status = kvs__engine_add(index, index->models[model].name, index->models[model].name_bytes, &engine_number);
  if (status != KVS_OK) {
    fail(reader, status);
    return;
  }
  engine = index->engines[engine_number];
  engine->heard = (uint8_t)number(reader, 1);
  engine->complete = (uint8_t)number(reader, 1);
  engine->beginning = (uint8_t)number(reader, KVS__BEGUN);
  engine->dialect = (uint8_t)number(reader, KVS_DIALECT_TAGGED);
  engine->media_made = (uint8_t)number(reader, KVS__MEDIA_MADE_MAX);
  engine->sequence = (int64_t)number(reader, UINT64_MAX);
  engine->lives = number(reader, UINT64_MAX);
  counters = take(reader, sizeof engine->counters);
  if (counters != NULL) memcpy(engine->counters, counters, sizeof engine->counters);
  count = number(reader, KVS_MEDIA_MAX);
  for (uint64_t i = 0; i < count; i++) {
    engine->media[i].name = (uint32_t)number(reader, UINT32_MAX);
    engine->media[i].trust = (uint8_t)number(reader, KVS_TRUST_UNKNOWN);
    engine->media[i].reason = (uint8_t)number(reader, KVS_REASON_TOLD);
    engine->media[i].since = kvs__clock();
    expect(reader, engine->media[i].name < index->media.count);
    for (uint64_t j = 0; j < i; j++) expect(reader, engine->media[j].name != engine->media[i].name);
  }
  engine->media_count = reader->status == KVS_OK ? (uint8_t)count : 0;
  count = number(reader, KVS_KINDS_MAX);
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
  read_names(reader, index, engine);
  count = number(reader, KVS_KINDS_MAX);
  for (uint64_t i = 0; i < count && reader->status == KVS_OK; i++) read_kind(reader, index, engine);
  count = number(reader, KVS_ORPHANS_MAX);
  for (uint64_t i = 0; i < count && reader->status == KVS_OK; i++) read_orphan(reader, index, engine);
  for (int i = 0; i < engine->media_count; i++)
    expect(reader, (engine->media[i].trust == KVS_TRUST_STALE) == (engine->media[i].doubtful > 0));
  if (reader->status == KVS_OK) kvs__names_loaded(index, engine);
}

static void read_engines(struct reader *reader, kvs_index *index) {
  uint64_t count = number(reader, KVS_ENGINES_MAX);
  for (uint64_t i = 0; i < count && reader->status == KVS_OK; i++) {
    if (number(reader, 1)) {
      read_engine(reader, index);
    } else if (reader->status == KVS_OK) {
      /* Numbers are never used again: one that is gone is made, and goes. */
      uint32_t gone;
      kvs_status status = kvs__engine_add(index, "", 0, &gone);
      if (status == KVS_OK) status = kvs_index_engine_remove(index, gone);
      if (status != KVS_OK) fail(reader, status);
    }
  }
}

/* Every block is held by somebody, or the snapshot is not one. */
static int all_held(const struct kvs__runs *runs) {
  for (uint32_t i = 0; i < runs->count; i++) {
    const struct kvs__run *run = kvs__run_of(runs, i << 6);
    for (int j = 0; j < __builtin_popcountll(run->present); j++)
      if (kvs__run_sets(run)[j] == 0) return 0;
  }
  return 1;
}

kvs_status kvs_index_load(const kvs_options *options, const uint8_t *bytes, size_t count, kvs_index **result) {
  struct reader reader = {bytes, bytes + count, KVS_OK};
  kvs_options mine;
  kvs_index *index;
  uint64_t things;
  kvs_status status;
  if (options == NULL || bytes == NULL || result == NULL) return KVS_ERR_ARGUMENT;
  mine = *options;
  expect(&reader, number(&reader, UINT64_MAX) == MARK && number(&reader, UINT64_MAX) == VERSION);
  mine.seed = number(&reader, UINT64_MAX);
  if (reader.status != KVS_OK) return reader.status;
  status = kvs_index_create(&mine, &index);
  if (status != KVS_OK) return status;
  things = number(&reader, UINT32_MAX);
  for (uint64_t i = 0; i < things && reader.status == KVS_OK; i++) {
    size_t length;
    const char *name = text(&reader, &length, KVS_TEXT_BYTES_MAX);
    uint32_t model;
    if (reader.status == KVS_OK) need(&reader, kvs__model_number(index, name, length, &model));
  }
  things = number(&reader, KVS__MEDIA_PAGE * KVS__MEDIA_PAGES);
  for (uint64_t i = 0; i < things && reader.status == KVS_OK; i++) {
    size_t length;
    const char *name = text(&reader, &length, KVS_MEDIUM_BYTES_MAX);
    if (reader.status == KVS_OK) {
      int made = kvs__media_find(&index->media, &index->memory, name, length, 1);
      expect(&reader, length > 0 && memchr(name, 0, length) == NULL && (made < 0 || (uint64_t)made == i));
      need(&reader, made >= 0);
    }
  }
  read_runs(&reader, index);
  read_engines(&reader, index);
  expect(&reader, number(&reader, UINT64_MAX) == MARK && reader.at == reader.end);
  expect(&reader, all_held(&index->runs));
  for (uint32_t i = 0; i < index->models_count && reader.status == KVS_OK; i++)
    need(&reader, kvs__model_refresh(index, i));
  if (reader.status != KVS_OK) {
    kvs_index_destroy(index);
    return reader.status;
  }
  *result = index;
  return KVS_OK;
}
