/* What one engine holds: its engine hashes, their copies, and the blocks they are. */
#include "entries.h"

#include <assert.h>

#include "gone.h"
#include "holders.h"
#include "names.h"
#include "orphans.h"
#include "trust.h"

/* ---- finding ---- */

void kvs__hashes_prefetch(const struct kvs__engine *engine, const struct kvs__event *event, uint32_t kind,
                          size_t from) {
  const struct kvs__keys *held = &engine->kinds[kind]->held[KVS__INTEGERS];
  for (size_t i = from; i < event->hashes_count && i < from + KVS__HASHES_AHEAD; i++)
    if (event->hashes[i].bytes == NULL) kvs__keys_prefetch(held, event->hashes[i].value);
}

int kvs__held_anywhere(const struct kvs__engine *engine, struct kvs__key key) {
  for (uint32_t kind = 0; kind < engine->kinds_count; kind++)
    if (kvs__entry_find(engine, key, kind).bucket != NULL) return 1;
  return 0;
}

static uint32_t tied_in(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind) {
  struct kvs__seat seat = kvs__entry_find(engine, key, kind);
  if (seat.bucket != NULL && kvs__is_tied(kvs__seat_value(seat))) return kvs__seat_value(seat);
  return engine->gone_count == 0 ? KVS__SLOT_NONE : kvs__gone_slot(index, engine, key, kind);
}

uint32_t kvs__tied_anywhere(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind) {
  uint32_t slot = tied_in(index, engine, key, kind);
  for (uint32_t other = 0; slot == KVS__SLOT_NONE && other < engine->kinds_count; other++)
    if (other != kind) slot = tied_in(index, engine, key, other);
  return slot;
}

/* ---- counting ---- */

static struct kvs__medium *medium_of(struct kvs__engine *engine, uint32_t kind) {
  return &engine->media[engine->kinds[kind]->medium];
}

/* One doubtful entry less; without any left nothing untrue is left. */
static void settle(struct kvs__medium *medium) {
  assert(medium->doubtful > 0);
  if (--medium->doubtful == 0 && medium->trust == KVS_TRUST_STALE)
    kvs__medium_set_trust(medium, KVS_TRUST_PARTIAL);
}

static void count_gone(kvs_index *index, struct kvs__engine *engine, uint32_t kind, uint32_t value,
                       int doubtful) {
  struct kvs__medium *medium = medium_of(engine, kind);
  medium->entries--;
  engine->held--;
  index->entries_held--;
  engine->untied -= !kvs__is_tied(value);
  if (doubtful) settle(medium);
}

/* ---- copies ---- */

/* 0 = out of memory, nothing changed. */
static int copies_set(kvs_index *index, struct kvs__kind *kind, struct kvs__key key, struct kvs__seat seat,
                      uint32_t copies) {
  if (copies > 1) {
    if (!kvs__map_set(&kind->copies[key.form], &index->memory, kvs__side_key(kind, key.value), copies))
      return 0;
    seat.bucket->marked |= 1u << seat.at;
  } else if (kvs__seat_marked(seat)) {
    kvs__map_remove(&kind->copies[key.form], &index->memory, kvs__side_key(kind, key.value));
    seat.bucket->marked &= ~(1u << seat.at) & 31;
  }
  return 1;
}

/* ---- entering ---- */

/* What a hash is, held for this kind by now: a slot; KVS__UNTIED; or KVS__SLOT_END for out of memory, as KVS__UNTIED is
 * KVS__SLOT_NONE. */
static uint32_t hold_what(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind,
                          const struct kvs__tie *tie) {
  uint32_t slot;
  if (tie->known) {
    slot = kvs__hold_child(index, engine, kind, tie->parent, tie->block, tie->coming);
    return slot == KVS__SLOT_NONE ? KVS__SLOT_END : slot;
  }
  slot = kvs__tied_anywhere(index, engine, key, kind);
  if (slot == KVS__SLOT_NONE) return KVS__UNTIED;
  return kvs__hold(index, engine, kind, slot) ? slot : KVS__SLOT_END;
}

struct kvs__seat kvs__entry_insert(kvs_index *index, struct kvs__engine *engine, struct kvs__key key,
                                   uint32_t kind, uint32_t value) {
  struct kvs__seat seat = kvs__keys_insert(&engine->kinds[kind]->held[key.form], &index->segments,
                                           &index->memory, key.value, value);
  if (seat.bucket == NULL) return seat;
  kvs__key_hold(engine, key);
  medium_of(engine, kind)->entries++;
  engine->held++;
  index->entries_held++;
  engine->untied += !kvs__is_tied(value);
  return seat;
}

