/* One engine's record as bytes: a section of a snapshot. loading.c reads it.
 *
 *   mark, version, where the starts are
 *   facts    of the life, media, groups, byte hashes
 *   kinds    each with its items, in columns: a byte that says how, then keys, blocks, copies
 *   orphans
 *   mark
 *   starts   block hash and depth of every block that is told without its predecessor
 *
 * A section is the engine's alone: blocks that others hold too are told again, so that each engine is saved at a moment
 * of its own and a writer waits for one record at a time, never for the whole index (docs/design/snapshot.md).
 *
 * Items come in the order of their slots, so most follow the one before in its run, and need no more than their hash:
 *
 *   START   begins anew: the next of `starts` is its block
 *   NEXT    the child of the block before it
 *   SAME    a further engine hash of the block before it
 *   UNTIED  no block is known
 *
 * Holder sets, heads and counts are not written: they follow from the items. Byte order is the host's; the mark does not
 * read the same in the other. Whoever keeps the bytes adds a checksum, and the seed. */
#include "snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "stats.h"

struct writer {
  uint8_t *bytes;
  size_t count;
  size_t capacity;
  int failed;
};

/* Room for so many bytes more; NULL = out of memory, now or before. */
static uint8_t *room(struct writer *writer, size_t bytes) {
  uint8_t *at;
  if (writer->count + bytes > writer->capacity && !writer->failed) {
    size_t capacity = (writer->count + bytes) * 2;
    uint8_t *grown = realloc(writer->bytes, capacity);
    writer->failed = grown == NULL;
    if (grown != NULL) {
      writer->bytes = grown;
      writer->capacity = capacity;
    }
  }
  if (writer->failed) return NULL;
  at = writer->bytes + writer->count;
  writer->count += bytes;
  return at;
}

static void put(struct writer *writer, const void *data, size_t bytes) {
  uint8_t *at = room(writer, bytes);
  if (at != NULL && bytes > 0) memcpy(at, data, bytes);
}

static void put_number(struct writer *writer, uint64_t number) { put(writer, &number, sizeof number); }

static void put_text(struct writer *writer, const void *text, size_t bytes) {
  put_number(writer, bytes);
  put(writer, text, bytes);
}

/* ---- items ---- */

/* What is written, and what it is made of. `starts` grows over all kinds. */
struct saving {
  const kvs_index *index;
  const struct kvs__engine *engine;
  struct writer body;
  struct writer starts;
};

struct item {
  uint64_t key;
  uint32_t slot; /* or KVS__UNTIED */
  uint32_t copies : 31;
  uint32_t doubtful : 1;
};

static uint64_t gather(const struct kvs__kind *kind, int form, struct item *items) {
  const struct kvs__keys *held = &kind->held[form];
  uint64_t count = 0;
  for (uint32_t s = 0; s < held->segments_count; s++)
    for (uint32_t b = 0; b < kvs__segment_buckets(&held->segments[s]); b++)
      for (unsigned i = 0; i < KVS__BUCKET_ITEMS; i++) {
        struct kvs__seat seat = {&held->segments[s].buckets[b], i};
        struct item *item = &items[count];
        if (!(seat.bucket->used >> i & 1)) continue;
        count++;
        item->key = seat.bucket->keys[i];
        item->slot = kvs__is_tied(seat.bucket->values[i]) ? seat.bucket->values[i] : KVS__UNTIED;
        item->copies = 1;
        if (seat.bucket->marked >> i & 1)
          item->copies = kvs__map_get(&kind->copies[form], kvs__side_key(kind, item->key)) & INT32_MAX;
        item->doubtful = (uint32_t)kvs__seat_doubtful(held, seat) & 1;
      }
  return count;
}

#define DIGIT_BITS 11u
#define DIGITS 3u
#define DIGIT_VALUES (1u << DIGIT_BITS)

_Static_assert(DIGIT_BITS *DIGITS >= 32, "all of a slot is sorted by");

