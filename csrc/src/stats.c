/* What an index tells of itself. */
#include "stats.h"

#include <string.h>

#include "trust.h"

const char *kvs_index_medium_name(kvs_index *index, uint32_t medium) {
  const char *text;
  pthread_rwlock_rdlock(&index->state);
  text = medium < index->media.count ? kvs__media_name(&index->media, medium)->text : NULL;
  pthread_rwlock_unlock(&index->state);
  return text;
}

void kvs__engine_status(const struct kvs__engine *engine, kvs_engine_status *status) {
  memset(status, 0, sizeof *status);
  status->sequence = engine->sequence;
  status->lives = engine->lives;
  status->entries = engine->held;
  status->orphans = engine->orphans_live;
  status->media_count = engine->media_count;
  status->groups_count = engine->groups_count;
  status->dialect = engine->dialect;
  status->trust = kvs__record_trust(engine);
  for (int pass = 0; pass < 2 && status->block_size == 0; pass++)
    for (int i = 0; i < engine->groups_count && status->block_size == 0; i++)
      if (pass == 1 || engine->groups[i].spec == KVS__SPEC_FULL)
        status->block_size = engine->groups[i].block_size;
  memcpy(status->counters, engine->counters, sizeof status->counters);
  status->lag = engine->lag;
}

kvs_status kvs_index_engine_status(kvs_index *index, uint32_t number, kvs_engine_status *status) {
  const struct kvs__engine *engine;
  pthread_mutex_lock(&index->writing);
  engine = kvs__engine_get(index, number);
  if (engine != NULL) kvs__engine_status(engine, status);
  pthread_mutex_unlock(&index->writing);
  return engine == NULL ? KVS_ERR_ENGINE : KVS_OK;
}

kvs_status kvs_index_medium_status(kvs_index *index, uint32_t number, uint32_t nth, kvs_medium_status *status) {
  const struct kvs__engine *engine;
  kvs_status result = KVS_ERR_ENGINE;
  pthread_mutex_lock(&index->writing);
  engine = kvs__engine_get(index, number);
  if (engine != NULL) {
    result = KVS_ERR_ARGUMENT;
    if (nth < engine->media_count) {
      const struct kvs__medium *medium = &engine->media[nth];
      status->medium = medium->name;
      status->trust = kvs__medium_trust(engine, (int)nth, &status->reason);
      status->entries = medium->entries;
      status->doubtful = medium->doubtful;
      status->since = medium->since;
      result = KVS_OK;
    }
  }
  pthread_mutex_unlock(&index->writing);
  return result;
}

kvs_status kvs_index_trust(kvs_index *index, uint32_t number, uint8_t *trust) {
  const struct kvs__engine *engine;
  pthread_rwlock_rdlock(&index->state);
  engine = kvs__engine_get(index, number);
  if (engine != NULL) *trust = kvs__record_trust(engine);
  pthread_rwlock_unlock(&index->state);
  return engine == NULL ? KVS_ERR_ENGINE : KVS_OK;
}

void kvs_index_stats(kvs_index *index, kvs_stats *stats) {
  pthread_mutex_lock(&index->writing);
  stats->bytes = index->memory.used;
  stats->bytes_peak = index->memory.peak;
  stats->bytes_max = index->memory.limit;
  stats->engines = index->engines_live;
  stats->models = index->models_count;
  stats->blocks = index->runs.blocks;
  stats->entries = index->entries_held;
  stats->holder_sets = index->sets.live;
  stats->evicted = index->evicted;
  pthread_mutex_unlock(&index->writing);
}
