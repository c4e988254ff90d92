/* Everything one engine holds, listed: for audits and dumps. */

#include <stdlib.h>
#include <string.h>

#include "index.h"

static size_t bytes_of_names(const struct kvs__engine *engine) {
  size_t bytes = 0;
  for (uint32_t i = 1; i < engine->names_count; i++)
    if (engine->names[i] != NULL) bytes += engine->names[i]->length;
  return bytes;
}

struct filling {
  const kvs_index *index;
  const struct kvs__engine *engine;
  kvs_export_row *row;
  uint8_t *bytes;
  uint64_t used;
};

static void fill_item(struct filling *filling, const struct kvs__kind *kind, uint8_t form,
                      struct kvs__seat seat) {
  const struct kvs__engine *engine = filling->engine;
  kvs_export_row *row = filling->row++;
  uint64_t key = kvs__seat_key(seat);
  uint32_t value = kvs__seat_value(seat);
  memset(row, 0, sizeof *row);
  row->hash = key;
  if (form == KVS__NAMES) {
    const struct kvs__name *name = engine->names[key];
    memcpy(filling->bytes + filling->used, name->bytes, name->length);
    row->hash = filling->used;
    row->hash_bytes = name->length;
    filling->used += name->length;
  }
  row->medium = engine->media[kind->medium].name;
  row->group = engine->groups[kind->group].number;
  row->copies = kvs__copies_of(kind, (struct kvs__key){key, form}, seat);
  row->tied = kvs__is_tied(value);
  row->block = row->tied ? kvs__slot_hash(&filling->index->runs, value) : 0;
  row->doubtful = (uint8_t)kvs__seat_doubtful(&kind->held[form], seat);
}

static void fill(struct filling *filling) {
  for (int k = 0; k < filling->engine->kinds_count; k++) {
    const struct kvs__kind *kind = filling->engine->kinds[k];
    for (uint8_t form = 0; form < 2; form++) {
      struct kvs__tour tour = {0};
      while (kvs__keys_next(&kind->held[form], &tour)) fill_item(filling, kind, form, tour.seat);
    }
  }
}

static kvs_status list(const kvs_index *index, const struct kvs__engine *engine, const kvs_export **result) {
  /* A name held in several kinds is written once for each. */
  size_t bytes = bytes_of_names(engine) * (engine->kinds_count == 0 ? 1 : engine->kinds_count);
  kvs_export *made = malloc(sizeof *made + engine->held * sizeof(kvs_export_row) + bytes);
  kvs_export_row *rows;
  struct filling filling = {index, engine, NULL, NULL, 0};
  if (made == NULL) return KVS_ERR_MEMORY;
  rows = (kvs_export_row *)(made + 1);
  made->rows_count = engine->held;
  made->rows = rows;
  made->bytes = (uint8_t *)(rows + engine->held);
  filling.row = rows;
  filling.bytes = (uint8_t *)(rows + engine->held);
  fill(&filling);
  *result = made;
  return KVS_OK;
}

kvs_status kvs_index_export(kvs_index *index, uint32_t number, const kvs_export **result) {
  const struct kvs__engine *engine;
  kvs_status status = KVS_ERR_ENGINE;
  if (index == NULL || result == NULL) return KVS_ERR_ARGUMENT;
  pthread_mutex_lock(&index->writing);
  engine = kvs__engine_get(index, number);
  if (engine != NULL) status = list(index, engine, result);
  pthread_mutex_unlock(&index->writing);
  return status;
}

void kvs_export_free(const kvs_export *list) { free((void *)(uintptr_t)list); }
