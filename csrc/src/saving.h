/* What snapshot.c and snapshot_items.c have in common: a writer of numbers and texts, and a record that is being saved. */
#ifndef KVS_SAVING_H
#define KVS_SAVING_H

#include <stdlib.h>
#include <string.h>

#include "index.h"

/* ---- the writer ---- */

/* It fails once, for memory, and for good; then it writes nothing any more. */
struct kvs__writer {
  uint8_t *bytes;
  size_t count;
  size_t capacity;
  int failed;
};

/* Room for so many bytes more; NULL = out of memory, now or before. */
static inline uint8_t *kvs__put_room(struct kvs__writer *writer, size_t bytes) {
  uint8_t *at;
  if (writer->count + bytes > writer->capacity && !writer->failed) {
    size_t capacity = (writer->count + bytes) * 2;
    uint8_t *grown = realloc(writer->bytes, capacity);
    writer->failed = grown == NULL;
    if (grown != NULL) {
      writer->bytes = grown;
      writer->capacity = capacity;
    }
  }
  if (writer->failed) return NULL;
  at = writer->bytes + writer->count;
  writer->count += bytes;
  return at;
}

static inline void kvs__put(struct kvs__writer *writer, const void *data, size_t bytes) {
  uint8_t *at = kvs__put_room(writer, bytes);
  if (at != NULL && bytes > 0) memcpy(at, data, bytes);
}

static inline void kvs__put_number(struct kvs__writer *writer, uint64_t number) {
  kvs__put(writer, &number, sizeof number);
}

static inline void kvs__put_text(struct kvs__writer *writer, const void *text, size_t bytes) {
  kvs__put_number(writer, bytes);
  kvs__put(writer, text, bytes);
}

/* What is written, and what it is made of. `starts` grows over all kinds. */
struct kvs__saving {
  const kvs_index *index;
  const struct kvs__engine *engine;
  struct kvs__writer body;
  struct kvs__writer starts;
};

/* ---- snapshot_items.c ---- */

/* One kind, and its items. */
void kvs__put_kind(struct kvs__saving *saving, const struct kvs__kind *kind);

#endif