/* By slot, from the lowest digit up: runs lie in memory in about this order, so what follows misses few lines. The
 * sorted items are in the array that is returned, which is one of the two. */
static struct item *sort(struct item *items, struct item *spare, uint64_t count) {
  for (unsigned digit = 0; digit < DIGITS; digit++) {
    uint64_t starts[DIGIT_VALUES] = {0}, sum = 0;
    struct item *sorted = spare;
    for (uint64_t i = 0; i < count; i++) starts[items[i].slot >> digit * DIGIT_BITS & (DIGIT_VALUES - 1)]++;
    for (unsigned value = 0; value < DIGIT_VALUES; value++) {
      uint64_t many = starts[value];
      starts[value] = sum;
      sum += many;
    }
    for (uint64_t i = 0; i < count; i++)
      sorted[starts[items[i].slot >> digit * DIGIT_BITS & (DIGIT_VALUES - 1)]++] = items[i];
    spare = items;
    items = sorted;
  }
  return items;
}

static uint8_t how_of(const kvs_index *index, const struct item *item, const struct item *before) {
  uint32_t slot = item->slot;
  if (slot == KVS__UNTIED) return KVS__HOW_UNTIED;
  if (before == NULL) return KVS__HOW_START;
  if (before->slot == slot) return KVS__HOW_SAME;
  /* A head may lie behind a block that is not its parent. */
  if (before->slot + 1 == slot && (slot & 63) != 0 &&
      !(kvs__run_of(&index->runs, slot)->headed >> (slot & 63) & 1))
    return KVS__HOW_NEXT;
  return KVS__HOW_START;
}

/* The columns of items in order. */
static void put_items(struct saving *saving, const struct item *items, uint64_t count) {
  struct writer *body = &saving->body;
  size_t hows_at = body->count;
  (void)room(body, count);
  for (uint64_t i = 0; i < count; i++) put_number(body, items[i].key);
  for (uint64_t i = 0; i < count && !body->failed; i++) {
    uint8_t how = how_of(saving->index, &items[i], i == 0 ? NULL : &items[i - 1]);
    if (how == KVS__HOW_NEXT) put_number(body, kvs__slot_hash(&saving->index->runs, items[i].slot));
    if (how == KVS__HOW_START) {
      put_number(&saving->starts, kvs__slot_hash(&saving->index->runs, items[i].slot));
      put_number(&saving->starts, kvs__slot_depth(&saving->index->runs, items[i].slot));
    }
    if (items[i].doubtful) how |= KVS__HOW_DOUBTFUL;
    if (items[i].copies > 1) how |= KVS__HOW_COPIES;
    body->bytes[hows_at + i] = how;
  }
  for (uint64_t i = 0; i < count; i++)
    if (items[i].copies > 1) put_number(body, items[i].copies);
}

static void put_kind(struct saving *saving, const struct kvs__kind *kind) {
  struct writer *body = &saving->body;
  put_number(body, kind->medium);
  put_number(body, kind->group);
  for (int form = 0; form < 2; form++) {
    uint64_t count = kind->held[form].count;
    struct item *items;
    put_number(body, count);
    if (count == 0) continue;
    items = malloc(2 * count * sizeof *items);
    if (items == NULL) {
      body->failed = 1;
      return;
    }
    put_items(saving, sort(items, items + count, gather(kind, form, items)), count);
    free(items);
  }
}

/* ---- the rest ---- */

static void put_facts(struct writer *writer, const struct kvs__engine *engine) {
  put_number(writer, engine->heard);
  put_number(writer, engine->complete);
  put_number(writer, engine->beginning);
  put_number(writer, engine->dialect);
  put_number(writer, engine->media_made);
  put_number(writer, (uint64_t)engine->sequence);
  put_number(writer, engine->lives);
  put_number(writer, KVS_COUNTERS_COUNT);
  put(writer, engine->counters, sizeof engine->counters);
}

