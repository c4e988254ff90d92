/* The hashes of hash.h, made of XXH3. */
#include "hash.h"

#include <string.h>

#define XXH_INLINE_ALL
#include "../vendor/xxhash.h"

/* Words that keep one kind of input from ever looking like another. */
#define MARK_LORA UINT64_C(0x6c6f7261)
#define MARK_LORA_NUMBER UINT64_C(0x6c6f72616e6f)
#define MARK_NO_LORA UINT64_C(0x6e6f6c6f7261)
#define MARK_ITEM UINT64_C(0x6974656d)
#define MARK_ITEM_AT UINT64_C(0x6974656d6174)
#define MARK_EXTRAS UINT64_C(0x657874726173)

void kvs__hasher_init(struct kvs__hasher *hasher, uint64_t seed) {
  hasher->seed = seed;
  XXH3_generateSecret_fromSeed(hasher->secret, seed);
}

uint64_t kvs__hash_bytes(const struct kvs__hasher *hasher, const void *data, size_t bytes) {
  return XXH3_64bits_withSecretandSeed(data, bytes, hasher->secret, KVS__SECRET_BYTES, hasher->seed);
}

uint64_t kvs__mix(const struct kvs__hasher *hasher, uint64_t left, uint64_t right) {
  uint64_t words[2] = {left, right};
  return XXH3_64bits_withSeed(words, sizeof words, hasher->seed);
}

uint64_t kvs__hash_root(const struct kvs__hasher *hasher, const char *model, size_t model_bytes,
                        enum kvs__lora how, const char *lora, size_t lora_bytes, uint32_t block_size) {
  uint64_t root = kvs__mix(hasher, kvs__hash_bytes(hasher, model, model_bytes), block_size);
  if (how == KVS__LORA_NONE) return kvs__mix(hasher, root, MARK_NO_LORA);
  root = kvs__mix(hasher, root, kvs__hash_bytes(hasher, lora, lora_bytes));
  return kvs__mix(hasher, root, how == KVS__LORA_NAME ? MARK_LORA : MARK_LORA_NUMBER);
}

uint64_t kvs__hash_tokens(const struct kvs__hasher *hasher, const uint32_t *tokens, size_t count) {
  return kvs__hash_bytes(hasher, tokens, count * sizeof *tokens);
}

/* Inlined into one loop with a length that is known, so that the next block's tokens are hashed while this one's hash is
 * still on its way: half of the time of a call for each. (`withSeed` gives what `withSecretandSeed` does with the secret of
 * the same seed, which only long inputs need.) */
__attribute__((flatten)) static void chain_of_16(uint64_t seed, uint64_t previous, const uint32_t *tokens,
                                                 uint64_t *blocks, size_t count) {
  for (size_t i = 0; i < count; i++, tokens += 16) {
    uint64_t words[2] = {previous, XXH3_64bits_withSeed(tokens, 16 * sizeof *tokens, seed)};
    blocks[i] = previous = XXH3_64bits_withSeed(words, sizeof words, seed);
  }
}

void kvs__hash_chain(const struct kvs__hasher *hasher, uint64_t previous, const uint32_t *tokens,
                     uint32_t block_size, uint64_t *blocks, size_t count) {
  if (block_size == 16) {
    chain_of_16(hasher->seed, previous, tokens, blocks, count);
    return;
  }
  for (size_t i = 0; i < count; i++, tokens += block_size)
    blocks[i] = previous = kvs__mix(hasher, previous, kvs__hash_tokens(hasher, tokens, block_size));
}

uint64_t kvs__extras_add(const struct kvs__hasher *hasher, uint64_t extras, enum kvs__extra form,
                         const void *data, size_t bytes) {
  uint64_t item = kvs__mix(hasher, kvs__hash_bytes(hasher, data, bytes), MARK_ITEM + ((uint64_t)form << 56));
  return kvs__mix(hasher, extras, item);
}

uint64_t kvs__extras_add_at(const struct kvs__hasher *hasher, uint64_t extras, enum kvs__extra form,
                            const void *data, size_t bytes, int64_t offset) {
  uint64_t item = kvs__mix(hasher, kvs__hash_bytes(hasher, data, bytes), MARK_ITEM_AT + ((uint64_t)form << 56));
  return kvs__mix(hasher, extras, kvs__mix(hasher, item, (uint64_t)offset));
}

uint64_t kvs__extras_fold(const struct kvs__hasher *hasher, uint64_t local, uint64_t extras) {
  if (extras == KVS__NO_EXTRAS) return local;
  return kvs__mix(hasher, kvs__mix(hasher, local, extras), MARK_EXTRAS);
}
