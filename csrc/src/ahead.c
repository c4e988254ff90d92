/* Decoding ahead: how far, and what is asked for. */
#include "ahead.h"

#include "entries.h"
#include "record.h"
#include "store.h"

/* No further event is taken after so many blocks: these keep the memory busy for as long as it takes to decode them. */
#define BLOCKS_AHEAD 16u

/* Kept of what the first event needed, and of what each of the others did. */
#define HASHES_KEPT (1u << 14)
#define TOKENS_KEPT (1u << 18)
#define OTHERS_HASHES_KEPT 64u
#define OTHERS_TOKENS_KEPT 2048u

/* Where an event will look first, if its kind is known. */
static void prefetch(kvs_index *index, struct kvs__engine *engine, const struct kvs__event *event) {
  int medium = kvs__record_medium(index, engine, event->medium.at, event->medium.bytes, 0);
  int kind = medium < 0 ? -1 : kvs__record_kind(index, engine, medium, event->group, 0);
  if (kind < 0) return;
  kvs__hashes_prefetch(engine, event, (uint32_t)kind, 0);
  if (event->has_parent && event->parent.bytes == NULL)
    kvs__keys_prefetch(&engine->kinds[kind]->held[KVS__INTEGERS], event->parent.value);
}

unsigned kvs__ahead_take(kvs_index *index, struct kvs__engine *engine, struct kvs__batch *batch, int *lost) {
  unsigned count = 0;
  size_t blocks = 0;
  for (; !*lost && batch->events_left > 0 && count < KVS__AHEAD && blocks < BLOCKS_AHEAD; count++) {
    struct kvs__decoded *decoded = &index->ahead[count];
    decoded->fault = kvs__batch_next(batch, &decoded->scratch, &decoded->event, lost);
    if (decoded->fault != KVS__FINE) continue;
    decoded->fault = kvs__store_prepare(&index->hasher, &decoded->event, &decoded->scratch);
    prefetch(index, engine, &decoded->event);
    blocks += decoded->event.hashes_count;
  }
  return count;
}

void kvs__ahead_trim(kvs_index *index) {
  kvs__scratch_trim(&index->ahead[0].scratch, HASHES_KEPT, TOKENS_KEPT);
  for (unsigned i = 1; i < KVS__AHEAD; i++)
    kvs__scratch_trim(&index->ahead[i].scratch, OTHERS_HASHES_KEPT, OTHERS_TOKENS_KEPT);
}
