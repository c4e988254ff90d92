/* Stored events as arrays, index 0 the tag; the number of elements tells the dialect:
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
#include "decode.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvsync.h"
#include "msgpack.h"

#define TRY KVS__TRY

#define SCRATCH_HASHES_KEPT (1u << 14)
#define SCRATCH_TOKENS_KEPT (1u << 18)
#define BLOCK_SIZE_MAX (1u << 20)
#define GROUP_MAX 65535
#define WINDOW_MAX INT32_MAX

/* kvs__skip() for a value inside an event, where too deep is a fault. */
static enum kvs__fault skip_inside(struct kvs__cursor *cursor, unsigned depth) {
  int deep = 0;
  TRY(kvs__skip(cursor, depth, &deep));
  return deep ? KVS__FAULT_DEPTH : KVS__FINE;
}

int kvs__scratch_room(void **array, size_t *capacity, size_t count, size_t size) {
  void *grown;
  if (count <= *capacity) return 1;
  grown = realloc(*array, count * size);
  if (grown == NULL) return 0;
  *array = grown;
  *capacity = count;
  return 1;
}

void kvs__scratch_trim(struct kvs__scratch *scratch) {
  if (scratch->hashes_capacity > SCRATCH_HASHES_KEPT || scratch->tokens_capacity > SCRATCH_TOKENS_KEPT)
    kvs__scratch_end(scratch);
}

void kvs__scratch_end(struct kvs__scratch *scratch) {
  free(scratch->hashes);
  free(scratch->tokens);
  free(scratch->locals);
  memset(scratch, 0, sizeof *scratch);
}

static enum kvs__fault to_hash(const struct kvs__head *head, struct kvs__sent_hash *hash) {
  if (head->kind == KVS__INTEGER) {
    hash->value = head->number;
    hash->bytes = NULL;
    hash->length = 0;
    return KVS__FINE;
  }
  if (head->kind != KVS__BYTES || head->bytes == 0 || head->bytes > KVS_HASH_BYTES_MAX) return KVS__FAULT_HASH;
  hash->value = 0;
  hash->bytes = head->at;
  hash->length = (uint32_t)head->bytes;
  return KVS__FINE;
}

static enum kvs__fault read_hashes(struct kvs__cursor *cursor, struct kvs__scratch *scratch, size_t *count) {
  struct kvs__head head;
  TRY(kvs__read_head(cursor, &head));
  if (head.kind != KVS__ARRAY) return KVS__FAULT_TYPE;
  *count = (size_t)head.number;
  if (!kvs__scratch_room((void **)&scratch->hashes, &scratch->hashes_capacity, *count, sizeof *scratch->hashes))
    return KVS__FAULT_MEMORY;
  for (size_t i = 0; i < *count; i++) {
    struct kvs__head item;
    if (cursor->end - cursor->at >= 9 && *cursor->at == 0xcf) { /* as nearly all are */
      scratch->hashes[i] = (struct kvs__sent_hash){kvs__big_endian_8(cursor->at + 1), NULL, 0};
      cursor->at += 9;
      continue;
    }
    TRY(kvs__read_head(cursor, &item));
    TRY(to_hash(&item, &scratch->hashes[i]));
  }
  return KVS__FINE;
}

static enum kvs__fault to_token(const struct kvs__head *head, uint32_t *token) {
  if (head->kind != KVS__INTEGER) return KVS__FAULT_TYPE;
  if (head->negative || head->number > UINT32_MAX) return KVS__FAULT_RANGE;
  *token = (uint32_t)head->number;
  return KVS__FINE;
}

static enum kvs__fault read_token(struct kvs__cursor *cursor, uint32_t *token) {
  struct kvs__head head, second;
  TRY(kvs__read_head(cursor, &head));
  if (head.kind != KVS__ARRAY) return to_token(&head, token);
  if (head.number != 2) return KVS__FAULT_TYPE;
  /* An EAGLE pair (this token, the next): the first is ours. */
  TRY(kvs__read_head(cursor, &head));
  TRY(to_token(&head, token));
  TRY(kvs__read_head(cursor, &second));
  return second.kind == KVS__INTEGER ? KVS__FINE : KVS__FAULT_TYPE;
}

/* Real token ids are integers of 16 or 32 bits in an order that no branch predictor learns, and a wrong guess for every
 * second one is most of what decoding costs. So two are read at a time without a branch: the head of the second is looked
 * for in both places where it can be, while the first is still being read. What needs 16 bytes to look at never needs more
 * than 13. Stops at anything else; how many were read. */
