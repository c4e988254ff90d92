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
 *
 * Nothing here recurses, and every count is held against the bytes that are left before it is believed:
 * each element takes one byte at least. */
#include "decode.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "kvsync.h"

#define BLOCK_SIZE_MAX (1u << 20)
#define GROUP_MAX 65535
#define WINDOW_MAX INT32_MAX

enum kind { NIL, BOOLEAN, INTEGER, FLOAT, TEXT, BYTES, ARRAY, MAP, EXTENSION };

/* The head of one msgpack value. For texts and bytes the cursor has stepped over the content too. */
struct head {
  enum kind kind;
  int negative;      /* INTEGER below zero; number then holds its two's complement */
  uint64_t number;   /* INTEGER: value; ARRAY, MAP: elements, pairs */
  const uint8_t *at; /* TEXT, BYTES, EXTENSION: content */
  size_t bytes;
};

#define TRY(call)                           \
  do {                                      \
    enum kvs__fault fault_ = (call);        \
    if (fault_ != KVS__FINE) return fault_; \
  } while (0)

static uint64_t big_endian(const uint8_t *at, size_t width) {
  uint64_t value = 0;
  for (size_t i = 0; i < width; i++) value = value << 8 | at[i];
  return value;
}

static enum kvs__fault number(struct kvs__cursor *cursor, size_t width, uint64_t *value) {
  if ((size_t)(cursor->end - cursor->at) < width) return KVS__FAULT_TRUNCATED;
  *value = big_endian(cursor->at, width);
  cursor->at += width;
  return KVS__FINE;
}

static enum kvs__fault content(struct kvs__cursor *cursor, struct head *head, uint64_t bytes) {
  if ((uint64_t)(cursor->end - cursor->at) < bytes) return KVS__FAULT_TRUNCATED;
  head->at = cursor->at;
  head->bytes = (size_t)bytes;
  cursor->at += bytes;
  return KVS__FINE;
}

static enum kvs__fault elements(const struct kvs__cursor *cursor, struct head *head, uint64_t count) {
  uint64_t least = head->kind == MAP ? 2 * count : count;
  if ((uint64_t)(cursor->end - cursor->at) < least) return KVS__FAULT_TRUNCATED;
  head->number = count;
  return KVS__FINE;
}

static enum kvs__fault sized(struct kvs__cursor *cursor, struct head *head, enum kind kind, size_t width,
                             size_t extra) {
  uint64_t size;
  head->kind = kind;
  TRY(number(cursor, width, &size));
  return kind == ARRAY || kind == MAP ? elements(cursor, head, size) : content(cursor, head, size + extra);
}

static enum kvs__fault integer(struct kvs__cursor *cursor, struct head *head, size_t width, int is_signed) {
  head->kind = INTEGER;
  TRY(number(cursor, width, &head->number));
  if (is_signed && head->number >> (8 * width - 1)) {
    head->negative = 1;
    if (width < 8) head->number |= ~UINT64_C(0) << (8 * width);
  }
  return KVS__FINE;
}

