/* One engine's record as bytes: a section of a snapshot. loading.c reads it.
 *
 *   mark, version, where the starts are
 *   facts    of the life, media, groups, byte hashes
 *   kinds    each with its items, in columns: a byte that says how, then keys, blocks, copies
 *   orphans
 *   mark
 *   starts   block hash and depth of every block that is told without its predecessor
 *
 * A section is the engine's alone: blocks that others hold too are told again, so that each engine is saved at a moment
 * of its own and a writer waits for one record at a time, never for the whole index (docs/design/snapshot.md).
 *
 * Items come in the order of their slots, so most follow the one before in its run, and need no more than their hash:
 *
 *   START   begins anew: the next of `starts` is its block
 *   NEXT    the child of the block before it
 *   SAME    a further engine hash of the block before it
 *   UNTIED  no block is known
 *
 * Holder sets, heads and counts are not written: they follow from the items. Byte order is the host's; the mark does not
 * read the same in the other. Whoever keeps the bytes adds a checksum, and the seed. */
#include "snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "saving.h"
#include "stats.h"

/* ---- an engine, but for its items ---- */

static void put_facts(struct kvs__writer *writer, const struct kvs__engine *engine) {
  kvs__put_number(writer, engine->heard);
  kvs__put_number(writer, engine->complete);
  kvs__put_number(writer, engine->beginning);
  kvs__put_number(writer, engine->dialect);
  kvs__put_number(writer, engine->media_made);
  kvs__put_number(writer, (uint64_t)engine->sequence);
  kvs__put_number(writer, engine->lives);
  kvs__put_number(writer, KVS_COUNTERS_COUNT);
  kvs__put(writer, engine->counters, sizeof engine->counters);
}

static void put_media(struct kvs__writer *writer, const kvs_index *index, const struct kvs__engine *engine) {
  kvs__put_number(writer, engine->media_count);
  for (int i = 0; i < engine->media_count; i++) {
    const struct kvs__medium_name *name = kvs__media_name(&index->media, engine->media[i].name);
    kvs__put_text(writer, name->text, name->bytes);
    kvs__put_number(writer, engine->media[i].trust);
    kvs__put_number(writer, engine->media[i].reason);
  }
}

static void put_groups(struct kvs__writer *writer, const struct kvs__engine *engine) {
  kvs__put_number(writer, engine->groups_count);
  for (int i = 0; i < engine->groups_count; i++) {
    const struct kvs__group *group = &engine->groups[i];
    kvs__put_number(writer, group->number);
    kvs__put_number(writer, group->block_size);
    kvs__put_number(writer, group->told);
    kvs__put_number(writer, group->spec);
    kvs__put_number(writer, group->on_gpu);
    kvs__put_number(writer, (uint64_t)group->window);
  }
}

static void put_names(struct kvs__writer *writer, const struct kvs__engine *engine) {
  kvs__put_number(writer, engine->names_count);
  for (uint32_t i = 1; i < engine->names_count; i++)
    kvs__put_text(writer, engine->names[i] == NULL ? NULL : engine->names[i]->bytes,
                  engine->names[i] == NULL ? 0 : engine->names[i]->length);
}

static void put_orphans(struct kvs__writer *writer, const struct kvs__engine *engine) {
  kvs__put_number(writer, engine->orphans_live);
  for (uint32_t i = 1; i < engine->orphans_count; i++)
    if (engine->orphans[i].used) kvs__put(writer, &engine->orphans[i], sizeof engine->orphans[i]);
}

static void put_engine(struct kvs__saving *saving) {
  const struct kvs__engine *engine = saving->engine;
  kvs__put_number(&saving->body, KVS__SECTION_MARK);
  kvs__put_number(&saving->body, KVS__SECTION_VERSION);
  kvs__put_number(&saving->body, 0); /* where the starts are: known in the end */
  put_facts(&saving->body, engine);
  put_media(&saving->body, saving->index, engine);
  put_groups(&saving->body, engine);
  put_names(&saving->body, engine);
  kvs__put_number(&saving->body, engine->kinds_count);
  for (int i = 0; i < engine->kinds_count; i++) kvs__put_kind(saving, engine->kinds[i]);
  put_orphans(&saving->body, engine);
  kvs__put_number(&saving->body, KVS__SECTION_MARK);
}

static void put_starts(struct kvs__saving *saving) {
  struct kvs__writer *body = &saving->body;
  uint64_t at = body->count;
  kvs__put(body, saving->starts.bytes, saving->starts.count);
  body->failed |= saving->starts.failed;
  if (!body->failed) memcpy(body->bytes + 2 * sizeof at, &at, sizeof at);
  free(saving->starts.bytes);
}

kvs_status kvs_index_engine_save(kvs_index *index, uint32_t number, kvs_engine_status *status, uint8_t **bytes,
                                 size_t *count) {
  struct kvs__saving saving = {index, NULL, {0}, {0}};
  kvs_engine_status as_saved;
  if (index == NULL || status == NULL || bytes == NULL || count == NULL) return KVS_ERR_ARGUMENT;
  pthread_mutex_lock(&index->writing);
  saving.engine = kvs__engine_get(index, number);
  if (saving.engine != NULL) {
    kvs__engine_status(saving.engine, &as_saved);
    put_engine(&saving);
  }
  pthread_mutex_unlock(&index->writing);
  if (saving.engine == NULL) return KVS_ERR_ENGINE;
  put_starts(&saving);
  if (saving.body.failed) {
    free(saving.body.bytes);
    return KVS_ERR_MEMORY;
  }
  *status = as_saved;
  *bytes = saving.body.bytes;
  *count = saving.body.count;
  return KVS_OK;
}

void kvs_bytes_free(uint8_t *bytes) { free(bytes); }

uint64_t kvs_index_seed(const kvs_index *index) { return index->hasher.seed; }
