/* The values that an event's fields have, but for token ids (tokens.c): read, checked, and put into an event or a scratch. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "event.h"
#include "kvsync.h"

#define TRY KVS__TRY

/* ---- the scratch ---- */

int kvs__scratch_room(void **array, size_t *capacity, size_t count, size_t size) {
  void *grown;
  if (count <= *capacity) return 1;
  grown = realloc(*array, count * size);
  if (grown == NULL) return 0;
  *array = grown;
  *capacity = count;
  return 1;
}

void kvs__scratch_trim(struct kvs__scratch *scratch, size_t hashes, size_t tokens) {
  if (scratch->hashes_capacity > hashes || scratch->tokens_capacity > tokens) kvs__scratch_end(scratch);
}

void kvs__scratch_end(struct kvs__scratch *scratch) {
  free(scratch->hashes);
  free(scratch->tokens);
  free(scratch->locals);
  memset(scratch, 0, sizeof *scratch);
}

/* ---- hashes ---- */

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

enum kvs__fault kvs__read_hashes(struct kvs__cursor *cursor, struct kvs__scratch *scratch, size_t *count) {
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

enum kvs__fault kvs__read_parent(struct kvs__cursor *cursor, struct kvs__event *event) {
  struct kvs__head head;
  TRY(kvs__read_head(cursor, &head));
  event->has_parent = head.kind != KVS__NIL;
  return head.kind == KVS__NIL ? KVS__FINE : to_hash(&head, &event->parent);
}

/* ---- what stands alone ---- */

enum kvs__fault kvs__skip_inside(struct kvs__cursor *cursor, unsigned depth) {
  int deep = 0;
  TRY(kvs__skip(cursor, depth, &deep));
  return deep ? KVS__FAULT_DEPTH : KVS__FINE;
}

enum kvs__fault kvs__read_text(struct kvs__cursor *cursor, struct kvs__text *text, size_t bytes_max) {
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

enum kvs__fault kvs__read_number(struct kvs__cursor *cursor, int64_t *value, int64_t nil, int64_t most) {
  struct kvs__head head;
  TRY(kvs__read_head(cursor, &head));
  *value = nil;
  if (head.kind == KVS__NIL) return KVS__FINE;
  if (head.kind != KVS__INTEGER) return KVS__FAULT_TYPE;
  if (head.negative || head.number > (uint64_t)most) return KVS__FAULT_RANGE;
  *value = (int64_t)head.number;
  return KVS__FINE;
}

enum kvs__fault kvs__read_lora_id(struct kvs__cursor *cursor, struct kvs__event *event) {
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

enum kvs__fault kvs__read_extras(struct kvs__cursor *cursor, unsigned depth, struct kvs__event *event) {
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
    for (uint64_t j = 0; j < entry.number; j++) TRY(kvs__skip_inside(cursor, depth + 2));
  }
  event->extras.end = cursor->at;
  return KVS__FINE;
}
