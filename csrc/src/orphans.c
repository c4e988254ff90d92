/* Blocks whose predecessor is not known yet: their local hash waits, filed under the predecessor's engine hash.
 *
 * An orphan's entry is held and listed, but tied to no block, so it never matches. */
#include "orphans.h"

#include <assert.h>
#include <string.h>

#include "holders.h"
#include "names.h"
#include "trust.h"

enum { FREE = 0, FILED = 1, JOINING = 2 }; /* kvs__orphan.used */

/* Two that meet share a file; whoever looks compares in full. Mixed with our seed, so that no engine can make many meet. */
static uint64_t file_under(const kvs_index *index, struct kvs__key parent) {
  return kvs__mix(&index->hasher, parent.value, parent.form);
}

static uint32_t take(kvs_index *index, struct kvs__engine *engine) {
  uint32_t number = engine->orphans_free;
  if (number != 0) {
    engine->orphans_free = engine->orphans[number].next;
    return number;
  }
  if (engine->orphans_count == engine->orphans_capacity) {
    struct kvs__orphan *grown =
        kvs__list_grow(&index->memory, engine->orphans, &engine->orphans_capacity, 16, sizeof *grown);
    if (grown == NULL) return 0;
    engine->orphans = grown;
    if (engine->orphans_count == 0) engine->orphans_count = 1;
  }
  return engine->orphans_count++;
}

static void give(struct kvs__engine *engine, uint32_t number) {
  memset(&engine->orphans[number], 0, sizeof engine->orphans[number]);
  engine->orphans[number].next = engine->orphans_free;
  engine->orphans_free = number;
}

uint32_t kvs__orphan_add(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind,
                         struct kvs__key parent, uint64_t local) {
  uint64_t filed = file_under(index, parent);
  uint32_t head = kvs__map_get(&engine->orphans_by_parent, filed);
  uint32_t number;
  struct kvs__orphan *orphan;
  if (engine->orphans_live == KVS_ORPHANS_MAX) return 0;
  number = take(index, engine);
  if (number == 0) return 0;
  if (!kvs__map_set(&engine->orphans_by_parent, &index->memory, filed, number)) {
    give(engine, number);
    return 0;
  }
  orphan = &engine->orphans[number];
  memset(orphan, 0, sizeof *orphan);
  orphan->key = key.value;
  orphan->key_form = key.form;
  orphan->kind = (uint8_t)kind;
  orphan->parent = parent.value;
  orphan->parent_form = parent.form;
  orphan->local = local;
  orphan->used = FILED;
  orphan->next = head;
  if (head != 0) engine->orphans[head].previous = number;
  kvs__key_hold(engine, parent);
  engine->orphans_live++;
  return number;
}

/* Take it out of its file, but keep its slot. */
static void unfile(kvs_index *index, struct kvs__engine *engine, uint32_t number) {
  struct kvs__orphan *orphan = &engine->orphans[number];
  struct kvs__key parent = {orphan->parent, orphan->parent_form};
  uint64_t filed = file_under(index, parent);
  if (orphan->next != 0) engine->orphans[orphan->next].previous = orphan->previous;
  if (orphan->previous != 0)
    engine->orphans[orphan->previous].next = orphan->next;
  else if (orphan->next != 0)
    (void)kvs__map_set(&engine->orphans_by_parent, &index->memory, filed, orphan->next);
  else
    kvs__map_remove(&engine->orphans_by_parent, &index->memory, filed);
  engine->orphans_live--;
  kvs__key_release(index, engine, parent);
}

void kvs__orphan_remove(kvs_index *index, struct kvs__engine *engine, uint32_t number) {
  assert(engine->orphans[number].used == FILED);
  unfile(index, engine, number);
  give(engine, number);
}

/* Tie a held, untied item to a block that is held for it by now. */
static void tied(struct kvs__engine *engine, struct kvs__key key, uint32_t kind, uint32_t slot) {
  struct kvs__seat seat = kvs__entry_find(engine, key, kind);
  seat.bucket->values[seat.at] = slot;
  engine->untied--;
}

/* No memory: it stays untied for good. */
static void stays(struct kvs__engine *engine, struct kvs__key key, uint32_t kind) {
  struct kvs__seat seat = kvs__entry_find(engine, key, kind);
  seat.bucket->values[seat.at] = KVS__UNTIED;
  kvs__record_lower(engine, engine->kinds[kind]->medium, KVS_REASON_MEMORY);
}

/* Tie every other kind's untied item of this hash to the same block. */
static void tie_kinds(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t slot) {
  for (uint32_t kind = 0; kind < engine->kinds_count; kind++) {
    struct kvs__seat seat = kvs__entry_find(engine, key, kind);
    uint32_t value;
    if (seat.bucket == NULL) continue;
    value = kvs__seat_value(seat);
    if (kvs__is_tied(value)) continue;
    /* One that is on its way already is left to whoever takes it from the stack. */
    if (kvs__is_orphan(value) && engine->orphans[value - KVS__SLOT_END].used == FILED)
      kvs__orphan_remove(index, engine, value - KVS__SLOT_END);
    if (kvs__hold(index, engine, kind, slot))
      tied(engine, key, kind, slot);
    else
      stays(engine, key, kind);
    kvs__breathe(index, 1);
  }
}

/* Move all that wait for this hash onto the stack `todo`, with the block they follow. */
static uint32_t follow(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t slot,
                       uint32_t todo) {
  uint32_t number = kvs__map_get(&engine->orphans_by_parent, file_under(index, key));
  while (number != 0) {
    struct kvs__orphan *orphan = &engine->orphans[number];
    uint32_t next = orphan->next;
    if (orphan->parent == key.value && orphan->parent_form == key.form) {
      unfile(index, engine, number);
      orphan->slot = slot;
      orphan->used = JOINING;
      orphan->next = todo;
      todo = number;
    }
    kvs__breathe(index, 1);
    number = next;
  }
  return todo;
}

void kvs__join(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t slot) {
  uint32_t todo;
  if (engine->untied == 0) return;
  tie_kinds(index, engine, key, slot);
  todo = follow(index, engine, key, slot, 0);
  while (todo != 0) {
    struct kvs__orphan orphan = engine->orphans[todo];
    struct kvs__key waiting = {orphan.key, orphan.key_form};
    struct kvs__seat seat = kvs__entry_find(engine, waiting, orphan.kind);
    uint32_t mine = todo, child;
    todo = orphan.next;
    give(engine, mine);
    /* It may have been tied through another kind meanwhile. */
    if (seat.bucket == NULL || kvs__seat_value(seat) != KVS__ORPHAN(mine)) continue;
    child =
        kvs__hold_child(index, engine, orphan.kind, orphan.slot,
                        kvs__mix(&index->hasher, kvs__slot_hash(&index->runs, orphan.slot), orphan.local), 1);
    if (child == KVS__SLOT_NONE) {
      stays(engine, waiting, orphan.kind);
      continue;
    }
    tied(engine, waiting, orphan.kind, child);
    engine->counters[KVS_COUNTER_ORPHANS_JOINED]++;
    kvs__breathe(index, 1);
    tie_kinds(index, engine, waiting, child);
    todo = follow(index, engine, waiting, child, todo);
  }
}

void kvs__orphans_end(kvs_index *index, struct kvs__engine *engine) {
  kvs__free(&index->memory, engine->orphans, engine->orphans_capacity * sizeof *engine->orphans);
  kvs__map_end(&engine->orphans_by_parent, &index->memory);
  engine->orphans = NULL;
  engine->orphans_count = engine->orphans_capacity = engine->orphans_free = engine->orphans_live = 0;
}