static enum kvs__entered enter_fresh(kvs_index *index, struct kvs__engine *engine, struct kvs__key key,
                                     uint32_t kind, const struct kvs__tie *tie, uint32_t *value) {
  *value = hold_what(index, engine, key, kind, tie);
  if (*value == KVS__SLOT_END) return KVS__ENTERED_FAILED;
  if (kvs__entry_insert(index, engine, key, kind, *value).bucket != NULL) return KVS__ENTERED_NEW;
  if (kvs__is_tied(*value)) {
    index->memory.urgent++;
    if (!kvs__unhold(index, engine, kind, *value) && !kvs__gone_add(index, engine, key, kind, *value, 1))
      kvs__record_doubt(engine, engine->kinds[kind]->medium, KVS_REASON_MEMORY);
    index->memory.urgent--;
  }
  return KVS__ENTERED_FAILED;
}

/* A held item learns which block it is, or that it is another one now. 0 = out of memory. */
static int tie_held(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind,
                    const struct kvs__tie *tie, uint32_t *value) {
  struct kvs__seat seat;
  uint32_t old = *value, fresh;
  if (kvs__is_tied(old)) {
    if (!tie->known) return 1;
    fresh = kvs__runs_find(&index->runs, tie->parent, tie->block);
    if (fresh == old) return 1;
    /* The engine says that its hash is another block: believe the later word. The old one goes first, so that without
     * memory for the new one less is believed, not more. */
    if (!kvs__gone_add(index, engine, key, kind, old, 1)) {
      kvs__record_doubt(engine, engine->kinds[kind]->medium, KVS_REASON_MEMORY);
      return 0;
    }
    engine->counters[KVS_COUNTER_RETIED]++;
    engine->untied++;
    seat = kvs__entry_find(engine, key, kind);
    seat.bucket->values[seat.at] = *value = KVS__UNTIED;
  }
  fresh = hold_what(index, engine, key, kind, tie);
  if (fresh == KVS__SLOT_END) return 0;
  if (fresh == KVS__UNTIED) return 1;
  if (kvs__is_orphan(*value)) kvs__orphan_remove(index, engine, *value - KVS__SLOT_END);
  seat = kvs__entry_find(engine, key, kind);
  seat.bucket->values[seat.at] = *value = fresh;
  engine->untied--;
  return 1;
}

static enum kvs__entered enter_held(kvs_index *index, struct kvs__engine *engine, struct kvs__key key,
                                    uint32_t kind, const struct kvs__tie *tie, int again, uint32_t *value) {
  struct kvs__kind *where = engine->kinds[kind];
  struct kvs__seat seat;
  if (!tie_held(index, engine, key, kind, tie, value)) return KVS__ENTERED_FAILED;
  seat = kvs__entry_find(engine, key, kind);
  if (kvs__seat_doubtful(&where->held[key.form], seat)) {
    (void)copies_set(index, where, key, seat, 1);
    kvs__seat_trust(&where->held[key.form], seat);
    settle(medium_of(engine, kind));
    return again ? KVS__ENTERED_AGAIN : KVS__ENTERED_NEW;
  }
  if (again) return KVS__ENTERED_AGAIN;
  if (!copies_set(index, where, key, seat, kvs__copies_of(where, key, seat) + 1)) return KVS__ENTERED_FAILED;
  return KVS__ENTERED_COPY;
}

enum kvs__entered kvs__enter(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind,
                             const struct kvs__tie *tie, int again, uint32_t *value) {
  struct kvs__seat seat = kvs__entry_find(engine, key, kind);
  enum kvs__entered entered;
  if (seat.bucket == NULL) {
    entered = enter_fresh(index, engine, key, kind, tie, value);
  } else {
    *value = kvs__seat_value(seat);
    entered = enter_held(index, engine, key, kind, tie, again, value);
  }
  if (entered == KVS__ENTERED_FAILED) return entered;
  if (kvs__is_tied(*value)) {
    kvs__join(index, engine, key, *value);
  } else if (tie->orphan && !kvs__is_orphan(*value)) {
    uint32_t orphan = kvs__orphan_add(index, engine, key, kind, tie->waits_for, tie->local);
    if (orphan == 0) {
      engine->counters[KVS_COUNTER_ORPHANS_DROPPED]++;
    } else {
      seat = kvs__entry_find(engine, key, kind);
      seat.bucket->values[seat.at] = *value = KVS__ORPHAN(orphan);
    }
  }
  return entered;
}

/* ---- leaving ---- */

static void remove_item(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind) {
  struct kvs__kind *where = engine->kinds[kind];
  kvs__keys_remove(&where->held[key.form], &index->segments, &index->memory, key.value);
  kvs__key_release(index, engine, key);
}

