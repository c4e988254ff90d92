/* Removals of the frame under way: blocks that are let go of when it ends. */
#include "gone.h"

#include "holders.h"
#include "names.h"
#include "trust.h"

/* Most frames ask for nothing that they removed, so the maps are made when one does: one for each kind, because any mix of
 * kind and hash into one key could be met by hashes that an engine chose. */
uint32_t kvs__gone_slot(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind) {
  uint32_t found;
  for (; engine->gone_mapped < engine->gone_count; engine->gone_mapped++) {
    const struct kvs__gone *gone = &engine->gone[engine->gone_mapped];
    struct kvs__kind *where = engine->kinds[gone->kind];
    uint64_t side_key = kvs__side_key(where, gone->key);
    if (gone->hidden) continue;
    if (!kvs__map_set(&where->gone[gone->form], &index->memory, side_key, engine->gone_mapped + 1)) break;
    kvs__breathe(index, 1);
  }
  found = kvs__map_get(&engine->kinds[kind]->gone[key.form], kvs__side_key(engine->kinds[kind], key.value));
  return found == 0 ? KVS__SLOT_NONE : engine->gone[found - 1].slot;
}

int kvs__gone_add(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind,
                  uint32_t slot, int hidden) {
  struct kvs__gone *gone;
  if (engine->gone_count == engine->gone_capacity) {
    struct kvs__gone *grown =
        kvs__list_grow(&index->memory, engine->gone, &engine->gone_capacity, 64, sizeof *grown);
    if (grown == NULL) return 0;
    engine->gone = grown;
  }
  gone = &engine->gone[engine->gone_count++];
  gone->key = key.value;
  gone->form = key.form;
  gone->kind = (uint8_t)kind;
  gone->slot = slot;
  gone->hidden = (uint8_t)hidden;
  kvs__key_hold(engine, key);
  return 1;
}

/* So many removals before one is let go of, the lines of its block are asked for. */
#define FLUSH_AHEAD 8u

void kvs__gone_flush(kvs_index *index, struct kvs__engine *engine) {
  uint32_t kept = 0;
  index->memory.urgent++;
  for (uint32_t i = 0; i < engine->gone_count; i++) {
    struct kvs__gone gone = engine->gone[i];
    struct kvs__key key = {gone.key, gone.form};
    if (i + FLUSH_AHEAD < engine->gone_count)
      kvs__slot_prefetch(&index->runs, engine->gone[i + FLUSH_AHEAD].slot);
    if (!kvs__unhold(index, engine, gone.kind, gone.slot)) {
      /* Tried again with the next frame; until then the record says that it holds too much. */
      engine->gone[kept++] = gone;
      kvs__record_doubt(engine, engine->kinds[gone.kind]->medium, KVS_REASON_MEMORY);
      continue;
    }
    kvs__key_release(index, engine, key);
    kvs__breathe(index, 1);
  }
  index->memory.urgent--;
  engine->gone_count = kept;
  if (engine->gone_mapped > 0)
    for (uint32_t kind = 0; kind < engine->kinds_count; kind++)
      for (int form = 0; form < 2; form++) kvs__map_end(&engine->kinds[kind]->gone[form], &index->memory);
  engine->gone_mapped = 0;
  if (kept == 0 && engine->gone_capacity > 0) {
    kvs__free(&index->memory, engine->gone, engine->gone_capacity * sizeof *engine->gone);
    engine->gone = NULL;
    engine->gone_capacity = 0;
  }
}
