/* Blocks whose predecessor is not known yet: their local hash waits, filed under the predecessor's engine hash.
 *
 * An orphan's entry is held and listed, but tied to no block, so it never matches. */
#include "index.h"

enum { FREE = 0, FILED = 1, JOINING = 2 }; /* kvs__orphan.used */

static uint64_t file_under(const kvs_index *index, uint64_t parent, uint8_t flags) {
  return kvs__entry_place(&index->hasher, parent, 0, flags);
}

static uint32_t take(kvs_index *index, struct kvs__engine *engine) {
  uint32_t number = engine->orphans_free;
  if (number != 0) {
    engine->orphans_free = engine->orphans[number].next;
    return number;
  }
  if (engine->orphans_count == engine->orphans_capacity) {
    uint32_t capacity = engine->orphans_capacity == 0 ? 16 : engine->orphans_capacity * 2;
    struct kvs__orphan *grown = kvs__resize(&index->memory, engine->orphans,
                                            engine->orphans_capacity * sizeof *grown, capacity * sizeof *grown);
    if (grown == NULL) return 0;
    engine->orphans = grown;
    engine->orphans_capacity = capacity;
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
  uint64_t filed = file_under(index, parent.value, parent.flags);
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
  orphan->key_flags = key.flags;
  orphan->kind = (uint8_t)kind;
  orphan->parent = parent.value;
  orphan->parent_flags = parent.flags;
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
  struct kvs__key parent = {orphan->parent, orphan->parent_flags};
  uint64_t filed = file_under(index, orphan->parent, orphan->parent_flags);
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

/* Tie a held, untied entry. 0 = out of memory: it stays untied for good. */
static int tie(kvs_index *index, struct kvs__engine *engine, struct kvs__entry *entry, uint64_t block,
               uint32_t depth) {
  if (!kvs__hold(index, engine, entry->kind, block, depth)) {
    kvs__record_lower(engine, engine->kinds[entry->kind].medium, KVS_REASON_MEMORY);
    return 0;
  }
  entry->flags = (entry->flags & (KVS__ENTRY_USED | KVS__ENTRY_BYTES)) | KVS__ENTRY_TIED;
  entry->block = block;
  entry->depth = depth;
  engine->untied--;
  return 1;
}

/* Tie every other kind's untied entry of this hash to the same block. */
static void tie_kinds(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint64_t block,
                      uint32_t depth) {
  for (uint32_t kind = 0; kind < engine->kinds_count; kind++) {
    struct kvs__entry *entry = kvs__entry_find(index, engine, key, kind);
    if (!kvs__entry_held(entry) || entry->flags & KVS__ENTRY_TIED) continue;
    if (entry->flags & KVS__ENTRY_ORPHAN) {
      /* One that is on its way already is left to whoever takes it from the stack. */
      if (engine->orphans[entry->block].used == FILED)
        kvs__orphan_remove(index, engine, (uint32_t)entry->block);
      entry->flags &= (uint8_t)~KVS__ENTRY_ORPHAN;
    }
    if (tie(index, engine, entry, block, depth)) kvs__breathe(index, 1);
  }
}

/* Move all that wait for this hash onto the stack `todo`, with the block they get. */
static uint32_t follow(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint64_t block,
                       uint32_t depth, uint32_t todo) {
  uint32_t number = kvs__map_get(&engine->orphans_by_parent, file_under(index, key.value, key.flags));
  while (number != 0) {
    struct kvs__orphan *orphan = &engine->orphans[number];
    uint32_t next = orphan->next;
    if (orphan->parent == key.value && orphan->parent_flags == key.flags) {
      unfile(index, engine, number);
      orphan->local = kvs__mix(&index->hasher, block, orphan->local);
      orphan->depth = depth < KVS__DEPTH_MAX ? depth + 1 : depth;
      orphan->used = JOINING;
      orphan->next = todo;
      todo = number;
    }
    number = next;
  }
  return todo;
}

void kvs__join(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind, uint64_t block,
               uint32_t depth) {
  uint32_t todo;
  (void)kind;
  if (engine->untied == 0) return;
  tie_kinds(index, engine, key, block, depth);
  todo = follow(index, engine, key, block, depth, 0);
  while (todo != 0) {
    struct kvs__orphan orphan = engine->orphans[todo];
    struct kvs__key waiting = {orphan.key, orphan.key_flags};
    struct kvs__entry *entry = kvs__entry_find(index, engine, waiting, orphan.kind);
    give(engine, todo);
    todo = orphan.next;
    if (!kvs__entry_held(entry) || entry->flags & KVS__ENTRY_TIED)
      continue; /* tied through another kind meanwhile */
    entry->flags &= (uint8_t)~KVS__ENTRY_ORPHAN;
    if (!tie(index, engine, entry, orphan.local, orphan.depth)) continue;
    engine->counters[KVS_COUNTER_ORPHANS_JOINED]++;
    kvs__breathe(index, 1);
    tie_kinds(index, engine, waiting, orphan.local, orphan.depth);
    todo = follow(index, engine, waiting, orphan.local, orphan.depth, todo);
  }
}

void kvs__orphans_end(kvs_index *index, struct kvs__engine *engine) {
  kvs__free(&index->memory, engine->orphans, engine->orphans_capacity * sizeof *engine->orphans);
  kvs__map_end(&engine->orphans_by_parent, &index->memory);
  engine->orphans = NULL;
  engine->orphans_count = engine->orphans_capacity = engine->orphans_free = engine->orphans_live = 0;
}
