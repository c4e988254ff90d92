/* The index as a whole: its life, its list of engines, its locks. */
#include "index.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

/* Left to work that lowers what is held, once the ceiling is reached. */
#define RESERVE_BYTES (UINT64_C(256) << 10)

/* ---- locks ---- */

void kvs__state_begin(kvs_index *index) {
  pthread_rwlock_wrlock(&index->state);
  index->slice = 0;
}

void kvs__state_end(kvs_index *index) { pthread_rwlock_unlock(&index->state); }

void kvs__breathe(kvs_index *index, unsigned blocks) {
  index->slice += blocks;
  if (index->slice < KVS_SLICE_BLOCKS) return;
  pthread_rwlock_unlock(&index->state);
  pthread_rwlock_wrlock(&index->state);
  index->slice = 0;
}

static void write_begin(kvs_index *index) {
  pthread_mutex_lock(&index->writing);
  kvs__state_begin(index);
}

static void write_end(kvs_index *index) {
  kvs__state_end(index);
  pthread_mutex_unlock(&index->writing);
}

static int init_state_lock(pthread_rwlock_t *lock) {
  pthread_rwlockattr_t attributes;
  int failed;
  if (pthread_rwlockattr_init(&attributes) != 0) return 0;
#ifdef __GLIBC__
  /* By default a stream of readers would keep a writer out for ever. A waiting writer goes first here, and
   * when it lets go the readers that waited for it go before the next. */
  (void)pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
  failed = pthread_rwlock_init(lock, &attributes);
  pthread_rwlockattr_destroy(&attributes);
  return !failed;
}

/* ---- life ---- */

kvs_status kvs_index_create(const kvs_options *options, kvs_index **result) {
  kvs_index *index;
  if (options == NULL || result == NULL) return KVS_ERR_ARGUMENT;
  index = calloc(1, sizeof *index);
  if (index == NULL) return KVS_ERR_MEMORY;
  index->memory.reserve = options->bytes_max / 8 < RESERVE_BYTES ? options->bytes_max / 8 : RESERVE_BYTES;
  kvs__hasher_init(&index->hasher, options->seed);
  kvs__segments_init(&index->segments);
  kvs__runs_init(&index->runs);
  kvs__sets_init(&index->sets, kvs__mix(&index->hasher, 0, 1));
  if (!kvs__media_init(&index->media, &index->memory)) goto no_media;
  if (pthread_mutex_init(&index->writing, NULL) != 0) goto no_mutex;
  if (!init_state_lock(&index->state)) goto no_lock;
  index->memory.calls = 0;
  index->memory.limit = options->bytes_max; /* from here on, so that the smallest index can be made */
  index->memory.fail_at = options->fail_allocation;
  index->entries_max = options->entries_max;
  *result = index;
  return KVS_OK;
no_lock:
  pthread_mutex_destroy(&index->writing);
no_mutex:
  kvs__media_end(&index->media, &index->memory);
no_media:
  free(index);
  return KVS_ERR_MEMORY;
}

static void free_engine(kvs_index *index, struct kvs__engine *engine) {
  kvs__free(&index->memory, engine, sizeof *engine);
}

void kvs_index_destroy(kvs_index *index) {
  if (index == NULL) return;
  for (uint32_t i = 0; i < index->engines_count; i++) {
    if (index->engines[i] == NULL) continue;
    kvs__record_discard(index, index->engines[i]);
    free_engine(index, index->engines[i]);
  }
  kvs__free(&index->memory, index->engines, index->engines_capacity * sizeof *index->engines);
  kvs__runs_end(&index->runs, &index->segments, &index->memory);
  kvs__segments_end(&index->segments, &index->memory);
  kvs__sets_end(&index->sets, &index->memory);
  for (uint32_t i = 0; i < index->models_count; i++) {
    struct kvs__model *model = &index->models[i];
    kvs__free(&index->memory, model->name, model->name_bytes + 1);
    kvs__free(&index->memory, model->chains, model->chains_capacity * sizeof *model->chains);
  }
  kvs__free(&index->memory, index->models, index->models_count * sizeof *index->models);
  kvs__media_end(&index->media, &index->memory);
  kvs__scratch_end(&index->scratch);
  assert(index->memory.used == 0);
  pthread_rwlock_destroy(&index->state);
  pthread_mutex_destroy(&index->writing);
  free(index);
}

/* ---- names ---- */

const char *kvs_index_medium_name(kvs_index *index, uint32_t medium) {
  const char *text;
  pthread_rwlock_rdlock(&index->state);
  text = medium < index->media.count ? kvs__media_name(&index->media, medium)->text : NULL;
  pthread_rwlock_unlock(&index->state);
  return text;
}

