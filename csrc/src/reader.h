/* What loading.c and loading_items.c read with: foreign bytes, into an index that is being filled. */
#ifndef KVS_READER_H
#define KVS_READER_H

#include <string.h>

#include "index.h"

struct kvs_loading {
  kvs_index *index;
  struct kvs__map starts; /* 1 for every block that some section tells without its predecessor */
  struct kvs__memory memory; /* of that, which is gone when all is loaded: beyond the ceiling */
};

/* ---- the reader ---- */

/* Whatever is wrong is noted once; reading goes on with zeros, and every loop ends with its input. */
struct kvs__reader {
  const uint8_t *at;
  const uint8_t *end;
  kvs_status status;
};

static inline void kvs__fail(struct kvs__reader *reader, kvs_status status) {
  if (reader->status == KVS_OK) reader->status = status;
  reader->at = reader->end;
}

static inline const uint8_t *kvs__take_bytes(struct kvs__reader *reader, uint64_t bytes) {
  const uint8_t *at = reader->at;
  if ((uint64_t)(reader->end - reader->at) < bytes) {
    kvs__fail(reader, KVS_ERR_SNAPSHOT);
    return NULL;
  }
  reader->at += bytes;
  return at;
}

static inline uint64_t kvs__number_at(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

/* Beyond `most`: not a snapshot. */
static inline uint64_t kvs__take_number(struct kvs__reader *reader, uint64_t most) {
  const uint8_t *at = kvs__take_bytes(reader, sizeof(uint64_t));
  uint64_t value = at == NULL ? 0 : kvs__number_at(at);
  if (value <= most) return value;
  kvs__fail(reader, KVS_ERR_SNAPSHOT);
  return 0;
}

static inline void kvs__expect(struct kvs__reader *reader, int holds) {
  if (!holds) kvs__fail(reader, KVS_ERR_SNAPSHOT);
}

static inline void kvs__need(struct kvs__reader *reader, int had_memory) {
  if (!had_memory) kvs__fail(reader, KVS_ERR_MEMORY);
}

static inline const char *kvs__take_text(struct kvs__reader *reader, size_t *bytes, uint64_t most) {
  *bytes = (size_t)kvs__take_number(reader, most);
  return (const char *)kvs__take_bytes(reader, *bytes);
}

/* ---- loading_items.c ---- */

/* One kind, and its items. */
void kvs__read_kind(struct kvs__reader *reader, struct kvs_loading *loading, struct kvs__reader *starts,
                    struct kvs__engine *engine);

#endif
