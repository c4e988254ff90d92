/* One event: which field stands where, and what it is called.
 *
 * Stored events as arrays, index 0 the tag; the number of elements tells the dialect:
 *
 *   1 block_hashes  2 parent_block_hash  3 token_ids  4 block_size  5 lora_id   vLLM 0.9.0, SGLang
 *   6 medium                                                                     vLLM 0.10.2, SGLang
 *   7 lora_name                                                                  vLLM 0.14.0
 *   8 extra_keys                                                                 vLLM 0.17.0
 *   9 group_idx                                                                  vLLM 0.20.0
 *  10 kv_cache_spec_kind  11 kv_cache_spec_sliding_window                         vLLM 0.22.0
 *
 * Removed: 1 block_hashes  2 medium  3 group_idx. Maps with the same names since vLLM 0.24.0, SGLang 0.5.17.
 */
#include "event.h"

#include "kvsync.h"

#define TRY KVS__TRY

#define BLOCK_SIZE_MAX (1u << 20)
#define GROUP_MAX 65535
#define WINDOW_MAX INT32_MAX

enum field {
  BLOCK_HASHES,
  PARENT,
  TOKEN_IDS,
  BLOCK_SIZE,
  LORA_ID,
  MEDIUM,
  LORA_NAME,
  EXTRA_KEYS,
  GROUP,
  SPEC_KIND,
  WINDOW,
  CACHE_SALT,
  UNUSED, /* known, and of no meaning here */
  UNKNOWN
};

static const enum field STORED_ARRAY[] = {BLOCK_HASHES, PARENT,     TOKEN_IDS, BLOCK_SIZE, LORA_ID, MEDIUM,
                                          LORA_NAME,    EXTRA_KEYS, GROUP,     SPEC_KIND,  WINDOW};
static const enum field REMOVED_ARRAY[] = {BLOCK_HASHES, MEDIUM, GROUP};

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

struct named_field {
  const char *name;
  enum field field;
};

static const struct named_field STORED_MAP[] = {
    {"block_hashes", BLOCK_HASHES},
    {"parent_block_hash", PARENT},
    {"token_ids", TOKEN_IDS},
    {"block_size", BLOCK_SIZE},
    {"lora_id", LORA_ID},
    {"medium", MEDIUM},
    {"lora_name", LORA_NAME},
    {"extra_keys", EXTRA_KEYS},
    {"group_idx", GROUP},
    {"kv_cache_spec_kind", SPEC_KIND},
    {"kv_cache_spec_sliding_window", WINDOW},
    {"cache_salt", CACHE_SALT},
    {"type", UNUSED},
    {"locality", UNUSED},
    {"ownership", UNUSED},
    {"session_id", UNUSED},
    {"lookahead_token_ids", UNUSED},
};
static const struct named_field REMOVED_MAP[] = {
    {"block_hashes", BLOCK_HASHES}, {"medium", MEDIUM},    {"group_idx", GROUP}, {"type", UNUSED},
    {"locality", UNUSED},           {"ownership", UNUSED},
};
static const struct named_field CLEARED_MAP[] = {{"type", UNUSED}};

static enum field field_named(const struct kvs__head *key, const struct named_field *fields, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (kvs__text_is(key, fields[i].name)) return fields[i].field;
  return UNKNOWN;
}

static enum kvs__tag tag_named(const struct kvs__head *text) {
  if (kvs__text_is(text, "BlockStored")) return KVS__TAG_STORED;
  if (kvs__text_is(text, "BlockRemoved")) return KVS__TAG_REMOVED;
  if (kvs__text_is(text, "AllBlocksCleared")) return KVS__TAG_CLEARED;
  return KVS__TAG_UNKNOWN;
}

/* Values of an event stand at depth 2: the event itself is 1. */
static enum kvs__fault read_field(struct kvs__cursor *cursor, struct kvs__scratch *scratch, enum field field,
                                  struct kvs__event *event) {
  int64_t value;
  switch (field) {
    case BLOCK_HASHES: return kvs__read_hashes(cursor, scratch, &event->hashes_count);
    case PARENT: return kvs__read_parent(cursor, event);
    case TOKEN_IDS: return kvs__read_tokens(cursor, scratch, &event->tokens_count);
    case BLOCK_SIZE:
      TRY(kvs__read_number(cursor, &value, 0, BLOCK_SIZE_MAX));
      event->block_size = (uint32_t)value;
      return KVS__FINE;
    case LORA_ID: return kvs__read_lora_id(cursor, event);
    case MEDIUM: return kvs__read_text(cursor, &event->medium, KVS_MEDIUM_BYTES_MAX);
    case LORA_NAME: return kvs__read_text(cursor, &event->lora_name, KVS_TEXT_BYTES_MAX);
    case EXTRA_KEYS: return kvs__read_extras(cursor, 2, event);
    case GROUP:
      TRY(kvs__read_number(cursor, &value, 0, GROUP_MAX));
      event->group = (uint32_t)value;
      return KVS__FINE;
    case SPEC_KIND: return kvs__read_text(cursor, &event->spec_kind, KVS_TEXT_BYTES_MAX);
    case WINDOW: return kvs__read_number(cursor, &event->window, -1, WINDOW_MAX);
    case CACHE_SALT: return kvs__read_text(cursor, &event->cache_salt, KVS_TEXT_BYTES_MAX);
    case UNKNOWN: event->unknown_fields++; return kvs__skip_inside(cursor, 2);
    case UNUSED: break;
  }
  return kvs__skip_inside(cursor, 2);
}