int kvs__model_number(kvs_index *index, const char *name, size_t bytes, uint32_t *number) {
  struct kvs__model *grown;
  char *copy;
  for (uint32_t i = 0; i < index->models_count; i++) {
    if (index->models[i].name_bytes != bytes) continue;
    if (bytes > 0 && memcmp(index->models[i].name, name, bytes) != 0) continue;
    *number = i;
    return 1;
  }
  copy = kvs__alloc_zero(&index->memory, bytes + 1);
  if (copy == NULL) return 0;
  grown = kvs__resize(&index->memory, index->models, index->models_count * sizeof *grown,
                      (index->models_count + 1) * sizeof *grown);
  if (grown == NULL) {
    kvs__free(&index->memory, copy, bytes + 1);
    return 0;
  }
  if (bytes > 0) memcpy(copy, name, bytes);
  index->models = grown;
  memset(&grown[index->models_count], 0, sizeof *grown);
  grown[index->models_count].name = copy;
  grown[index->models_count].name_bytes = bytes;
  *number = index->models_count++;
  return 1;
}

/* ---- chains ---- */

static int has_full_group(const struct kvs__engine *engine) {
  for (int i = 0; i < engine->groups_count; i++)
    if (engine->groups[i].block_size > 0 && engine->groups[i].spec == KVS__SPEC_FULL) return 1;
  return 0;
}

static int chain_add(kvs_index *index, struct kvs__model *model, uint32_t block_size, uint8_t dialect,
                     uint8_t endless) {
  for (uint32_t i = 0; i < model->chains_count; i++) {
    if (model->chains[i].block_size != block_size || model->chains[i].dialect != dialect) continue;
    model->chains[i].endless |= endless;
    return 1;
  }
  if (model->chains_count == model->chains_capacity) {
    uint32_t capacity = model->chains_capacity == 0 ? 4 : model->chains_capacity * 2;
    struct kvs__chain *grown = kvs__resize(&index->memory, model->chains,
                                           model->chains_capacity * sizeof *grown, capacity * sizeof *grown);
    if (grown == NULL) return 0;
    model->chains = grown;
    model->chains_capacity = capacity;
  }
  model->chains[model->chains_count].block_size = block_size;
  model->chains[model->chains_count].dialect = dialect;
  model->chains[model->chains_count].endless = endless;
  model->chains_count++;
  return 1;
}

int kvs__model_refresh(kvs_index *index, uint32_t number) {
  struct kvs__model *model = &index->models[number];
  int whole = 1;
  model->chains_count = 0;
  index->memory.urgent++;
  for (uint32_t i = 0; i < index->engines_count; i++) {
    const struct kvs__engine *engine = index->engines[i];
    uint32_t main_size = 0;
    int full;
    if (engine == NULL || engine->model != number || engine->dialect == KVS_DIALECT_NONE) continue;
    full = has_full_group(engine);
    for (int g = 0; g < engine->groups_count; g++) {
      const struct kvs__group *group = &engine->groups[g];
      if (group->block_size == 0) continue;
      if (full && group->spec == KVS__SPEC_FULL && main_size == 0) main_size = group->block_size;
    }
    for (int g = 0; g < engine->groups_count; g++) {
      const struct kvs__group *group = &engine->groups[g];
      if (group->block_size == 0) continue;
      whole &=
          chain_add(index, model, group->block_size, engine->dialect, !full || group->block_size != main_size);
    }
  }
  index->memory.urgent--;
  return whole;
}

/* ---- engines ---- */

struct kvs__engine *kvs__engine_get(const kvs_index *index, uint32_t engine) {
  return engine < index->engines_count ? index->engines[engine] : NULL;
}

