/* Events as engines write them, in any of their forms. */
#ifndef WIRE_H
#define WIRE_H

#include "pack.h"

/* Forms of an event: arrays of so many elements, tag included, or a map. */
#define WIRE_MAP 0
#define WIRE_STORED_MIN 6
#define WIRE_STORED_MAX 12
#define WIRE_REMOVED_MIN 2
#define WIRE_REMOVED_MAX 4

enum wire_batch { WIRE_BATCH_3, WIRE_BATCH_2, WIRE_BATCH_MAP };

/* Left out is zero: nil, except for the numbers, of which -1 is nil. */
struct wire_stored {
  const uint64_t *hashes;
  size_t hashes_count;
  unsigned hash_bytes; /* 0: integers, else bytes of this length */
  int is_signed;       /* integers as int64 */
  int has_parent;
  uint64_t parent;
  const uint32_t *tokens;
  size_t tokens_count;
  int pairs; /* EAGLE */
  uint32_t block_size;
  int64_t lora_id;
  const char *lora_name;
  const char *medium;
  const char *extra_keys; /* msgpack, extra_keys_bytes of it */
  size_t extra_keys_bytes;
  int64_t group;
  const char *spec_kind;
  int64_t window;
  const char *cache_salt; /* maps only */
};

#define WIRE_NIL .lora_id = -1, .group = -1, .window = -1

/* The bytes that stand for hash number `value`: of each length 64 bits or less of it, then filler. */
static inline void wire_hash_bytes(uint64_t value, uint8_t *bytes, unsigned count) {
  for (unsigned i = 0; i < count; i++) bytes[i] = i < 8 ? (uint8_t)(value >> (8 * i)) : (uint8_t)(i * 37);
}

static inline void wire_hash(struct pack *pack, uint64_t value, unsigned hash_bytes, int is_signed) {
  uint8_t bytes[256];
  if (hash_bytes > 0) {
    wire_hash_bytes(value, bytes, hash_bytes);
    pack_bytes(pack, bytes, hash_bytes);
  } else if (is_signed) {
    pack_signed(pack, (int64_t)value);
  } else {
    pack_unsigned(pack, value);
  }
}

static inline void wire_hashes(struct pack *pack, const uint64_t *hashes, size_t count, unsigned hash_bytes,
                               int is_signed) {
  pack_array(pack, count);
  for (size_t i = 0; i < count; i++) wire_hash(pack, hashes[i], hash_bytes, is_signed);
}

static inline void wire_number(struct pack *pack, int64_t number) {
  if (number < 0)
    pack_nil(pack);
  else
    pack_unsigned(pack, (uint64_t)number);
}

static inline void wire_tokens(struct pack *pack, const struct wire_stored *event) {
  pack_array(pack, event->tokens_count);
  for (size_t i = 0; i < event->tokens_count; i++) {
    if (event->pairs) pack_array(pack, 2);
    pack_unsigned(pack, event->tokens[i]);
    if (event->pairs) pack_unsigned(pack, event->tokens[i] ^ 1);
  }
}

static inline void wire_stored_field(struct pack *pack, const struct wire_stored *event, unsigned field) {
  switch (field) {
    case 1: wire_hashes(pack, event->hashes, event->hashes_count, event->hash_bytes, event->is_signed); break;
    case 2:
      if (event->has_parent)
        wire_hash(pack, event->parent, event->hash_bytes, event->is_signed);
      else
        pack_nil(pack);
      break;
    case 3: wire_tokens(pack, event); break;
    case 4: pack_unsigned(pack, event->block_size); break;
    case 5: wire_number(pack, event->lora_id); break;
    case 6: pack_maybe(pack, event->medium); break;
    case 7: pack_maybe(pack, event->lora_name); break;
    case 8:
      if (event->extra_keys == NULL)
        pack_nil(pack);
      else
        pack_raw(pack, event->extra_keys, event->extra_keys_bytes);
      break;
    case 9: wire_number(pack, event->group); break;
    case 10: pack_maybe(pack, event->spec_kind); break;
    case 11: wire_number(pack, event->window); break;
    default: pack_maybe(pack, event->cache_salt); break;
  }
}

static inline void wire_stored(struct pack *pack, const struct wire_stored *event, unsigned form) {
  static const char *const names[] = {"type",      "block_hashes",       "parent_block_hash",
                                      "token_ids", "block_size",         "lora_id",
                                      "medium",    "lora_name",          "extra_keys",
                                      "group_idx", "kv_cache_spec_kind", "kv_cache_spec_sliding_window",
                                      "cache_salt"};
  unsigned fields = form == WIRE_MAP ? 13 : form;
  if (form == WIRE_MAP)
    pack_map(pack, fields);
  else
    pack_array(pack, fields);
  for (unsigned field = 0; field < fields; field++) {
    if (form == WIRE_MAP) pack_text(pack, names[field]);
    if (field == 0)
      pack_text(pack, "BlockStored");
    else
      wire_stored_field(pack, event, field);
  }
}

static inline void wire_removed(struct pack *pack, const uint64_t *hashes, size_t count, unsigned hash_bytes,
                                const char *medium, int64_t group, unsigned form) {
  if (form == WIRE_MAP) {
    pack_map(pack, 4);
    pack_text(pack, "medium");
    pack_maybe(pack, medium);
    pack_text(pack, "type"); /* the tag need not come first */
    pack_text(pack, "BlockRemoved");
    pack_text(pack, "group_idx");
    wire_number(pack, group);
    pack_text(pack, "block_hashes");
    wire_hashes(pack, hashes, count, hash_bytes, 0);
    return;
  }
  pack_array(pack, form);
  pack_text(pack, "BlockRemoved");
  wire_hashes(pack, hashes, count, hash_bytes, 0);
  if (form > 2) pack_maybe(pack, medium);
  if (form > 3) wire_number(pack, group);
}

static inline void wire_cleared(struct pack *pack, unsigned form) {
  if (form == WIRE_MAP) {
    pack_map(pack, 1);
    pack_text(pack, "type");
  } else {
    pack_array(pack, 1);
  }
  pack_text(pack, "AllBlocksCleared");
}

/* The head of a batch of `count` events, which follow. */
static inline void wire_batch_begin(struct pack *pack, enum wire_batch form, size_t count) {
  if (form == WIRE_BATCH_MAP) {
    pack_map(pack, 3);
    pack_text(pack, "ts");
    pack_double(pack, 1.5);
    pack_text(pack, "events");
  } else {
    pack_array(pack, form == WIRE_BATCH_3 ? 3 : 2);
    pack_double(pack, 1.5);
  }
  pack_array(pack, count);
}

static inline void wire_batch_end(struct pack *pack, enum wire_batch form) {
  if (form == WIRE_BATCH_MAP) pack_text(pack, "data_parallel_rank");
  if (form != WIRE_BATCH_2) pack_unsigned(pack, 0);
}

#endif