static size_t read_wide_tokens(struct kvs__cursor *cursor, uint32_t *tokens, size_t count) {
  const uint8_t *at = cursor->at;
  size_t done = 0;
  while (done + 2 <= count && cursor->end - at >= 16) {
    uint64_t first = kvs__big_endian_8(at), second;
    unsigned wide = at[0] == 0xce, next_wide = (at[3] == 0xce) & !wide;
    unsigned known = (unsigned)(at[0] - 0xcd) < 2, step = 3 + 2 * wide;
    next_wide |= (at[5] == 0xce) & wide;
    second = kvs__big_endian_8(at + step);
    known &= (unsigned)((second >> 56) - 0xcd) < 2;
    if (!known) break;
    tokens[done] = (uint32_t)(first >> (40 - 16 * wide)) & (0xffffu | (0u - wide) << 16);
    tokens[done + 1] = (uint32_t)(second >> (40 - 16 * next_wide)) & (0xffffu | (0u - next_wide) << 16);
    at += step + 3 + 2 * next_wide;
    done += 2;
  }
  cursor->at = at;
  return done;
}

#define ID_FORMS_TURN 8u

/* Bytes of an id by its first byte, 0 = none: below 128 itself, and integers of 8, 16 and 32 bits. */
static unsigned id_bytes(uint8_t first) {
  static const uint8_t of_integers[4] = {2, 3, 5, 0};
  return first < 0x80 ? 1 : (first & 0xfc) == 0xcc ? of_integers[first & 3] : 0;
}

/* A few ids of any form: half as fast, but short ones cost nothing more, and where there is one, others are often near.
 * How many were read. */
static size_t read_any_tokens(struct kvs__cursor *cursor, uint32_t *tokens, size_t count) {
  static const uint32_t masks[6] = {0, 0x7f, 0xff, 0xffff, 0, UINT32_MAX};
  size_t done = 0;
  while (done < count && done < ID_FORMS_TURN && cursor->end - cursor->at >= 8) {
    unsigned bytes = id_bytes(*cursor->at);
    if (bytes == 0) break;
    tokens[done++] = (uint32_t)(kvs__big_endian_8(cursor->at) >> (64 - 8 * bytes)) & masks[bytes];
    cursor->at += bytes;
  }
  return done;
}

static enum kvs__fault read_tokens(struct kvs__cursor *cursor, struct kvs__scratch *scratch, size_t *count) {
  struct kvs__head head;
  TRY(kvs__read_head(cursor, &head));
  *count = 0;
  if (head.kind == KVS__NIL) return KVS__FINE;
  if (head.kind != KVS__ARRAY) return KVS__FAULT_TYPE;
  if (!kvs__scratch_room((void **)&scratch->tokens, &scratch->tokens_capacity, (size_t)head.number,
                         sizeof *scratch->tokens))
    return KVS__FAULT_MEMORY;
  *count = (size_t)head.number;
  for (size_t i = 0; i < *count;) {
    size_t some = read_wide_tokens(cursor, scratch->tokens + i, *count - i);
    some += read_any_tokens(cursor, scratch->tokens + i + some, *count - i - some);
    i += some;
    if (some == 0) TRY(read_token(cursor, &scratch->tokens[i++])); /* a pair, the last few, or a fault */
  }
  return KVS__FINE;
}

static enum kvs__fault read_text(struct kvs__cursor *cursor, struct kvs__text *text, size_t bytes_max) {
  struct kvs__head head;
  TRY(kvs__read_head(cursor, &head));
  text->at = NULL;
  text->bytes = 0;
  if (head.kind == KVS__NIL) return KVS__FINE;
  if (head.kind != KVS__TEXT) return KVS__FAULT_TYPE;
  if (head.bytes > bytes_max) return KVS__FAULT_LIMIT;
  text->at = (const char *)head.at;
  text->bytes = head.bytes;
  return KVS__FINE;
}

/* nil reads as `nil`. */
static enum kvs__fault read_number(struct kvs__cursor *cursor, int64_t *value, int64_t nil, int64_t most) {
  struct kvs__head head;
  TRY(kvs__read_head(cursor, &head));
  *value = nil;
  if (head.kind == KVS__NIL) return KVS__FINE;
  if (head.kind != KVS__INTEGER) return KVS__FAULT_TYPE;
  if (head.negative || head.number > (uint64_t)most) return KVS__FAULT_RANGE;
  *value = (int64_t)head.number;
  return KVS__FINE;
}

static enum kvs__fault read_parent(struct kvs__cursor *cursor, struct kvs__event *event) {
  struct kvs__head head;
  TRY(kvs__read_head(cursor, &head));
  event->has_parent = head.kind != KVS__NIL;
  return head.kind == KVS__NIL ? KVS__FINE : to_hash(&head, &event->parent);
}

