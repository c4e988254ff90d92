/* A question's pointers and sizes, checked; and the hashes of its blocks, made as the walk asks for them. */
#include "prompt.h"

#include <stdlib.h>
#include <string.h>

int kvs__query_is_sound(const kvs_query *query) {
  if (query == NULL || (query->tokens == NULL && query->tokens_count > 0)) return 0;
  if ((query->model == NULL && query->model_bytes > 0) || query->model_bytes > KVS_TEXT_BYTES_MAX) return 0;
  if (query->lora_bytes > KVS_TEXT_BYTES_MAX || query->cache_salt_bytes > KVS_TEXT_BYTES_MAX) return 0;
  if (query->extra_keys == NULL && query->extra_keys_count > 0) return 0;
  for (size_t i = 0; i < query->extra_keys_count; i++)
    if (query->extra_keys[i].identifier == NULL || query->extra_keys[i].identifier_bytes > KVS_TEXT_BYTES_MAX ||
        query->extra_keys[i].offset > INT64_MAX)
      return 0;
  return query->engines != NULL || query->engines_count == 0;
}

int kvs__query_has_extras(const kvs_query *query) {
  return query->cache_salt != NULL || query->extra_keys_count > 0;
}

static int by_offset(const void *left, const void *right) {
  const kvs_extra_key *a = *(const kvs_extra_key *const *)left, *b = *(const kvs_extra_key *const *)right;
  if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
  return a < b ? -1 : a > b; /* as they were given */
}

int kvs__prompt_sort(const kvs_query *query, const kvs_extra_key ***sorted) {
  size_t count = query->extra_keys_count;
  *sorted = NULL;
  if (count == 0) return 1;
  *sorted = malloc(count * sizeof **sorted);
  if (*sorted == NULL) return 0;
  for (size_t i = 0; i < count; i++) (*sorted)[i] = &query->extra_keys[i];
  qsort(*sorted, count, sizeof **sorted, by_offset);
  return 1;
}

static uint64_t end_of(const kvs_extra_key *extra) {
  return extra->length > UINT64_MAX - extra->offset ? UINT64_MAX : extra->offset + extra->length;
}

void kvs__prompt_begin(struct kvs__prompt *prompt, const kvs_index *index, const kvs_query *query,
                       const kvs_extra_key **extras, uint32_t block_size, uint8_t dialect) {
  memset(prompt, 0, sizeof *prompt);
  prompt->index = index;
  prompt->query = query;
  prompt->extras = extras;
  prompt->block_size = block_size;
  prompt->dialect = dialect;
  prompt->previous = kvs__hash_root(&index->hasher, query->model, query->model_bytes,
                                    query->lora == NULL ? KVS__LORA_NONE : KVS__LORA_NAME, query->lora,
                                    query->lora_bytes, block_size);
}

static uint64_t extras_of_next(struct kvs__prompt *prompt) {
  const struct kvs__hasher *hasher = &prompt->index->hasher;
  const kvs_query *query = prompt->query;
  uint64_t start = prompt->at * prompt->block_size, end = start + prompt->block_size;
  uint64_t extras = KVS__NO_EXTRAS;
  if (prompt->dialect == KVS_DIALECT_ABSENT) return extras;
  while (prompt->extras_passed < query->extra_keys_count &&
         end_of(prompt->extras[prompt->extras_passed]) <= start)
    prompt->extras_passed++;
  for (size_t i = prompt->extras_passed; i < query->extra_keys_count; i++) {
    const kvs_extra_key *extra = prompt->extras[i];
    if (extra->offset >= end) break;
    if (end_of(extra) <= start || extra->length == 0) continue;
    extras = prompt->dialect == KVS_DIALECT_UNTAGGED
                 ? kvs__extras_add(hasher, extras, KVS__EXTRA_TEXT, extra->identifier, extra->identifier_bytes)
                 : kvs__extras_add_at(hasher, extras, KVS__EXTRA_TEXT, extra->identifier,
                                      extra->identifier_bytes, (int64_t)extra->offset - (int64_t)start);
  }
  if (prompt->at == 0 && query->cache_salt != NULL)
    extras = kvs__extras_add(hasher, extras, KVS__EXTRA_TEXT, query->cache_salt, query->cache_salt_bytes);
  return extras;
}

static uint64_t next(struct kvs__prompt *prompt) {
  const struct kvs__hasher *hasher = &prompt->index->hasher;
  const uint32_t *tokens = prompt->query->tokens + prompt->at * prompt->block_size;
  uint64_t local =
      kvs__extras_fold(hasher, kvs__hash_tokens(hasher, tokens, prompt->block_size), extras_of_next(prompt));
  prompt->at++;
  return kvs__mix(hasher, prompt->previous, local);
}

void kvs__prompt_next(struct kvs__prompt *prompt, uint64_t *blocks, size_t count) {
  if (count == 0) return;
  if (prompt->dialect == KVS_DIALECT_ABSENT || !kvs__query_has_extras(prompt->query)) {
    kvs__hash_chain(&prompt->index->hasher, prompt->previous,
                    prompt->query->tokens + prompt->at * prompt->block_size, prompt->block_size, blocks, count);
    prompt->at += count;
    prompt->previous = blocks[count - 1];
    return;
  }
  for (size_t i = 0; i < count; i++) blocks[i] = prompt->previous = next(prompt);
}

kvs_status kvs_index_block_hashes(const kvs_index *index, const kvs_query *query, uint32_t block_size,
                                  uint64_t *hashes) {
  const kvs_extra_key **extras;
  struct kvs__prompt prompt;
  uint64_t count;
  if (index == NULL || hashes == NULL || !kvs__query_is_sound(query)) return KVS_ERR_ARGUMENT;
  if (block_size == 0 || block_size > 1u << 20) return KVS_ERR_ARGUMENT;
  if (!kvs__prompt_sort(query, &extras)) return KVS_ERR_MEMORY;
  count = query->tokens_count / block_size;
  kvs__prompt_begin(&prompt, index, query, extras, block_size, KVS_DIALECT_TAGGED);
  kvs__prompt_next(&prompt, hashes, count);
  free(extras);
  return KVS_OK;
}
