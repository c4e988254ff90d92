/* Block hashes: what is hashed, in which order.
 *
 *     root  = H(model, lora, block size)
 *     local = H(token ids as uint32 of the host), and if the block has extras: mix(local, extras)
 *     block = mix(block of the parent, or root; local)
 *
 * H is XXH3 (64 bit) under the index's secret seed; mix is H over the two words. */
#ifndef KVS_HASH_H
#define KVS_HASH_H

#include <stddef.h>
#include <stdint.h>

#define KVS__SECRET_BYTES 192

struct kvs__hasher {
  uint64_t seed;
  uint8_t secret[KVS__SECRET_BYTES];
};

void kvs__hasher_init(struct kvs__hasher *hasher, uint64_t seed);

uint64_t kvs__hash_bytes(const struct kvs__hasher *hasher, const void *data, size_t bytes);
uint64_t kvs__mix(const struct kvs__hasher *hasher, uint64_t left, uint64_t right);

/* How a prompt's adapter is known. */
enum kvs__lora { KVS__LORA_NONE, KVS__LORA_NAME, KVS__LORA_NUMBER };

uint64_t kvs__hash_root(const struct kvs__hasher *hasher, const char *model, size_t model_bytes,
                        enum kvs__lora how, const char *lora, size_t lora_bytes, uint32_t block_size);
uint64_t kvs__hash_tokens(const struct kvs__hasher *hasher, const uint32_t *tokens, size_t count);
/* The hashes of `count` blocks without extras that follow `previous`. */
void kvs__hash_chain(const struct kvs__hasher *hasher, uint64_t previous, const uint32_t *tokens,
                     uint32_t block_size, uint64_t *blocks, size_t count);

/* Extras of one block: begin with KVS__NO_EXTRAS, add each item in order, then fold into the local hash. */
#define KVS__NO_EXTRAS 0
enum kvs__extra { KVS__EXTRA_TEXT = 1, KVS__EXTRA_BYTES = 2, KVS__EXTRA_RAW = 3 };

uint64_t kvs__extras_add(const struct kvs__hasher *hasher, uint64_t extras, enum kvs__extra form,
                         const void *data, size_t bytes);
/* An item with a position: [text or bytes, offset]. */
uint64_t kvs__extras_add_at(const struct kvs__hasher *hasher, uint64_t extras, enum kvs__extra form,
                            const void *data, size_t bytes, int64_t offset);
uint64_t kvs__extras_fold(const struct kvs__hasher *hasher, uint64_t local, uint64_t extras);

#endif