static enum kvs__fault read_lora_id(struct kvs__cursor *cursor, struct kvs__event *event) {
  struct kvs__head head;
  TRY(kvs__read_head(cursor, &head));
  event->lora_id.at = NULL;
  event->lora_id.bytes = 0;
  if (head.kind == KVS__NIL) return KVS__FINE;
  if (head.kind == KVS__TEXT) {
    if (head.bytes > KVS_TEXT_BYTES_MAX) return KVS__FAULT_LIMIT;
    event->lora_id.at = (const char *)head.at;
    event->lora_id.bytes = head.bytes;
    return KVS__FINE;
  }
  if (head.kind != KVS__INTEGER) return KVS__FAULT_TYPE;
  event->lora_id.bytes = head.negative ? (size_t)snprintf(event->lora_id_digits, sizeof event->lora_id_digits,
                                                          "%" PRId64, (int64_t)head.number)
                                       : (size_t)snprintf(event->lora_id_digits, sizeof event->lora_id_digits,
                                                          "%" PRIu64, head.number);
  event->lora_id.at = event->lora_id_digits;
  return KVS__FINE;
}

static enum kvs__fault read_extras(struct kvs__cursor *cursor, unsigned depth, struct kvs__event *event) {
  struct kvs__head head;
  TRY(kvs__read_head(cursor, &head));
  event->has_extras = head.kind != KVS__NIL;
  event->extras_count = 0;
  if (head.kind == KVS__NIL) return KVS__FINE;
  if (head.kind != KVS__ARRAY) return KVS__FAULT_TYPE;
  event->extras_count = (size_t)head.number;
  event->extras.at = cursor->at;
  for (uint64_t i = 0; i < head.number; i++) {
    struct kvs__head entry;
    TRY(kvs__read_head(cursor, &entry));
    if (entry.kind == KVS__NIL) continue;
    if (entry.kind != KVS__ARRAY) return KVS__FAULT_TYPE;
    for (uint64_t j = 0; j < entry.number; j++) TRY(skip_inside(cursor, depth + 2));
  }
  event->extras.end = cursor->at;
  return KVS__FINE;
}

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

static int equals(const struct kvs__head *text, const char *name) {
  return text->kind == KVS__TEXT && text->bytes == strlen(name) && memcmp(text->at, name, text->bytes) == 0;
}

static enum field field_named(const struct kvs__head *key, const struct named_field *fields, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (equals(key, fields[i].name)) return fields[i].field;
  return UNKNOWN;
}

static enum kvs__tag tag_named(const struct kvs__head *text) {
  if (equals(text, "BlockStored")) return KVS__TAG_STORED;
  if (equals(text, "BlockRemoved")) return KVS__TAG_REMOVED;
  if (equals(text, "AllBlocksCleared")) return KVS__TAG_CLEARED;
  return KVS__TAG_UNKNOWN;
}

