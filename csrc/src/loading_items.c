/* The items of a section, read back: which block each is, and that the engine holds it. */
#include "entries.h"
#include "holders.h"
#include "reader.h"
#include "record.h"
#include "snapshot.h"

struct columns {
  const uint8_t *hows;
  const uint8_t *keys;
  struct kvs__reader *starts;
  uint32_t slot; /* of the item before */
};

/* The slot of a block, found or made; KVS__SLOT_NONE = out of memory. */
static uint32_t block_of(struct kvs_loading *loading, uint32_t parent, uint64_t block, uint32_t depth,
                         uint32_t coming) {
  kvs_index *index = loading->index;
  uint32_t slot = kvs__runs_make(&index->runs, &index->segments, &index->memory, parent, block, depth, coming);
  if (slot == KVS__SLOT_NONE || kvs__slot_set(&index->runs, slot) != 0) return slot;
  if (kvs__map_get(&loading->starts, block) == 0) return slot;
  return kvs__runs_head(&index->runs, &index->segments, &index->memory, slot) ? slot : KVS__SLOT_NONE;
}

/* This item and those that follow it, each the child of the one before. */
static uint32_t coming(const uint8_t *how, const uint8_t *end) {
  uint32_t count = 1;
  while (++how < end && (*how & KVS__HOW_BITS) == KVS__HOW_NEXT && count < KVS__RUN_BLOCKS) count++;
  return count;
}

/* The slot that the item at `at` is tied to, or KVS__UNTIED. */
static uint32_t slot_of(struct kvs__reader *reader, struct kvs_loading *loading, struct columns *columns,
                        const uint8_t *at) {
  enum kvs__how how = (enum kvs__how)(*at & KVS__HOW_BITS);
  uint64_t block, depth;
  if (how == KVS__HOW_UNTIED) return KVS__UNTIED;
  if (how == KVS__HOW_START) {
    block = kvs__take_number(columns->starts, UINT64_MAX);
    depth = kvs__take_number(columns->starts, UINT32_MAX);
    kvs__expect(reader, columns->starts->status == KVS_OK && kvs__map_get(&loading->starts, block) != 0);
    if (reader->status != KVS_OK) return KVS__UNTIED;
    columns->slot = block_of(loading, KVS__SLOT_NONE, block, (uint32_t)depth, coming(at, columns->keys));
  } else {
    kvs__expect(reader, columns->slot != KVS__SLOT_NONE);
    block = how == KVS__HOW_NEXT ? kvs__take_number(reader, UINT64_MAX) : 0;
    if (reader->status != KVS_OK) return KVS__UNTIED;
    if (how == KVS__HOW_NEXT)
      columns->slot =
          block_of(loading, columns->slot, block, kvs__slot_depth(&loading->index->runs, columns->slot) + 1, 1);
  }
  kvs__need(reader, columns->slot != KVS__SLOT_NONE);
  return columns->slot;
}

static void read_item(struct kvs__reader *reader, struct kvs_loading *loading, struct kvs__engine *engine,
                      uint32_t kind, struct kvs__key key, uint8_t how, uint32_t slot) {
  kvs_index *index = loading->index;
  struct kvs__seat seat;
  kvs__expect(reader, key.form == KVS__INTEGERS || (key.value > 0 && key.value < engine->names_count &&
                                                    engine->names[key.value] != NULL));
  kvs__expect(reader, reader->status != KVS_OK || kvs__entry_find(engine, key, kind).bucket == NULL);
  if (reader->status != KVS_OK) return;
  if (slot != KVS__UNTIED && !kvs__hold(index, engine, kind, slot)) {
    kvs__fail(reader, KVS_ERR_MEMORY);
    return;
  }
  seat = kvs__entry_insert(index, engine, key, kind, slot);
  if (seat.bucket == NULL) {
    kvs__fail(reader, KVS_ERR_MEMORY);
    return;
  }
  if (how & KVS__HOW_DOUBTFUL) seat.bucket->doubtful |= 1u << seat.at;
  if (how & KVS__HOW_COPIES) seat.bucket->marked |= 1u << seat.at;
  engine->media[engine->kinds[kind]->medium].doubtful += how & KVS__HOW_DOUBTFUL ? 1 : 0;
}

static void read_copies(struct kvs__reader *reader, kvs_index *index, struct kvs__kind *kind, uint8_t form,
                        const struct columns *columns, uint64_t count) {
  for (uint64_t i = 0; i < count && reader->status == KVS_OK; i++) {
    uint64_t side_key = kvs__side_key(kind, kvs__number_at(columns->keys + i * 8));
    uint32_t copies;
    if (!(columns->hows[i] & KVS__HOW_COPIES)) continue;
    copies = (uint32_t)kvs__take_number(reader, INT32_MAX);
    kvs__expect(reader, copies > 1);
    if (reader->status == KVS_OK)
      kvs__need(reader, kvs__map_set(&kind->copies[form], &index->memory, side_key, copies));
  }
}

static void read_items(struct kvs__reader *reader, struct kvs_loading *loading, struct kvs__reader *starts,
                       struct kvs__engine *engine, uint32_t kind, uint8_t form) {
  uint64_t count = kvs__take_number(reader, (uint64_t)(reader->end - reader->at));
  struct columns columns = {kvs__take_bytes(reader, count), NULL, starts, KVS__SLOT_NONE};
  columns.keys = kvs__take_bytes(reader, count * sizeof(uint64_t));
  for (uint64_t i = 0; i < count && reader->status == KVS_OK; i++) {
    uint8_t how = columns.hows[i];
    struct kvs__key key = {kvs__number_at(columns.keys + i * sizeof(uint64_t)), form};
    uint32_t slot;
    kvs__expect(reader, (how & ~KVS__HOW_ALL) == 0);
    slot = slot_of(reader, loading, &columns, columns.hows + i);
    if (reader->status == KVS_OK) read_item(reader, loading, engine, kind, key, how, slot);
  }
  read_copies(reader, loading->index, engine->kinds[kind], form, &columns, count);
}

void kvs__read_kind(struct kvs__reader *reader, struct kvs_loading *loading, struct kvs__reader *starts,
                    struct kvs__engine *engine) {
  uint64_t medium = kvs__take_number(reader, KVS_MEDIA_MAX - 1),
           group = kvs__take_number(reader, KVS_KINDS_MAX - 1);
  int kind;
  kvs__expect(reader, medium < engine->media_count && group < engine->groups_count);
  if (reader->status != KVS_OK) return;
  kind = kvs__record_kind(loading->index, engine, (int)medium, engine->groups[group].number, 1);
  if (kind < 0) {
    kvs__fail(reader, KVS_ERR_MEMORY);
    return;
  }
  kvs__expect(reader, kind + 1 == engine->kinds_count); /* each comes once */
  for (uint8_t form = 0; form < 2 && reader->status == KVS_OK; form++)
    read_items(reader, loading, starts, engine, (uint32_t)kind, form);
}
