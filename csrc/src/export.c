/* Everything one engine holds, listed: for audits, dumps and snapshots. */
#include <stdlib.h>

#include "index.h"

static size_t bytes_of_names(const struct kvs__engine *engine) {
  size_t bytes = 0;
  for (uint32_t i = 1; i < engine->names_count; i++)
    if (engine->names[i] != NULL) bytes += engine->names[i]->length;
  return bytes;
}

static void fill(const struct kvs__engine *engine, kvs_export_row *row, uint8_t *bytes) {
  const struct kvs__entries_segment *segment;
  size_t at = 0;
  uint64_t used = 0;
  while ((segment = kvs__entries_segment_at(&engine->entries, at)) != NULL) {
    at = kvs__entries_segment_after(&engine->entries, at);
    for (uint32_t i = 0; i < segment->capacity; i++) {
      const struct kvs__entry *entry = &segment->items[i];
      const struct kvs__kind *kind = &engine->kinds[entry->kind];
      if (entry->flags == 0 || entry->flags & KVS__ENTRY_GHOST) continue;
      memset(row, 0, sizeof *row);
      row->hash = entry->key;
      if (entry->flags & KVS__ENTRY_BYTES) {
        const struct kvs__name *name = engine->names[entry->key];
        memcpy(bytes + used, name->bytes, name->length);
        row->hash = used;
        row->hash_bytes = name->length;
        used += name->length;
      }
      row->medium = engine->media[kind->medium].name;
      row->group = engine->groups[kind->group].number;
      row->copies = entry->copies;
      row->tied = (entry->flags & KVS__ENTRY_TIED) != 0;
      row->block = row->tied ? entry->block : 0;
      row->doubtful = (uint8_t)kvs__entry_doubtful(engine, entry);
      row++;
    }
  }
}

static kvs_status list(const struct kvs__engine *engine, const kvs_export **result) {
  /* A name held in several kinds is written once for each. */
  size_t bytes = bytes_of_names(engine) * (engine->kinds_count == 0 ? 1 : engine->kinds_count);
  kvs_export *made = malloc(sizeof *made + engine->held * sizeof(kvs_export_row) + bytes);
  kvs_export_row *rows;
  if (made == NULL) return KVS_ERR_MEMORY;
  rows = (kvs_export_row *)(made + 1);
  made->rows_count = engine->held;
  made->rows = rows;
  made->bytes = (uint8_t *)(rows + engine->held);
  fill(engine, rows, (uint8_t *)(rows + engine->held));
  *result = made;
  return KVS_OK;
}

kvs_status kvs_index_export(kvs_index *index, uint32_t number, const kvs_export **result) {
  const struct kvs__engine *engine;
  kvs_status status = KVS_ERR_ENGINE;
  if (index == NULL || result == NULL) return KVS_ERR_ARGUMENT;
  pthread_mutex_lock(&index->writing);
  engine = kvs__engine_get(index, number);
  if (engine != NULL) status = list(engine, result);
  pthread_mutex_unlock(&index->writing);
  return status;
}

void kvs_export_free(const kvs_export *list) { free((void *)(uintptr_t)list); }
