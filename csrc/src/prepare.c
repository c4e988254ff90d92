/* What a stored event is before any index is asked: whether it shows its blocks' tokens, and their local hashes. */
#include "hash.h"
#include "kvsync.h"
#include "store.h"

enum kvs__shape kvs__store_shape(const struct kvs__event *event) {
  if (event->tokens_count == 0) return KVS__PLACEHOLDER;
  if (event->block_size == 0) return KVS__MASKED;
  if (event->tokens_count % event->block_size != 0) return KVS__MASKED;
  if (event->tokens_count / event->block_size != event->hashes_count) return KVS__MASKED;
  if (event->has_extras && event->extras_count != event->hashes_count) return KVS__MASKED;
  return KVS__WITH_TOKENS;
}

/* The local hash of a block: its tokens, and what else its cache depends on. */
static uint64_t local_of(const struct kvs__hasher *hasher, const struct kvs__event *event, size_t at,
                         struct kvs__cursor *extras) {
  uint64_t local = kvs__hash_tokens(hasher, event->tokens + at * event->block_size, event->block_size);
  if (event->has_extras) return kvs__extras_fold(hasher, local, kvs__extras_next(hasher, event, extras));
  if (at == 0 && !event->has_parent && event->cache_salt.at != NULL)
    return kvs__extras_fold(hasher, local,
                            kvs__extras_add(hasher, KVS__NO_EXTRAS, KVS__EXTRA_TEXT, event->cache_salt.at,
                                            event->cache_salt.bytes));
  return local;
}

enum kvs__fault kvs__store_prepare(const struct kvs__hasher *hasher, struct kvs__event *event,
                                   struct kvs__scratch *scratch) {
  struct kvs__cursor extras = event->extras;
  if (event->tag != KVS__TAG_STORED || kvs__store_shape(event) != KVS__WITH_TOKENS) return KVS__FINE;
  if (!kvs__scratch_room((void **)&scratch->locals, &scratch->locals_capacity, event->hashes_count,
                         sizeof *scratch->locals))
    return KVS__FAULT_MEMORY;
  for (size_t i = 0; i < event->hashes_count; i++) scratch->locals[i] = local_of(hasher, event, i, &extras);
  event->locals = scratch->locals;
  return KVS__FINE;
}