enum kvs__left kvs__leave(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind) {
  struct kvs__kind *where = engine->kinds[kind];
  struct kvs__seat seat = kvs__entry_find(engine, key, kind);
  uint32_t value, copies;
  int doubtful;
  if (seat.bucket == NULL) return KVS__LEFT_UNKNOWN;
  value = kvs__seat_value(seat);
  if (kvs__is_tied(value)) kvs__prefetch(kvs__run_of(&index->runs, value)); /* for when it is let go */
  copies = kvs__copies_of(where, key, seat);
  doubtful = kvs__seat_doubtful(&where->held[key.form], seat);
  if (copies > 1 && !doubtful)
    return copies_set(index, where, key, seat, copies - 1) ? KVS__LEFT : KVS__LEFT_FAILED;
  if (kvs__is_tied(value) && !kvs__gone_add(index, engine, key, kind, value, 0) &&
      !kvs__unhold(index, engine, kind, value))
    return KVS__LEFT_FAILED;
  (void)copies_set(index, where, key, seat, 1);
  if (kvs__is_orphan(value)) kvs__orphan_remove(index, engine, value - KVS__SLOT_END);
  count_gone(index, engine, kind, value, doubtful);
  remove_item(index, engine, key, kind);
  return KVS__LEFT;
}

/* ---- dropping many ---- */

/* One item of a walk over a table; it is let go of, and only its bit is left to take away. 0 = out of memory. */
static int drop_item(kvs_index *index, struct kvs__engine *engine, uint32_t kind, struct kvs__key key,
                     struct kvs__seat seat) {
  struct kvs__kind *where = engine->kinds[kind];
  uint32_t value = kvs__seat_value(seat);
  int doubtful = kvs__seat_doubtful(&where->held[key.form], seat);
  if (kvs__seat_marked(seat)) (void)copies_set(index, where, key, seat, 1);
  if (kvs__is_tied(value) && !kvs__unhold(index, engine, kind, value)) return 0;
  if (kvs__is_orphan(value)) kvs__orphan_remove(index, engine, value - KVS__SLOT_END);
  count_gone(index, engine, kind, value, doubtful);
  kvs__key_release(index, engine, key);
  return 1;
}

/* So many buckets before an item is let go of, its block's lines are asked for; and twice as many before, where they lie. */
#define DROP_AHEAD 2u

static void drop_prefetch(const kvs_index *index, const struct kvs__segment *segment, uint32_t at) {
  for (uint32_t far = 1; far <= 2; far++) {
    const struct kvs__bucket *bucket;
    if (at + far * DROP_AHEAD >= kvs__segment_buckets(segment)) return;
    bucket = &segment->buckets[at + far * DROP_AHEAD];
    for (unsigned i = 0; i < KVS__BUCKET_ITEMS; i++) {
      if (!(bucket->used >> i & 1) || !kvs__is_tied(bucket->values[i])) continue;
      if (far == 1)
        kvs__slot_prefetch(&index->runs, bucket->values[i]);
      else
        kvs__prefetch(kvs__run_of(&index->runs, bucket->values[i]));
    }
  }
}

/* What a step of tidying costs a reader who waits, in blocks: it moves 288 items at most. */
#define TIDY_BLOCKS 8u

uint64_t kvs__kind_drop(kvs_index *index, struct kvs__engine *engine, uint32_t kind, kvs__goes goes,
                        void *context) {
  uint64_t dropped = 0;
  for (uint8_t form = 0; form < 2; form++) {
    struct kvs__keys *held = &engine->kinds[kind]->held[form];
    for (uint32_t s = 0; s < held->segments_count; s++) {
      for (uint32_t at = 0; at < kvs__segment_buckets(&held->segments[s]) * KVS__BUCKET_ITEMS; at++) {
        /* Letting go of a block can move any segment: look it up anew each time. */
        struct kvs__seat seat = {&held->segments[s].buckets[at / KVS__BUCKET_ITEMS], at % KVS__BUCKET_ITEMS};
        struct kvs__key key = {seat.bucket->keys[seat.at], form};
        if (seat.at == 0 && goes == NULL) drop_prefetch(index, &held->segments[s], at / KVS__BUCKET_ITEMS);
        if (seat.at == 0 && goes != NULL) kvs__breathe(index, 1); /* it may say no for long */
        if (!(seat.bucket->used >> seat.at & 1)) continue;
        if (goes != NULL && !goes(context, index, kvs__seat_value(seat))) continue;
        if (!drop_item(index, engine, kind, key, seat)) continue;
        kvs__keys_remove_at(held, s, at);
        dropped++;
        kvs__breathe(index, 1);
      }
    }
    for (uint32_t step = 0; kvs__keys_tidy(held, &index->segments, &index->memory, step); step++)
      kvs__breathe(index, TIDY_BLOCKS);
  }
  return dropped;
}