static enum kvs__fault read_array_event(struct kvs__cursor *cursor, uint64_t count,
                                        struct kvs__scratch *scratch, struct kvs__event *event) {
  const enum field *fields = NULL;
  size_t fields_count = 0;
  struct kvs__head tag;
  if (count == 0) return KVS__FAULT_TYPE;
  TRY(kvs__read_head(cursor, &tag));
  if (tag.kind != KVS__TEXT) return KVS__FAULT_TYPE;
  event->tag = tag_named(&tag);
  switch (event->tag) {
    case KVS__TAG_STORED:
      if (count < 5) return KVS__FAULT_TYPE;
      fields = STORED_ARRAY;
      fields_count = COUNT_OF(STORED_ARRAY);
      event->dialect = count <= 8 ? KVS_DIALECT_ABSENT : count == 9 ? KVS_DIALECT_UNTAGGED : KVS_DIALECT_TAGGED;
      break;
    case KVS__TAG_REMOVED:
      if (count < 2) return KVS__FAULT_TYPE;
      fields = REMOVED_ARRAY;
      fields_count = COUNT_OF(REMOVED_ARRAY);
      break;
    case KVS__TAG_CLEARED: break;
    case KVS__TAG_UNKNOWN: break;
  }
  for (uint64_t i = 0; i + 1 < count; i++)
    TRY(read_field(cursor, scratch, i < fields_count ? fields[i] : UNKNOWN, event));
  return KVS__FINE;
}

/* The tag may stand anywhere in a map, and decides what its keys mean: look for it first. */
static enum kvs__fault find_tag(struct kvs__cursor cursor, uint64_t pairs, enum kvs__tag *tag) {
  for (uint64_t i = 0; i < pairs; i++) {
    struct kvs__head key;
    struct kvs__cursor value;
    TRY(kvs__read_head(&cursor, &key));
    if (key.kind == KVS__ARRAY || key.kind == KVS__MAP) return KVS__FAULT_TYPE;
    value = cursor;
    if (kvs__text_is(&key, "type")) {
      struct kvs__head text;
      TRY(kvs__read_head(&value, &text));
      if (text.kind != KVS__TEXT) return KVS__FAULT_TYPE;
      *tag = tag_named(&text);
      return KVS__FINE; /* the first counts, and every engine puts it first */
    }
    TRY(kvs__skip_inside(&cursor, 2));
  }
  return KVS__FAULT_TYPE;
}

static enum kvs__fault read_map_event(struct kvs__cursor *cursor, uint64_t pairs, struct kvs__scratch *scratch,
                                      struct kvs__event *event) {
  const struct named_field *fields = CLEARED_MAP;
  size_t fields_count = COUNT_OF(CLEARED_MAP);
  int hashes = 0, tokens = 0;
  TRY(find_tag(*cursor, pairs, &event->tag));
  if (event->tag == KVS__TAG_STORED) {
    fields = STORED_MAP;
    fields_count = COUNT_OF(STORED_MAP);
    event->dialect = KVS_DIALECT_TAGGED;
  } else if (event->tag == KVS__TAG_REMOVED) {
    fields = REMOVED_MAP;
    fields_count = COUNT_OF(REMOVED_MAP);
  }
  for (uint64_t i = 0; i < pairs; i++) {
    struct kvs__head key;
    enum field field;
    TRY(kvs__read_head(cursor, &key));
    if (key.kind == KVS__ARRAY || key.kind == KVS__MAP) return KVS__FAULT_TYPE;
    field = field_named(&key, fields, fields_count);
    hashes |= field == BLOCK_HASHES;
    tokens |= field == TOKEN_IDS;
    TRY(read_field(cursor, scratch, field, event));
  }
  if (event->tag == KVS__TAG_STORED && !(hashes && tokens)) return KVS__FAULT_TYPE;
  if (event->tag == KVS__TAG_REMOVED && !hashes) return KVS__FAULT_TYPE;
  return KVS__FINE;
}

enum kvs__fault kvs__read_event(struct kvs__cursor *cursor, struct kvs__scratch *scratch,
                                struct kvs__event *event) {
  struct kvs__head head;
  TRY(kvs__read_head(cursor, &head));
  if (head.kind == KVS__ARRAY) return read_array_event(cursor, head.number, scratch, event);
  if (head.kind == KVS__MAP) return read_map_event(cursor, head.number, scratch, event);
  return KVS__FAULT_TYPE;
}