/* FAULT_TYPE is only for the byte 0xc1, which begins no value. */
static enum kvs__fault read_head(struct kvs__cursor *cursor, struct head *head) {
  uint8_t byte;
  if (cursor->at == cursor->end) return KVS__FAULT_TRUNCATED;
  byte = *cursor->at++;
  head->negative = 0;
  if (byte < 0x80) {
    head->kind = INTEGER;
    head->number = byte;
    return KVS__FINE;
  }
  if (byte >= 0xe0) {
    head->kind = INTEGER;
    head->negative = 1;
    head->number = (uint64_t)(int64_t)(int8_t)byte;
    return KVS__FINE;
  }
  if (byte < 0x90) {
    head->kind = MAP;
    return elements(cursor, head, byte & 0x0f);
  }
  if (byte < 0xa0) {
    head->kind = ARRAY;
    return elements(cursor, head, byte & 0x0f);
  }
  if (byte < 0xc0) {
    head->kind = TEXT;
    return content(cursor, head, byte & 0x1f);
  }
  switch (byte) {
    case 0xc0: head->kind = NIL; return KVS__FINE;
    case 0xc2:
    case 0xc3: head->kind = BOOLEAN; return KVS__FINE;
    case 0xc4: return sized(cursor, head, BYTES, 1, 0);
    case 0xc5: return sized(cursor, head, BYTES, 2, 0);
    case 0xc6: return sized(cursor, head, BYTES, 4, 0);
    case 0xc7: return sized(cursor, head, EXTENSION, 1, 1);
    case 0xc8: return sized(cursor, head, EXTENSION, 2, 1);
    case 0xc9: return sized(cursor, head, EXTENSION, 4, 1);
    case 0xca: head->kind = FLOAT; return content(cursor, head, 4);
    case 0xcb: head->kind = FLOAT; return content(cursor, head, 8);
    case 0xcc: return integer(cursor, head, 1, 0);
    case 0xcd: return integer(cursor, head, 2, 0);
    case 0xce: return integer(cursor, head, 4, 0);
    case 0xcf: return integer(cursor, head, 8, 0);
    case 0xd0: return integer(cursor, head, 1, 1);
    case 0xd1: return integer(cursor, head, 2, 1);
    case 0xd2: return integer(cursor, head, 4, 1);
    case 0xd3: return integer(cursor, head, 8, 1);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8: head->kind = EXTENSION; return content(cursor, head, 1 + (UINT64_C(1) << (byte - 0xd4)));
    case 0xd9: return sized(cursor, head, TEXT, 1, 0);
    case 0xda: return sized(cursor, head, TEXT, 2, 0);
    case 0xdb: return sized(cursor, head, TEXT, 4, 0);
    case 0xdc: return sized(cursor, head, ARRAY, 2, 0);
    case 0xdd: return sized(cursor, head, ARRAY, 4, 0);
    case 0xde: return sized(cursor, head, MAP, 2, 0);
    case 0xdf: return sized(cursor, head, MAP, 4, 0);
    default: return KVS__FAULT_TYPE;
  }
}

/* Step over one whole value that stands at nesting `depth`; `*deep` is set where it nests beyond the limit.
 * Levels beyond the limit are counted as one, so a bomb costs no more than its bytes. */
static enum kvs__fault skip(struct kvs__cursor *cursor, unsigned depth, int *deep) {
  uint64_t left[KVS_DEPTH_MAX + 1];
  int top = 0;
  left[0] = 1;
  while (top >= 0) {
    struct head head;
    uint64_t children;
    if (left[top] == 0) {
      top--;
      continue;
    }
    left[top]--;
    TRY(read_head(cursor, &head));
    if (head.kind != ARRAY && head.kind != MAP) continue;
    if (depth + (unsigned)top >= KVS_DEPTH_MAX) *deep = 1;
    children = head.kind == MAP ? 2 * head.number : head.number;
    if (children == 0) continue;
    if (top < KVS_DEPTH_MAX)
      left[++top] = children;
    else
      left[top] += children;
  }
  return KVS__FINE;
}

/* skip() for a value inside an event, where too deep is a fault. */
static enum kvs__fault skip_inside(struct kvs__cursor *cursor, unsigned depth) {
  int deep = 0;
  TRY(skip(cursor, depth, &deep));
  return deep ? KVS__FAULT_DEPTH : KVS__FINE;
}

static int grow(void **array, size_t *capacity, size_t count, size_t size) {
  void *grown;
  if (count <= *capacity) return 1;
  grown = realloc(*array, count * size);
  if (grown == NULL) return 0;
  *array = grown;
  *capacity = count;
  return 1;
}

void kvs__scratch_end(struct kvs__scratch *scratch) {
  free(scratch->hashes);
  free(scratch->tokens);
  memset(scratch, 0, sizeof *scratch);
}

static enum kvs__fault to_hash(const struct head *head, struct kvs__sent_hash *hash) {
  if (head->kind == INTEGER) {
    hash->value = head->number;
    hash->bytes = NULL;
    hash->length = 0;
    return KVS__FINE;
  }
  if (head->kind != BYTES || head->bytes == 0 || head->bytes > KVS_HASH_BYTES_MAX) return KVS__FAULT_HASH;
  hash->value = 0;
  hash->bytes = head->at;
  hash->length = (uint32_t)head->bytes;
  return KVS__FINE;
}

