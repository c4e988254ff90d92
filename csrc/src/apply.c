/* One frame: numbers, then events in order, each decoded and hashed outside the readers' lock and applied inside it.
 *
 * The rules, with their reasons, are in docs/design/index.md. */
#include <string.h>

#include "ahead.h"
#include "apply.h"
#include "clock.h"
#include "entries.h"
#include "evict.h"
#include "gone.h"
#include "names.h"
#include "record.h"
#include "store.h"
#include "trust.h"

/* What an event itself costs a reader who waits, in blocks. */
#define EVENT_BLOCKS (KVS_SLICE_BLOCKS / KVS__AHEAD)

static void not_held(struct kvs__engine *engine, int medium) {
  engine->counters[KVS_COUNTER_REMOVED_UNKNOWN]++;
  if (engine->media[medium].trust != KVS_TRUST_EXACT) return;
  engine->complete = 0;
  kvs__record_doubt(engine, medium, KVS_REASON_REMOVED_UNKNOWN);
}

static enum kvs__fault apply_removed(kvs_index *index, struct kvs__engine *engine,
                                     const struct kvs__event *event, kvs_applied *applied) {
  int medium, kind;
  enum kvs__fault fault = KVS__FINE;
  if (event->hashes_count == 0) return KVS__FINE;
  kind = kvs__event_place(index, engine, event, &medium);
  if (kind < 0) return KVS__FAULT_LIMIT;
  index->memory.urgent++;
  for (size_t i = 0; fault == KVS__FINE && i < event->hashes_count; i++) {
    struct kvs__key key;
    enum kvs__left left = KVS__LEFT_UNKNOWN;
    if (i > 0 && i % KVS__HASHES_AHEAD == 0) kvs__hashes_prefetch(engine, event, (uint32_t)kind, i);
    if (kvs__key_find(index, engine, &event->hashes[i], &key))
      left = kvs__leave(index, engine, key, (uint32_t)kind);
    if (left == KVS__LEFT) applied->removed++;
    if (left == KVS__LEFT_UNKNOWN) not_held(engine, medium);
    if (left == KVS__LEFT_FAILED) {
      kvs__record_doubt(engine, medium, KVS_REASON_MEMORY);
      fault = KVS__FAULT_MEMORY;
    }
    kvs__breathe(index, 1);
  }
  index->memory.urgent--;
  return fault;
}

static void apply_cleared(kvs_index *index, struct kvs__engine *engine, kvs_applied *applied) {
  int gpu = kvs__record_gpu(index, engine);
  kvs__gone_flush(index, engine);
  applied->cleared += kvs__record_clear(index, engine, gpu);
  for (int i = 0; i < engine->media_count; i++)
    if (i != gpu) kvs__record_doubt(engine, i, KVS_REASON_CLEARED_ABOVE);
}

static void count_fault(struct kvs__engine *engine, enum kvs__fault fault, kvs_applied *applied) {
  static const enum kvs_counter counters[] = {
      [KVS__FAULT_TYPE] = KVS_COUNTER_SKIPPED_TYPE,           [KVS__FAULT_RANGE] = KVS_COUNTER_SKIPPED_RANGE,
      [KVS__FAULT_HASH] = KVS_COUNTER_SKIPPED_HASH,           [KVS__FAULT_DEPTH] = KVS_COUNTER_SKIPPED_DEPTH,
      [KVS__FAULT_TRUNCATED] = KVS_COUNTER_SKIPPED_TRUNCATED, [KVS__FAULT_LIMIT] = KVS_COUNTER_SKIPPED_LIMIT,
      [KVS__FAULT_BATCH] = KVS_COUNTER_SKIPPED_BATCH,         [KVS__FAULT_MEMORY] = KVS_COUNTER_SKIPPED_MEMORY,
  };
  engine->counters[counters[fault]]++;
  applied->skipped++;
  /* What memory cost has been written down where it happened. */
  if (fault != KVS__FAULT_MEMORY) kvs__record_doubt_all(engine, KVS_REASON_UNDECODABLE);
}

static enum kvs__fault apply_event(kvs_index *index, struct kvs__engine *engine, const struct kvs__event *event,
                                   kvs_applied *applied) {
  engine->counters[KVS_COUNTER_UNKNOWN_FIELD] += event->tag == KVS__TAG_UNKNOWN ? 0 : event->unknown_fields;
  switch (event->tag) {
    case KVS__TAG_STORED: return kvs__store(index, engine, event, applied);
    case KVS__TAG_REMOVED: return apply_removed(index, engine, event, applied);
    case KVS__TAG_CLEARED: apply_cleared(index, engine, applied); break;
    case KVS__TAG_UNKNOWN: engine->counters[KVS_COUNTER_UNKNOWN_TAG]++; break;
  }
  return KVS__FINE;
}

