/* Who holds a block: the one place where records meet.
 *
 * One (engine, kind) may hold a block under several engine hashes, as where an engine's events do not
 * show the salt that told them apart. The set knows it once; `aliases` counts the others, so that
 * removing one hash does not free the block under another. */
#include "index.h"

static struct kvs__block *find(const kvs_index *index, uint64_t hash) {
  struct kvs__block *block = kvs__blocks_first(&index->blocks, hash);
  while (block != NULL && block->hash != hash) block = kvs__blocks_next(&index->blocks, hash, block);
  return block;
}

static uint64_t alias_key(uint64_t block, uint32_t kind) {
  return block ^ (kind + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

int kvs__hold(kvs_index *index, struct kvs__engine *engine, uint32_t kind, uint64_t hash, uint32_t depth) {
  uint32_t holder = KVS__HOLDER(engine->number, kind);
  struct kvs__block *block = find(index, hash);
  uint32_t set;
  if (block != NULL && kvs__sets_has(&index->sets, block->set, holder)) {
    uint64_t key = alias_key(hash, kind);
    return kvs__map_set(&engine->aliases, &index->memory, key, kvs__map_get(&engine->aliases, key) + 1);
  }
  if (!kvs__sets_with(&index->sets, &index->memory, block == NULL ? 0 : block->set, holder, &set)) return 0;
  if (block == NULL) {
    block = kvs__blocks_insert(&index->blocks, &index->memory, hash);
    if (block == NULL) {
      kvs__sets_release(&index->sets, &index->memory, set);
      return 0;
    }
    block->hash = hash;
    block->depth = depth;
  } else {
    kvs__sets_release(&index->sets, &index->memory, block->set);
  }
  block->set = set;
  return 1;
}

int kvs__unhold(kvs_index *index, struct kvs__engine *engine, uint32_t kind, uint64_t hash) {
  uint64_t key = alias_key(hash, kind);
  uint32_t others = kvs__map_get(&engine->aliases, key);
  struct kvs__block *block;
  uint32_t old, set;
  if (others > 1) return kvs__map_set(&engine->aliases, &index->memory, key, others - 1);
  if (others == 1) {
    kvs__map_remove(&engine->aliases, &index->memory, key);
    return 1;
  }
  block = find(index, hash);
  assert(block != NULL);
  old = block->set;
  if (!kvs__sets_without(&index->sets, &index->memory, old, KVS__HOLDER(engine->number, kind), &set)) return 0;
  if (set == 0)
    kvs__blocks_remove(&index->blocks, &index->memory, block);
  else
    block->set = set;
  kvs__sets_release(&index->sets, &index->memory, old);
  return 1;
}