kvs_status kvs__engine_add(kvs_index *index, const char *model, size_t model_bytes, uint32_t *number) {
  struct kvs__engine *engine;
  if (index->engines_count == KVS_ENGINES_MAX) return KVS_ERR_CAPACITY;
  if (index->engines_count == index->engines_capacity) {
    uint32_t capacity = index->engines_capacity == 0 ? 16 : index->engines_capacity * 2;
    struct kvs__engine **grown = kvs__resize(&index->memory, index->engines,
                                             index->engines_capacity * sizeof *grown, capacity * sizeof *grown);
    if (grown == NULL) return KVS_ERR_MEMORY;
    index->engines = grown;
    index->engines_capacity = capacity;
  }
  engine = kvs__alloc_zero(&index->memory, sizeof *engine);
  if (engine == NULL) return KVS_ERR_MEMORY;
  if (!kvs__model_number(index, model, model_bytes, &engine->model)) {
    free_engine(index, engine);
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
  write_begin(index);
  status = kvs__engine_add(index, model, model_bytes, number);
  if (status == KVS_ERR_MEMORY && kvs__evict(index))
    status = kvs__engine_add(index, model, model_bytes, number);
  write_end(index);
  return status;
}

kvs_status kvs_index_engine_remove(kvs_index *index, uint32_t number) {
  struct kvs__engine *engine;
  kvs_status status = KVS_ERR_ENGINE;
  write_begin(index);
  engine = kvs__engine_get(index, number);
  if (engine != NULL) {
    status = KVS_ERR_MEMORY;
    if (kvs__record_end(index, engine)) {
      uint32_t model = engine->model;
      index->engines[number] = NULL;
      index->engines_live--;
      free_engine(index, engine);
      (void)kvs__model_refresh(index, model);
      status = KVS_OK;
    }
  }
  write_end(index);
  return status;
}

/* ---- what the caller knows better ---- */

static void clear_medium(kvs_index *index, struct kvs__engine *engine, int medium) {
  (void)kvs__record_drop(index, engine, medium);
  if (engine->media[medium].entries > 0) {
    kvs__record_doubt(engine, medium, KVS_REASON_MEMORY);
    return;
  }
  kvs__record_trusts(&engine->media[medium], KVS_TRUST_EXACT);
  engine->media[medium].reason = KVS_REASON_NONE;
}

static void clear_all(kvs_index *index, struct kvs__engine *engine) {
  if (engine->media_count == 0) (void)kvs__record_medium(index, engine, "GPU", 3, 1);
  for (int i = 0; i < engine->media_count; i++) clear_medium(index, engine, i);
  engine->heard = 1;
  engine->complete = 1;
  engine->unproven = 0;
  engine->beginning = KVS__EXPECT_ANY;
  engine->sequence = -1;
}

/* -1 = the engine never named it. */
static int medium_told(kvs_index *index, struct kvs__engine *engine, const char *medium, size_t bytes) {
  return bytes > KVS_MEDIUM_BYTES_MAX ? -1 : kvs__record_medium(index, engine, medium, bytes, 0);
}

kvs_status kvs_index_clear(kvs_index *index, uint32_t number, const char *medium, size_t medium_bytes) {
  struct kvs__engine *engine;
  kvs_status status = KVS_OK;
  write_begin(index);
  engine = kvs__engine_get(index, number);
  if (engine == NULL) {
    status = KVS_ERR_ENGINE;
  } else if (medium == NULL) {
    clear_all(index, engine);
  } else {
    int told = medium_told(index, engine, medium, medium_bytes);
    if (told < 0)
      status = KVS_ERR_ARGUMENT;
    else
      clear_medium(index, engine, told);
  }
  write_end(index);
  return status;
}

kvs_status kvs_index_restart(kvs_index *index, uint32_t number) {
  struct kvs__engine *engine;
  kvs_status status = KVS_ERR_ENGINE;
  write_begin(index);
  engine = kvs__engine_get(index, number);
  if (engine != NULL) {
    kvs__record_reset(index, engine);
    engine->lives++;
    engine->heard = 1;
    if (engine->media_count == 0) (void)kvs__record_medium(index, engine, "GPU", 3, 1);
    (void)kvs__model_refresh(index, engine->model);
    status = KVS_OK;
  }
  write_end(index);
  return status;
}

kvs_status kvs_index_doubt(kvs_index *index, uint32_t number, const char *medium, size_t medium_bytes) {
  struct kvs__engine *engine;
  kvs_status status = KVS_OK;
  write_begin(index);
  engine = kvs__engine_get(index, number);
  if (engine == NULL) {
    status = KVS_ERR_ENGINE;
  } else if (medium == NULL) {
    kvs__record_doubt_all(engine, KVS_REASON_TOLD);
  } else {
    int told = medium_told(index, engine, medium, medium_bytes);
    if (told < 0) {
      status = KVS_ERR_ARGUMENT;
    } else {
      engine->complete = 0;
      kvs__record_doubt(engine, told, KVS_REASON_TOLD);
    }
  }
  write_end(index);
  return status;
}

kvs_status kvs_index_confirm(kvs_index *index, uint32_t number) {
  struct kvs__engine *engine;
  write_begin(index);
  engine = kvs__engine_get(index, number);
  for (int i = 0; engine != NULL && engine->unproven && i < engine->media_count; i++)
    if (engine->media[i].trust != KVS_TRUST_STALE) engine->media[i].since = kvs__clock();
  if (engine != NULL) engine->unproven = 0;
  write_end(index);
  return engine == NULL ? KVS_ERR_ENGINE : KVS_OK;
}

/* ---- looking ---- */

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
