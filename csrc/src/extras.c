/* What else than tokens a block depends on, as events tell it: LoRA, images, salts, embeddings. */
#include <string.h>

#include "decode.h"
#include "hash.h"

static uint64_t extra_item(const struct kvs__hasher *hasher, uint64_t extras, struct kvs__cursor *cursor,
                           const struct kvs__event *event, int first) {
  const uint8_t *start = cursor->at;
  struct kvs__head head, name, offset;
  int deep = 0;
  (void)kvs__read_head(cursor, &head);
  if (head.kind == KVS__TEXT) {
    /* vLLM has the adapter's name before the other keys; it is in the root already. */
    if (first && event->lora_name.at != NULL && head.bytes == event->lora_name.bytes &&
        memcmp(head.at, event->lora_name.at, head.bytes) == 0)
      return extras;
    return kvs__extras_add(hasher, extras, KVS__EXTRA_TEXT, head.at, head.bytes);
  }
  if (head.kind == KVS__BYTES) return kvs__extras_add(hasher, extras, KVS__EXTRA_BYTES, head.at, head.bytes);
  if (head.kind == KVS__ARRAY && head.number == 2) {
    struct kvs__cursor inside = *cursor;
    (void)kvs__read_head(&inside, &name);
    if (name.kind == KVS__TEXT || name.kind == KVS__BYTES) {
      (void)kvs__read_head(&inside, &offset);
      if (offset.kind == KVS__INTEGER) {
        *cursor = inside;
        return kvs__extras_add_at(hasher, extras, name.kind == KVS__TEXT ? KVS__EXTRA_TEXT : KVS__EXTRA_BYTES,
                                  name.at, name.bytes, (int64_t)offset.number);
      }
    }
  }
  /* Something newer than this code: it counts as itself, and equals nothing that can be asked for. */
  cursor->at = start;
  (void)kvs__skip(cursor, 1, &deep);
  return kvs__extras_add(hasher, extras, KVS__EXTRA_RAW, start, (size_t)(cursor->at - start));
}

uint64_t kvs__extras_next(const struct kvs__hasher *hasher, const struct kvs__event *event,
                          struct kvs__cursor *cursor) {
  uint64_t extras = KVS__NO_EXTRAS;
  struct kvs__head entry;
  (void)kvs__read_head(cursor, &entry); /* validated when the event was read */
  if (entry.kind == KVS__NIL) return extras;
  for (uint64_t i = 0; i < entry.number; i++) extras = extra_item(hasher, extras, cursor, event, i == 0);
  return extras;
}