static void put_media(struct writer *writer, const kvs_index *index, const struct kvs__engine *engine) {
  put_number(writer, engine->media_count);
  for (int i = 0; i < engine->media_count; i++) {
    const struct kvs__medium_name *name = kvs__media_name(&index->media, engine->media[i].name);
    put_text(writer, name->text, name->bytes);
    put_number(writer, engine->media[i].trust);
    put_number(writer, engine->media[i].reason);
  }
}

static void put_groups(struct writer *writer, const struct kvs__engine *engine) {
  put_number(writer, engine->groups_count);
  for (int i = 0; i < engine->groups_count; i++) {
    const struct kvs__group *group = &engine->groups[i];
    put_number(writer, group->number);
    put_number(writer, group->block_size);
    put_number(writer, group->told);
    put_number(writer, group->spec);
    put_number(writer, group->on_gpu);
    put_number(writer, (uint64_t)group->window);
  }
}

static void put_names(struct writer *writer, const struct kvs__engine *engine) {
  put_number(writer, engine->names_count);
  for (uint32_t i = 1; i < engine->names_count; i++)
    put_text(writer, engine->names[i] == NULL ? NULL : engine->names[i]->bytes,
             engine->names[i] == NULL ? 0 : engine->names[i]->length);
}

static void put_orphans(struct writer *writer, const struct kvs__engine *engine) {
  put_number(writer, engine->orphans_live);
  for (uint32_t i = 1; i < engine->orphans_count; i++)
    if (engine->orphans[i].used) put(writer, &engine->orphans[i], sizeof engine->orphans[i]);
}

static void put_engine(struct saving *saving) {
  const struct kvs__engine *engine = saving->engine;
  put_number(&saving->body, KVS__SECTION_MARK);
  put_number(&saving->body, KVS__SECTION_VERSION);
  put_number(&saving->body, 0); /* where the starts are: known in the end */
  put_facts(&saving->body, engine);
  put_media(&saving->body, saving->index, engine);
  put_groups(&saving->body, engine);
  put_names(&saving->body, engine);
  put_number(&saving->body, engine->kinds_count);
  for (int i = 0; i < engine->kinds_count; i++) put_kind(saving, engine->kinds[i]);
  put_orphans(&saving->body, engine);
  put_number(&saving->body, KVS__SECTION_MARK);
}

static void put_starts(struct saving *saving) {
  struct writer *body = &saving->body;
  uint64_t at = body->count;
  put(body, saving->starts.bytes, saving->starts.count);
  body->failed |= saving->starts.failed;
  if (!body->failed) memcpy(body->bytes + 2 * sizeof at, &at, sizeof at);
  free(saving->starts.bytes);
}

kvs_status kvs_index_engine_save(kvs_index *index, uint32_t number, kvs_engine_status *status, uint8_t **bytes,
                                 size_t *count) {
  struct saving saving = {index, NULL, {0}, {0}};
  kvs_engine_status as_saved;
  if (index == NULL || status == NULL || bytes == NULL || count == NULL) return KVS_ERR_ARGUMENT;
  pthread_mutex_lock(&index->writing);
  saving.engine = kvs__engine_get(index, number);
  if (saving.engine != NULL) {
    kvs__engine_status(saving.engine, &as_saved);
    put_engine(&saving);
  }
  pthread_mutex_unlock(&index->writing);
  if (saving.engine == NULL) return KVS_ERR_ENGINE;
  put_starts(&saving);
  if (saving.body.failed) {
    free(saving.body.bytes);
    return KVS_ERR_MEMORY;
  }
  *status = as_saved;
  *bytes = saving.body.bytes;
  *count = saving.body.count;
  return KVS_OK;
}

void kvs_bytes_free(uint8_t *bytes) { free(bytes); }

uint64_t kvs_index_seed(const kvs_index *index) { return index->hasher.seed; }