static enum kvs__fault read_hashes(struct kvs__cursor *cursor, struct kvs__scratch *scratch, size_t *count) {
  struct head head;
  TRY(read_head(cursor, &head));
  if (head.kind != ARRAY) return KVS__FAULT_TYPE;
  *count = (size_t)head.number;
  if (!grow((void **)&scratch->hashes, &scratch->hashes_capacity, *count, sizeof *scratch->hashes))
    return KVS__FAULT_MEMORY;
  for (size_t i = 0; i < *count; i++) {
    struct head item;
    TRY(read_head(cursor, &item));
    TRY(to_hash(&item, &scratch->hashes[i]));
  }
  return KVS__FINE;
}

static enum kvs__fault to_token(const struct head *head, uint32_t *token) {
  if (head->kind != INTEGER) return KVS__FAULT_TYPE;
  if (head->negative || head->number > UINT32_MAX) return KVS__FAULT_RANGE;
  *token = (uint32_t)head->number;
  return KVS__FINE;
}

static enum kvs__fault read_token(struct kvs__cursor *cursor, uint32_t *token) {
  struct head head, second;
  TRY(read_head(cursor, &head));
  if (head.kind != ARRAY) return to_token(&head, token);
  if (head.number != 2) return KVS__FAULT_TYPE;
  /* An EAGLE pair (this token, the next): the first is ours. */
  TRY(read_head(cursor, &head));
  TRY(to_token(&head, token));
  TRY(read_head(cursor, &second));
  return second.kind == INTEGER ? KVS__FINE : KVS__FAULT_TYPE;
}

static enum kvs__fault read_tokens(struct kvs__cursor *cursor, struct kvs__scratch *scratch, size_t *count) {
  struct head head;
  TRY(read_head(cursor, &head));
  *count = 0;
  if (head.kind == NIL) return KVS__FINE;
  if (head.kind != ARRAY) return KVS__FAULT_TYPE;
  if (!grow((void **)&scratch->tokens, &scratch->tokens_capacity, (size_t)head.number, sizeof *scratch->tokens))
    return KVS__FAULT_MEMORY;
  *count = (size_t)head.number;
  for (size_t i = 0; i < *count; i++) {
    const uint8_t *at = cursor->at;
    size_t left = (size_t)(cursor->end - at);
    /* The forms real token ids take, before the general way. */
    if (left >= 3 && at[0] == 0xcd) {
      scratch->tokens[i] = (uint32_t)at[1] << 8 | at[2];
      cursor->at += 3;
    } else if (left >= 5 && at[0] == 0xce) {
      scratch->tokens[i] = (uint32_t)at[1] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 8 | at[4];
      cursor->at += 5;
    } else if (left >= 1 && at[0] < 0x80) {
      scratch->tokens[i] = at[0];
      cursor->at += 1;
    } else {
      TRY(read_token(cursor, &scratch->tokens[i]));
    }
  }
  return KVS__FINE;
}

static enum kvs__fault read_text(struct kvs__cursor *cursor, struct kvs__text *text, size_t bytes_max) {
  struct head head;
  TRY(read_head(cursor, &head));
  text->at = NULL;
  text->bytes = 0;
  if (head.kind == NIL) return KVS__FINE;
  if (head.kind != TEXT) return KVS__FAULT_TYPE;
  if (head.bytes > bytes_max) return KVS__FAULT_LIMIT;
  text->at = (const char *)head.at;
  text->bytes = head.bytes;
  return KVS__FINE;
}

/* nil reads as `nil`. */
static enum kvs__fault read_number(struct kvs__cursor *cursor, int64_t *value, int64_t nil, int64_t most) {
  struct head head;
  TRY(read_head(cursor, &head));
  *value = nil;
  if (head.kind == NIL) return KVS__FINE;
  if (head.kind != INTEGER) return KVS__FAULT_TYPE;
  if (head.negative || head.number > (uint64_t)most) return KVS__FAULT_RANGE;
  *value = (int64_t)head.number;
  return KVS__FINE;
}

static enum kvs__fault read_parent(struct kvs__cursor *cursor, struct kvs__event *event) {
  struct head head;
  TRY(read_head(cursor, &head));
  event->has_parent = head.kind != NIL;
  return head.kind == NIL ? KVS__FINE : to_hash(&head, &event->parent);
}

