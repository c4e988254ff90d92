/* Who holds a block: the one place where engines' records meet.
 *
 * One (engine, kind) may hold a block under several engine hashes, as where an engine's events do not
 * show the salt that told them apart. The set knows it once; `aliases` counts the others, so that
 * removing one hash does not free the block under another. */
#include "holders.h"

int kvs__hold(kvs_index *index, struct kvs__engine *engine, uint32_t kind, uint32_t slot) {
  struct kvs__map *aliases = &engine->kinds[kind]->aliases;
  uint32_t holder = KVS__HOLDER(engine->number, kind), old = kvs__slot_set(&index->runs, slot), set;
  if (kvs__sets_has(&index->sets, old, holder))
    return kvs__map_set(aliases, &index->memory, slot, kvs__map_get(aliases, slot) + 1);
  if (!kvs__sets_with(&index->sets, &index->memory, old, holder, &set)) return 0;
  kvs__slot_put(&index->runs, slot, set);
  kvs__sets_release(&index->sets, &index->memory, old);
  return 1;
}

int kvs__unhold(kvs_index *index, struct kvs__engine *engine, uint32_t kind, uint32_t slot) {
  struct kvs__map *aliases = &engine->kinds[kind]->aliases;
  uint32_t others = kvs__map_get(aliases, slot), old, set;
  if (others > 1) return kvs__map_set(aliases, &index->memory, slot, others - 1);
  if (others == 1) {
    kvs__map_remove(aliases, &index->memory, slot);
    return 1;
  }
  old = kvs__slot_set(&index->runs, slot);
  if (!kvs__sets_without(&index->sets, &index->memory, old, KVS__HOLDER(engine->number, kind), &set)) return 0;
  if (set == 0 && !kvs__slot_remove(&index->runs, &index->segments, &index->memory, slot)) return 0;
  if (set != 0) kvs__slot_put(&index->runs, slot, set);
  kvs__sets_release(&index->sets, &index->memory, old);
  return 1;
}

uint32_t kvs__hold_child(kvs_index *index, struct kvs__engine *engine, uint32_t kind, uint32_t parent,
                         uint64_t block, uint32_t coming) {
  uint32_t depth = parent == KVS__SLOT_NONE ? 0 : kvs__slot_depth(&index->runs, parent) + 1;
  uint32_t slot = kvs__runs_make(&index->runs, &index->segments, &index->memory, parent, block, depth, coming);
  if (slot == KVS__SLOT_NONE) return slot;
  if (kvs__hold(index, engine, kind, slot)) return slot;
  /* Nothing lies behind a block that was only just entered, so taking it out needs no memory. */
  if (kvs__slot_set(&index->runs, slot) == 0)
    (void)kvs__slot_remove(&index->runs, &index->segments, &index->memory, slot);
  return KVS__SLOT_NONE;
}
