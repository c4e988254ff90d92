/* One row for each engine that matches: how many blocks, on which media, how far it may be believed. */
#include "rows.h"

#include <stdlib.h>
#include <string.h>

#include "trust.h"

/* The engine's fastest medium that has this run's blocks, in the counted group; -1 = none. */
static int fastest(const kvs_index *index, const struct kvs__engine *engine, int group, uint32_t set) {
  int best = -1;
  if (set == 0) return best;
  for (uint32_t kind = 0; kind < engine->kinds_count; kind++) {
    const struct kvs__medium_name *mine, *other;
    int medium = engine->kinds[kind]->medium;
    if (engine->kinds[kind]->group != group) continue;
    if (!kvs__sets_has(&index->sets, set, KVS__HOLDER(engine->number, kind))) continue;
    if (best < 0) {
      best = medium;
      continue;
    }
    mine = kvs__media_name(&index->media, engine->media[medium].name);
    other = kvs__media_name(&index->media, engine->media[best].name);
    if (mine->speed < other->speed || (mine->speed == other->speed && strcmp(mine->text, other->text) < 0))
      best = medium;
  }
  return best;
}

/* Where all blocks of a match lie, if its group was only ever on one medium and has no holes; else -1. */
static int only_medium(const struct kvs__engine *engine, int group) {
  int only = -1;
  if (engine->groups[group].spec != KVS__SPEC_FULL) return -1;
  for (uint32_t kind = 0; kind < engine->kinds_count; kind++) {
    if (engine->kinds[kind]->group != group) continue;
    if (only >= 0) return -1;
    only = engine->kinds[kind]->medium;
  }
  return only;
}

static int gpu_of(const struct kvs__engine *engine) {
  for (int i = 0; i < engine->media_count; i++)
    if (engine->media[i].name == KVS__MEDIUM_GPU) return i;
  return 0;
}

static int add_media(const struct kvs__asking *asking, const struct kvs__walk *walk,
                     const struct kvs__engine *engine, kvs_match_row *row, struct kvs__rows *rows) {
  const kvs_index *index = asking->index;
  int group = kvs__main_group(engine);
  uint32_t blocks[KVS_MEDIA_MAX] = {0};
  int only = only_medium(engine, group);
  if (only >= 0) blocks[only] = row->blocks;
  for (uint32_t stretch = 0;
       only < 0 && stretch < walk->stretches_count && walk->stretches[stretch].start < row->blocks; stretch++) {
    uint32_t end = kvs__stretch_end(walk, stretch);
    int medium = fastest(index, engine, group, walk->stretches[stretch].set);
    if (end > row->blocks) end = row->blocks;
    blocks[medium < 0 ? gpu_of(engine) : medium] += end - walk->stretches[stretch].start;
  }
  row->media_at = rows->media_count;
  row->media_count = 0;
  for (int i = 0; i < engine->media_count; i++) {
    if (blocks[i] == 0) continue;
    if (!kvs__room((void **)&rows->media, &rows->media_capacity, rows->media_count, sizeof *rows->media))
      return 0;
    rows->media[rows->media_count].medium = engine->media[i].name;
    rows->media[rows->media_count].blocks = blocks[i];
    rows->media[rows->media_count].trust = kvs__medium_trust(engine, i, NULL);
    rows->media_count++;
    row->media_count++;
  }
  return 1;
}

static uint8_t certain(const struct kvs__asking *asking, const struct kvs__engine *engine) {
  if (engine->dialect == KVS_DIALECT_TAGGED) return 1;
  if (engine->dialect != KVS_DIALECT_UNTAGGED || asking->hashes != NULL) return 0;
  return !kvs__query_has_extras(asking->query);
}

int kvs__rows_add(const struct kvs__asking *asking, const struct kvs__walk *walk,
                  const struct kvs__engine *engine, uint32_t blocks, struct kvs__rows *rows) {
  kvs_match_row *row;
  if (blocks == 0) return 1;
  if (!kvs__room((void **)&rows->rows, &rows->rows_capacity, rows->rows_count, sizeof *rows->rows)) return 0;
  row = &rows->rows[rows->rows_count];
  memset(row, 0, sizeof *row);
  row->engine = engine->number;
  row->blocks = blocks;
  row->tokens = (uint64_t)blocks * engine->groups[kvs__main_group(engine)].block_size;
  row->certain = certain(asking, engine);
  row->trust = kvs__record_trust(engine);
  if (!add_media(asking, walk, engine, row, rows)) return 0;
  rows->rows_count++;
  return 1;
}

/* The answer to most questions where nothing is shared: always the same, so that it costs no memory. */
static const kvs_matches nobody;

const kvs_matches *kvs__rows_pack(const struct kvs__rows *rows) {
  size_t rows_bytes = rows->rows_count * sizeof *rows->rows,
         media_bytes = rows->media_count * sizeof *rows->media;
  kvs_matches *matches;
  kvs_match_row *row_copy;
  kvs_match_medium *media_copy;
  if (rows->rows_count == 0) return &nobody;
  matches = malloc(sizeof *matches + rows_bytes + media_bytes);
  if (matches == NULL) return NULL;
  row_copy = (kvs_match_row *)(matches + 1);
  media_copy = (kvs_match_medium *)(row_copy + rows->rows_count);
  memcpy(row_copy, rows->rows, rows_bytes);
  if (media_bytes > 0) memcpy(media_copy, rows->media, media_bytes);
  matches->rows_count = rows->rows_count;
  matches->rows = row_copy;
  matches->media = media_copy;
  return matches;
}
