/* The adapters of a record: noted, and looked for. The latest is first, so that an engine with few, or one that is busy, is
 * found at once. */
#include "adapters.h"

#include <string.h>

struct kvs__adapter {
  uint64_t stored_at; /* of the index's count of such events */
  uint32_t bytes;
  char name[];
};

static int is_named(const struct kvs__adapter *adapter, const char *name, size_t bytes) {
  return adapter->bytes == bytes && memcmp(adapter->name, name, bytes) == 0;
}

static uint32_t place_of(const struct kvs__engine *engine, const char *name, size_t bytes) {
  uint32_t place = 0;
  while (place < engine->adapters_count && !is_named(engine->adapters[place], name, bytes)) place++;
  return place;
}

static void drop(kvs_index *index, struct kvs__adapter *adapter) {
  kvs__free(&index->memory, adapter, sizeof *adapter + adapter->bytes);
}

static struct kvs__adapter *make(kvs_index *index, struct kvs__engine *engine, const struct kvs__text *name) {
  struct kvs__adapter *made;
  if (engine->adapters == NULL) {
    engine->adapters = kvs__alloc(&index->memory, KVS_ADAPTERS_MAX * sizeof(*engine->adapters));
    if (engine->adapters == NULL) return NULL;
  }
  made = kvs__alloc(&index->memory, sizeof *made + name->bytes);
  if (made == NULL) return NULL;
  made->bytes = (uint32_t)name->bytes;
  memcpy(made->name, name->at, name->bytes);
  if (engine->adapters_count == KVS_ADAPTERS_MAX)
    drop(index, engine->adapters[--engine->adapters_count]); /* the one not heard of for longest */
  engine->adapters_count++;
  return made;
}

void kvs__adapter_note(kvs_index *index, struct kvs__engine *engine, const struct kvs__text *name) {
  struct kvs__adapter *adapter;
  uint32_t place;
  if (name->at == NULL || name->bytes == 0 || name->bytes > KVS_ADAPTER_BYTES_MAX) return;
  place = place_of(engine, name->at, name->bytes);
  if (place < engine->adapters_count) {
    adapter = engine->adapters[place];
  } else {
    adapter = make(index, engine, name);
    if (adapter == NULL) return;
    place = engine->adapters_count - 1;
  }
  memmove(engine->adapters + 1, engine->adapters, place * sizeof(*engine->adapters));
  engine->adapters[0] = adapter;
  adapter->stored_at = ++index->adapter_stores;
}

void kvs__adapters_end(kvs_index *index, struct kvs__engine *engine) {
  for (uint32_t i = 0; i < engine->adapters_count; i++) drop(index, engine->adapters[i]);
  kvs__free(&index->memory, engine->adapters, KVS_ADAPTERS_MAX * sizeof(*engine->adapters));
  engine->adapters = NULL;
  engine->adapters_count = 0;
}

/* ---- looking ---- */

kvs_status kvs_index_adapter(kvs_index *index, uint32_t number, uint32_t nth, char *name, size_t *bytes,
                             uint64_t *stored_at) {
  const struct kvs__engine *engine;
  kvs_status status = KVS_ERR_ENGINE;
  pthread_rwlock_rdlock(&index->state);
  engine = kvs__engine_get(index, number);
  if (engine != NULL) {
    status = KVS_ERR_ARGUMENT;
    if (nth < engine->adapters_count) {
      const struct kvs__adapter *adapter = engine->adapters[nth];
      memcpy(name, adapter->name, adapter->bytes);
      *bytes = adapter->bytes;
      *stored_at = adapter->stored_at;
      status = KVS_OK;
    }
  }
  pthread_rwlock_unlock(&index->state);
  return status;
}

size_t kvs_index_adapter_engines(kvs_index *index, const char *name, size_t bytes, uint32_t *engines,
                                 uint64_t *stored_at, size_t capacity) {
  size_t count = 0;
  pthread_rwlock_rdlock(&index->state);
  for (uint32_t i = 0; i < index->engines_count && count < capacity; i++) {
    const struct kvs__engine *engine = index->engines[i];
    uint32_t place = engine == NULL ? 0 : place_of(engine, name, bytes);
    if (engine == NULL || place == engine->adapters_count) continue;
    engines[count] = i;
    stored_at[count++] = engine->adapters[place]->stored_at;
  }
  pthread_rwlock_unlock(&index->state);
  return count;
}

uint64_t kvs_index_adapter_stores(kvs_index *index) {
  uint64_t stores;
  pthread_rwlock_rdlock(&index->state);
  stores = index->adapter_stores;
  pthread_rwlock_unlock(&index->state);
  return stores;
}
