/* An event batch: its outer form, and one event after the other. */
#include "event.h"
#include "kvsync.h"

#define TRY KVS__TRY

enum kvs__fault kvs__batch_next(struct kvs__batch *batch, struct kvs__scratch *scratch,
                                struct kvs__event *event, int *lost) {
  struct kvs__cursor start = batch->rest;
  enum kvs__fault fault, skipped;
  int deep = 0;
  memset(event, 0, sizeof *event);
  event->window = -1;
  *lost = 0;
  batch->events_left--;
  fault = kvs__read_event(&batch->rest, scratch, event);
  event->hashes = scratch->hashes;
  event->tokens = scratch->tokens;
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
      if (kvs__text_is(&key, "events")) break;
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