static void apply_decoded(kvs_index *index, struct kvs__engine *engine, const struct kvs__decoded *decoded,
                          kvs_applied *applied) {
  enum kvs__fault fault = decoded->fault;
  if (fault == KVS__FAULT_MEMORY) kvs__record_doubt_all(engine, KVS_REASON_MEMORY);
  if (fault == KVS__FINE) fault = apply_event(index, engine, &decoded->event, applied);
  if (fault != KVS__FINE) count_fault(engine, fault, applied);
  kvs__evict_beyond(index, engine);
  kvs__breathe(index, EVENT_BLOCKS);
}

static void apply_payload(kvs_index *index, struct kvs__engine *engine, const uint8_t *payload, size_t bytes,
                          kvs_applied *applied) {
  struct kvs__batch batch;
  uint64_t trailing = 0;
  enum kvs__fault fault = kvs__batch_open(&batch, payload, bytes);
  int lost = fault != KVS__FINE;
  if (lost) {
    kvs__state_begin(index);
    count_fault(engine, fault, applied);
    kvs__state_end(index);
  }
  while (!lost && batch.events_left > 0) {
    unsigned count = kvs__ahead_take(index, engine, &batch, &lost);
    kvs__state_begin(index);
    for (unsigned i = 0; i < count; i++) apply_decoded(index, engine, &index->ahead[i], applied);
    kvs__state_end(index);
  }
  if (lost) return;
  fault = kvs__batch_close(&batch, &trailing);
  kvs__state_begin(index);
  if (fault != KVS__FINE) count_fault(engine, fault, applied);
  if (trailing > 0) engine->counters[KVS_COUNTER_TRAILING]++;
  kvs__state_end(index);
}

/* 0 = this number was applied before. */
static int take_number(kvs_index *index, struct kvs__engine *engine, int64_t sequence) {
  if (engine->sequence >= 0 && sequence >= 0 && sequence <= engine->sequence) {
    engine->counters[KVS_COUNTER_DUPLICATE]++;
    return 0;
  }
  engine->counters[KVS_COUNTER_FRAMES]++;
  if (engine->media_count == 0) (void)kvs__record_gpu(index, engine);
  engine->heard = 1;
  if (engine->beginning == KVS__EXPECT_ZERO) {
    engine->complete = sequence == 0;
    for (int i = 0; i < engine->media_count; i++) {
      struct kvs__medium *medium = &engine->media[i];
      if (medium->trust == KVS_TRUST_STALE) continue;
      kvs__medium_set_trust(medium, engine->complete ? KVS_TRUST_EXACT : KVS_TRUST_PARTIAL);
      medium->reason = engine->complete ? KVS_REASON_NONE : KVS_REASON_BEGINNING;
    }
  } else if (engine->beginning == KVS__BEGUN && engine->sequence >= 0 && sequence - 1 > engine->sequence) {
    engine->counters[KVS_COUNTER_GAPS]++;
    kvs__record_doubt_all(engine, KVS_REASON_GAP);
  }
  engine->beginning = KVS__BEGUN;
  if (sequence >= 0) engine->sequence = sequence;
  return 1;
}

static void count_applied(struct kvs__engine *engine, const kvs_applied *applied) {
  engine->counters[KVS_COUNTER_STORED] += applied->stored;
  engine->counters[KVS_COUNTER_REMOVED] += applied->removed;
  engine->counters[KVS_COUNTER_CLEARED] += applied->cleared;
  engine->counters[KVS_COUNTER_REANNOUNCED] += applied->reannounced;
}

int kvs__apply_frame(kvs_index *index, uint32_t number, const uint8_t *payload, size_t payload_bytes,
                     int64_t sequence, kvs_applied *applied) {
  struct kvs__engine *engine = kvs__engine_get(index, number);
  int fresh;
  if (engine == NULL) return 0;
  memset(applied, 0, sizeof *applied);
  kvs__state_begin(index);
  fresh = take_number(index, engine, sequence);
  kvs__state_end(index);
  if (fresh) apply_payload(index, engine, payload, payload_bytes, applied);
  if (engine->gone_count > 0) {
    kvs__state_begin(index);
    kvs__gone_flush(index, engine);
    kvs__state_end(index);
  }
  count_applied(engine, applied);
  if (fresh) kvs__lag_note(&engine->lag, kvs__batch_time(payload, payload_bytes), kvs__clock());
  return 1;
}

kvs_status kvs_index_apply_many(kvs_index *index, size_t count, const uint32_t *engines,
                                const uint8_t *const *payloads, const size_t *payload_bytes,
                                const int64_t *sequences, kvs_applied *applied, size_t *done) {
  size_t at = 0;
  pthread_mutex_lock(&index->writing);
  while (at < count &&
         kvs__apply_frame(index, engines[at], payloads[at], payload_bytes[at], sequences[at], &applied[at]))
    at++;
  kvs__ahead_trim(index);
  pthread_mutex_unlock(&index->writing);
  *done = at;
  return at == count ? KVS_OK : KVS_ERR_ENGINE;
}

kvs_status kvs_index_apply(kvs_index *index, uint32_t engine, const uint8_t *payload, size_t payload_bytes,
                           int64_t sequence, kvs_applied *applied) {
  size_t done;
  return kvs_index_apply_many(index, 1, &engine, &payload, &payload_bytes, &sequence, applied, &done);
}
