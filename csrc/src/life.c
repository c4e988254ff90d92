/* An index's beginning and end. */
#include <assert.h>
#include <stdlib.h>

#include "index.h"
#include "record.h"

/* Left to work that lowers what is held, once the ceiling is reached. */
#define RESERVE_BYTES (UINT64_C(256) << 10)

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

void kvs_index_destroy(kvs_index *index) {
  if (index == NULL) return;
  for (uint32_t i = 0; i < index->engines_count; i++) {
    if (index->engines[i] == NULL) continue;
    kvs__record_discard(index, index->engines[i]);
    kvs__free(&index->memory, index->engines[i], sizeof *index->engines[i]);
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
  for (unsigned i = 0; i < KVS__AHEAD; i++) kvs__scratch_end(&index->ahead[i].scratch);
  assert(index->memory.used == 0);
  pthread_rwlock_destroy(&index->state);
  pthread_mutex_destroy(&index->writing);
  free(index);
}