static enum kvs__fault read_lora_id(struct kvs__cursor *cursor, struct kvs__event *event) {
  struct head head;
  TRY(read_head(cursor, &head));
  event->lora_id.at = NULL;
  event->lora_id.bytes = 0;
  if (head.kind == NIL) return KVS__FINE;
  if (head.kind == TEXT) {
    if (head.bytes > KVS_TEXT_BYTES_MAX) return KVS__FAULT_LIMIT;
    event->lora_id.at = (const char *)head.at;
    event->lora_id.bytes = head.bytes;
    return KVS__FINE;
  }
  if (head.kind != INTEGER) return KVS__FAULT_TYPE;
  event->lora_id.bytes = head.negative ? (size_t)snprintf(event->lora_id_digits, sizeof event->lora_id_digits,
                                                          "%" PRId64, (int64_t)head.number)
                                       : (size_t)snprintf(event->lora_id_digits, sizeof event->lora_id_digits,
                                                          "%" PRIu64, head.number);
  event->lora_id.at = event->lora_id_digits;
  return KVS__FINE;
}

static enum kvs__fault read_extras(struct kvs__cursor *cursor, unsigned depth, struct kvs__event *event) {
  struct head head;
  TRY(read_head(cursor, &head));
  event->has_extras = head.kind != NIL;
  event->extras_count = 0;
  if (head.kind == NIL) return KVS__FINE;
  if (head.kind != ARRAY) return KVS__FAULT_TYPE;
  event->extras_count = (size_t)head.number;
  event->extras.at = cursor->at;
  for (uint64_t i = 0; i < head.number; i++) {
    struct head entry;
    TRY(read_head(cursor, &entry));
    if (entry.kind == NIL) continue;
    if (entry.kind != ARRAY) return KVS__FAULT_TYPE;
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

static int equals(const struct head *text, const char *name) {
  return text->kind == TEXT && text->bytes == strlen(name) && memcmp(text->at, name, text->bytes) == 0;
}

static enum field field_named(const struct head *key, const struct named_field *fields, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (equals(key, fields[i].name)) return fields[i].field;
  return UNKNOWN;
}

static enum kvs__tag tag_named(const struct head *text) {
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
  struct head tag;
  if (count == 0) return KVS__FAULT_TYPE;
  TRY(read_head(cursor, &tag));
  if (tag.kind != TEXT) return KVS__FAULT_TYPE;
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
  int found = 0;
  for (uint64_t i = 0; i < pairs; i++) {
    struct head key;
    struct kvs__cursor value;
    TRY(read_head(&cursor, &key));
    if (key.kind == ARRAY || key.kind == MAP) return KVS__FAULT_TYPE;
    value = cursor;
    if (equals(&key, "type")) {
      struct head text;
      TRY(read_head(&value, &text));
      if (text.kind != TEXT) return KVS__FAULT_TYPE;
      *tag = tag_named(&text);
      found = 1;
      if (i == 0) return KVS__FINE; /* where every engine puts it */
    }
    TRY(skip_inside(&cursor, 2));
  }
  return found ? KVS__FINE : KVS__FAULT_TYPE;
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
    struct head key;
    enum field field;
    TRY(read_head(cursor, &key));
    if (key.kind == ARRAY || key.kind == MAP) return KVS__FAULT_TYPE;
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
  struct head head;
  TRY(read_head(cursor, &head));
  if (head.kind == ARRAY) return read_array_event(cursor, head.number, scratch, event);
  if (head.kind == MAP) return read_map_event(cursor, head.number, scratch, event);
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
  skipped = skip(&batch->rest, 1, &deep);
  if (skipped == KVS__FINE) return fault;
  *lost = 1;
  return skipped;
}

enum kvs__fault kvs__batch_open(struct kvs__batch *batch, const uint8_t *payload, size_t bytes) {
  struct head outer, events;
  int deep = 0;
  batch->rest.at = payload;
  batch->rest.end = payload + bytes;
  batch->events_left = 0;
  batch->elements_after = 0;
  TRY(read_head(&batch->rest, &outer) == KVS__FINE ? KVS__FINE : KVS__FAULT_BATCH);
  batch->map = outer.kind == MAP;
  if (outer.kind == ARRAY) {
    if (outer.number < 2) return KVS__FAULT_BATCH;
    if (skip(&batch->rest, 1, &deep) != KVS__FINE) return KVS__FAULT_BATCH;
    batch->elements_after = outer.number - 2;
  } else if (outer.kind == MAP) {
    uint64_t i;
    for (i = 0; i < outer.number; i++) {
      struct head key;
      if (read_head(&batch->rest, &key) != KVS__FINE) return KVS__FAULT_BATCH;
      if (key.kind == ARRAY || key.kind == MAP) return KVS__FAULT_BATCH;
      if (equals(&key, "events")) break;
      if (skip(&batch->rest, 1, &deep) != KVS__FINE) return KVS__FAULT_BATCH;
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
    enum kvs__fault fault = read_head(&batch->rest, &events);
    if (fault == KVS__FINE && events.kind != ARRAY) return KVS__FAULT_BATCH;
    if (fault == KVS__FINE) {
      batch->events_left = events.number;
      return KVS__FINE;
    }
    if ((*before.at & 0xf0) == 0x90)
      batch->events_left = *before.at & 0x0f;
    else if (*before.at == 0xdc && before.end - before.at >= 3)
      batch->events_left = big_endian(before.at + 1, 2);
    else if (*before.at == 0xdd && before.end - before.at >= 5)
      batch->events_left = big_endian(before.at + 1, 4);
    else
      return KVS__FAULT_BATCH;
  }
  return KVS__FINE;
}

enum kvs__fault kvs__batch_close(struct kvs__batch *batch, uint64_t *trailing) {
  int deep = 0;
  *trailing = 0;
  while (batch->elements_after > 0) {
    enum kvs__fault fault = skip(&batch->rest, 1, &deep);
    if (fault != KVS__FINE) return KVS__FAULT_TRUNCATED;
    batch->elements_after--;
  }
  *trailing = (uint64_t)(batch->rest.end - batch->rest.at);
  return KVS__FINE;
}

static uint64_t extra_item(const struct kvs__hasher *hasher, uint64_t extras, struct kvs__cursor *cursor,
                           const struct kvs__event *event, int first) {
  const uint8_t *start = cursor->at;
  struct head head, name, offset;
  int deep = 0;
  (void)read_head(cursor, &head);
  if (head.kind == TEXT) {
    if (first && event->lora_name.at != NULL && head.bytes == event->lora_name.bytes &&
        memcmp(head.at, event->lora_name.at, head.bytes) == 0)
      return extras;
    return kvs__extras_add(hasher, extras, KVS__EXTRA_TEXT, head.at, head.bytes);
  }
  if (head.kind == BYTES) return kvs__extras_add(hasher, extras, KVS__EXTRA_BYTES, head.at, head.bytes);
  if (head.kind == ARRAY && head.number == 2) {
    struct kvs__cursor inside = *cursor;
    (void)read_head(&inside, &name);
    if (name.kind == TEXT || name.kind == BYTES) {
      (void)read_head(&inside, &offset);
      if (offset.kind == INTEGER) {
        *cursor = inside;
        return kvs__extras_add_at(hasher, extras, name.kind == TEXT ? KVS__EXTRA_TEXT : KVS__EXTRA_BYTES,
                                  name.at, name.bytes, (int64_t)offset.number);
      }
    }
  }
  /* Something newer than this code: it counts as itself, and equals nothing that can be asked for. */
  cursor->at = start;
  (void)skip(cursor, 1, &deep);
  return kvs__extras_add(hasher, extras, KVS__EXTRA_RAW, start, (size_t)(cursor->at - start));
}

uint64_t kvs__extras_next(const struct kvs__hasher *hasher, const struct kvs__event *event,
                          struct kvs__cursor *cursor) {
  uint64_t extras = KVS__NO_EXTRAS;
  struct head entry;
  (void)read_head(cursor, &entry); /* validated when the event was read */
  if (entry.kind == NIL) return extras;
  for (uint64_t i = 0; i < entry.number; i++) extras = extra_item(hasher, extras, cursor, event, i == 0);
  return extras;
}