/* Values of an event stand at depth 2: the event itself is 1. */
static enum kvs__fault read_field(struct kvs__cursor *cursor, struct kvs__scratch *scratch, enum field field,
                                  struct kvs__event *event) {
  int64_t value;
  switch (field) {
    case BLOCK_HASHES: return read_hashes(cursor, scratch, &event->hashes_count);
    case PARENT: return read_parent(cursor, event);
    case TOKEN_IDS: return read_tokens(cursor, scratch, &event->tokens_count);
    case BLOCK_SIZE:
      TRY(read_number(cursor, &value, 0, BLOCK_SIZE_MAX));
      event->block_size = (uint32_t)value;
      return KVS__FINE;
    case LORA_ID: return read_lora_id(cursor, event);
    case MEDIUM: return read_text(cursor, &event->medium, KVS_MEDIUM_BYTES_MAX);
    case LORA_NAME: return read_text(cursor, &event->lora_name, KVS_TEXT_BYTES_MAX);
    case EXTRA_KEYS: return read_extras(cursor, 2, event);
    case GROUP:
      TRY(read_number(cursor, &value, 0, GROUP_MAX));
      event->group = (uint32_t)value;
      return KVS__FINE;
    case SPEC_KIND: return read_text(cursor, &event->spec_kind, KVS_TEXT_BYTES_MAX);
    case WINDOW: return read_number(cursor, &event->window, -1, WINDOW_MAX);
    case CACHE_SALT: return read_text(cursor, &event->cache_salt, KVS_TEXT_BYTES_MAX);
    case UNKNOWN: event->unknown_fields++; return skip_inside(cursor, 2);
    case UNUSED: break;
  }
  return skip_inside(cursor, 2);
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
    if (equals(&key, "type")) {
      struct kvs__head text;
      TRY(kvs__read_head(&value, &text));
      if (text.kind != KVS__TEXT) return KVS__FAULT_TYPE;
      *tag = tag_named(&text);
      return KVS__FINE; /* the first counts, and every engine puts it first */
    }
    TRY(skip_inside(&cursor, 2));
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

static enum kvs__fault read_event(struct kvs__cursor *cursor, struct kvs__scratch *scratch,
                                  struct kvs__event *event) {
  struct kvs__head head;
  TRY(kvs__read_head(cursor, &head));
  if (head.kind == KVS__ARRAY) return read_array_event(cursor, head.number, scratch, event);
  if (head.kind == KVS__MAP) return read_map_event(cursor, head.number, scratch, event);
  return KVS__FAULT_TYPE;
}

enum kvs__fault kvs__batch_next(struct kvs__batch *batch, struct kvs__scratch *scratch,
                                struct kvs__event *event, int *lost) {
  struct kvs__cursor start = batch->rest;
  enum kvs__fault fault, skipped;
  int deep = 0;
  memset(event, 0, sizeof *event);
  event->window = -1;
  *lost = 0;
  batch->events_left--;
  fault = read_event(&batch->rest, scratch, event);
  if (fault == KVS__FINE) return KVS__FINE;
  if (fault == KVS__FAULT_TRUNCATED) {
    *lost = 1;
    return fault;
  }
  batch->rest = start;
  skipped = kvs__skip(&batch->rest, 1, &deep);
  if (skipped == KVS__FINE) return fault;
  *lost = 1;
  return skipped;
}

enum kvs__fault kvs__batch_open(struct kvs__batch *batch, const uint8_t *payload, size_t bytes) {
  struct kvs__head outer, events;
  int deep = 0;
  batch->rest.at = payload;
  batch->rest.end = payload + bytes;
  batch->events_left = 0;
  batch->elements_after = 0;
  TRY(kvs__read_head(&batch->rest, &outer) == KVS__FINE ? KVS__FINE : KVS__FAULT_BATCH);
  batch->map = outer.kind == KVS__MAP;
  if (outer.kind == KVS__ARRAY) {
    if (outer.number < 2) return KVS__FAULT_BATCH;
    if (kvs__skip(&batch->rest, 1, &deep) != KVS__FINE) return KVS__FAULT_BATCH;
    batch->elements_after = outer.number - 2;
  } else if (outer.kind == KVS__MAP) {
    uint64_t i;
    for (i = 0; i < outer.number; i++) {
      struct kvs__head key;
      if (kvs__read_head(&batch->rest, &key) != KVS__FINE) return KVS__FAULT_BATCH;
      if (key.kind == KVS__ARRAY || key.kind == KVS__MAP) return KVS__FAULT_BATCH;
      if (equals(&key, "events")) break;
      if (kvs__skip(&batch->rest, 1, &deep) != KVS__FINE) return KVS__FAULT_BATCH;
    }
    if (i == outer.number) return KVS__FAULT_BATCH;
    batch->elements_after = 2 * (outer.number - i - 1);
  } else {
    return KVS__FAULT_BATCH;
  }
  /* A cut inside the list of events leaves whole events to apply, so its count is not held against the bytes. */
  if (batch->rest.at == batch->rest.end) return KVS__FAULT_BATCH;
  {
    struct kvs__cursor before = batch->rest;
    enum kvs__fault fault = kvs__read_head(&batch->rest, &events);
    if (fault == KVS__FINE && events.kind != KVS__ARRAY) return KVS__FAULT_BATCH;
    if (fault == KVS__FINE) {
      batch->events_left = events.number;
      return KVS__FINE;
    }
    if ((*before.at & 0xf0) == 0x90)
      batch->events_left = *before.at & 0x0f;
    else if (*before.at == 0xdc && before.end - before.at >= 3)
      batch->events_left = kvs__big_endian(before.at + 1, 2);
    else if (*before.at == 0xdd && before.end - before.at >= 5)
      batch->events_left = kvs__big_endian(before.at + 1, 4);
    else
      return KVS__FAULT_BATCH;
  }
  return KVS__FINE;
}

enum kvs__fault kvs__batch_close(struct kvs__batch *batch, uint64_t *trailing) {
  int deep = 0;
  *trailing = 0;
  while (batch->elements_after > 0) {
    enum kvs__fault fault = kvs__skip(&batch->rest, 1, &deep);
    if (fault != KVS__FINE) return KVS__FAULT_TRUNCATED;
    batch->elements_after--;
  }
  *trailing = (uint64_t)(batch->rest.end - batch->rest.at);
  return KVS__FINE;
}
