/* The list of engines, and what the caller knows better than their events say. */
#include "engines.h"

#include "clock.h"
#include "evict.h"
#include "models.h"
#include "record.h"
#include "trust.h"

kvs_status kvs__engine_add(kvs_index *index, const char *model, size_t model_bytes, uint32_t *number) {
  struct kvs__engine *engine;
  if (index->engines_count == KVS_ENGINES_MAX) return KVS_ERR_CAPACITY;
  if (index->engines_count == index->engines_capacity) {
    struct kvs__engine **grown =
        kvs__list_grow(&index->memory, index->engines, &index->engines_capacity, 16, sizeof *grown);
    if (grown == NULL) return KVS_ERR_MEMORY;
    index->engines = grown;
  }
  engine = kvs__alloc_zero(&index->memory, sizeof *engine);
  if (engine == NULL) return KVS_ERR_MEMORY;
  if (!kvs__model_number(index, model, model_bytes, &engine->model)) {
    kvs__free(&index->memory, engine, sizeof *engine);
    return KVS_ERR_MEMORY;
  }
  engine->number = index->engines_count;
  kvs__record_init(engine);
  index->engines[index->engines_count++] = engine;
  index->engines_live++;
  *number = engine->number;
  return KVS_OK;
}

kvs_status kvs_index_engine_add(kvs_index *index, const char *model, size_t model_bytes, uint32_t *number) {
  kvs_status status;
  if (index == NULL || number == NULL || (model == NULL && model_bytes > 0)) return KVS_ERR_ARGUMENT;
  if (model_bytes > KVS_TEXT_BYTES_MAX) return KVS_ERR_ARGUMENT;
  kvs__write_begin(index);
  status = kvs__engine_add(index, model, model_bytes, number);
  if (status == KVS_ERR_MEMORY && kvs__evict(index, NULL))
    status = kvs__engine_add(index, model, model_bytes, number);
  kvs__write_end(index);
  return status;
}

kvs_status kvs_index_engine_remove(kvs_index *index, uint32_t number) {
  struct kvs__engine *engine;
  kvs_status status = KVS_ERR_ENGINE;
  kvs__write_begin(index);
  engine = kvs__engine_get(index, number);
  if (engine != NULL) {
    status = KVS_ERR_MEMORY;
    if (kvs__record_end(index, engine)) {
      uint32_t model = engine->model;
      index->engines[number] = NULL;
      index->engines_live--;
      kvs__free(&index->memory, engine, sizeof *engine);
      (void)kvs__model_refresh(index, model);
      status = KVS_OK;
    }
  }
  kvs__write_end(index);
  return status;
}

/* ---- what the caller knows better ---- */

#define ALL_MEDIA (-1)

/* Whom a caller means, and which of its media; NULL is ALL_MEDIA. */
static kvs_status find_meant(kvs_index *index, uint32_t number, const char *medium, size_t bytes,
                             struct kvs__engine **engine, int *meant) {
  *engine = kvs__engine_get(index, number);
  *meant = ALL_MEDIA;
  if (*engine == NULL) return KVS_ERR_ENGINE;
  if (medium == NULL) return KVS_OK;
  if (bytes > KVS_MEDIUM_BYTES_MAX) return KVS_ERR_ARGUMENT;
  *meant = kvs__record_medium(index, *engine, medium, bytes, 0);
  return *meant < 0 ? KVS_ERR_ARGUMENT : KVS_OK;
}

static void clear_all(kvs_index *index, struct kvs__engine *engine) {
  if (engine->media_count == 0) (void)kvs__record_gpu(index, engine);
  for (int i = 0; i < engine->media_count; i++) (void)kvs__record_clear(index, engine, i);
  engine->heard = 1;
  engine->complete = 1;
  engine->unproven = 0;
  engine->beginning = KVS__EXPECT_ANY;
  engine->sequence = -1;
}

kvs_status kvs_index_clear(kvs_index *index, uint32_t number, const char *medium, size_t medium_bytes) {
  struct kvs__engine *engine;
  kvs_status status;
  int meant;
  kvs__write_begin(index);
  status = find_meant(index, number, medium, medium_bytes, &engine, &meant);
  if (status == KVS_OK) {
    if (meant == ALL_MEDIA)
      clear_all(index, engine);
    else
      (void)kvs__record_clear(index, engine, meant);
  }
  kvs__write_end(index);
  return status;
}

kvs_status kvs_index_doubt(kvs_index *index, uint32_t number, const char *medium, size_t medium_bytes) {
  struct kvs__engine *engine;
  kvs_status status;
  int meant;
  kvs__write_begin(index);
  status = find_meant(index, number, medium, medium_bytes, &engine, &meant);
  if (status == KVS_OK) {
    engine->complete = 0;
    if (meant == ALL_MEDIA)
      kvs__record_doubt_all(engine, KVS_REASON_TOLD);
    else
      kvs__record_doubt(engine, meant, KVS_REASON_TOLD);
  }
  kvs__write_end(index);
  return status;
}

kvs_status kvs_index_restart(kvs_index *index, uint32_t number) {
  struct kvs__engine *engine;
  kvs__write_begin(index);
  engine = kvs__engine_get(index, number);
  if (engine != NULL) {
    kvs__record_reset(index, engine);
    engine->lives++;
    engine->heard = 1;
    if (engine->media_count == 0) (void)kvs__record_gpu(index, engine);
    (void)kvs__model_refresh(index, engine->model);
  }
  kvs__write_end(index);
  return engine == NULL ? KVS_ERR_ENGINE : KVS_OK;
}

static void confirm(struct kvs__engine *engine) {
  if (!engine->unproven) return;
  for (int i = 0; i < engine->media_count; i++)
    if (engine->media[i].trust != KVS_TRUST_STALE) engine->media[i].since = kvs__clock();
  engine->unproven = 0;
}

kvs_status kvs_index_confirm(kvs_index *index, uint32_t number) {
  struct kvs__engine *engine;
  kvs__write_begin(index);
  engine = kvs__engine_get(index, number);
  if (engine != NULL) confirm(engine);
  kvs__write_end(index);
  return engine == NULL ? KVS_ERR_ENGINE : KVS_OK;
}
