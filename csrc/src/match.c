/* How many leading blocks of a prompt does each engine hold?
 *
 *   prompt.c   the prompt's block hashes under one (block size, dialect), made as the walk goes
 *   walk.c     one walk for each such chain that the model's engines need
 *   groups.c   the longest match where a model has several groups
 *   rows.c     what is told of each engine that matches
 *
 * Here: which walks, and who gets a row. */

#include <stdlib.h>
#include <string.h>

#include "rows.h"

static int answer_alive(const struct kvs__asking *asking, const struct kvs__walk *walk,
                        struct kvs__rows *rows) {
  for (uint32_t i = 0; i < walk->seen_count; i++) {
    const struct kvs__engine *engine = asking->index->engines[walk->alive[i].engine];
    int64_t blocks;
    if (engine->groups[kvs__main_group(engine)].spec != KVS__SPEC_FULL)
      continue; /* not bound to begin at block 0 */
    blocks = kvs__longest(asking, walk, engine, walk->alive[i].length);
    if (blocks < 0 || !kvs__rows_add(asking, walk, engine, (uint32_t)blocks, rows)) return 0;
  }
  return 1;
}

/* Engines without any full-attention group may match behind a hole. */
static int answer_endless(const struct kvs__asking *asking, const struct kvs__walk *walk,
                          struct kvs__rows *rows) {
  const kvs_index *index = asking->index;
  if (!walk->endless) return 1;
  for (uint32_t i = 0; i < index->engines_count; i++) {
    const struct kvs__engine *engine = index->engines[i];
    int64_t blocks;
    int group;
    if (engine == NULL || (asking->model >= 0 && engine->model != (uint32_t)asking->model)) continue;
    group = kvs__main_group(engine);
    if (group < 0 || engine->groups[group].spec == KVS__SPEC_FULL) continue;
    if (!kvs__walk_fits(walk, engine, &engine->groups[group]) || !kvs__asked(asking, i)) continue;
    blocks = kvs__longest(asking, walk, engine, 0);
    if (blocks < 0 || !kvs__rows_add(asking, walk, engine, (uint32_t)blocks, rows)) return 0;
  }
  return 1;
}

static int by_number(const void *left, const void *right) {
  uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
  return a < b ? -1 : a > b;
}

static int take_filter(struct kvs__asking *asking, const uint32_t *engines, size_t count) {
  if (engines == NULL) return 1;
  asking->only = malloc((count + 1) * sizeof *asking->only);
  if (asking->only == NULL) return 0;
  if (count > 0) memcpy(asking->only, engines, count * sizeof *engines);
  qsort(asking->only, count, sizeof *asking->only, by_number);
  asking->only_count = count;
  return 1;
}

static int plan_walks(struct kvs__asking *asking) {
  const struct kvs__model *model;
  int plain;
  if (asking->hashes != NULL) {
    asking->walks = calloc(1, sizeof *asking->walks);
    if (asking->walks == NULL) return 0;
    asking->walks_count = 1;
    for (uint32_t m = 0; m < asking->index->models_count; m++)
      for (uint32_t c = 0; c < asking->index->models[m].chains_count; c++)
        asking->walks[0].endless |= asking->index->models[m].chains[c].endless;
    return 1;
  }
  if (asking->model < 0) return 1;
  model = &asking->index->models[asking->model];
  plain = !kvs__query_has_extras(asking->query);
  if (model->chains_count == 0) return 1;
  asking->walks = calloc(model->chains_count, sizeof *asking->walks);
  if (asking->walks == NULL) return 0;
  for (uint32_t i = 0; i < model->chains_count; i++) {
    uint8_t dialect = plain ? KVS__ANY_DIALECT : model->chains[i].dialect;
    uint32_t same = 0;
    while (same < asking->walks_count && (asking->walks[same].block_size != model->chains[i].block_size ||
                                          asking->walks[same].dialect != dialect))
      same++;
    if (same == asking->walks_count) asking->walks_count++;
    asking->walks[same].block_size = model->chains[i].block_size;
    asking->walks[same].dialect = dialect;
    asking->walks[same].endless |= model->chains[i].endless;
  }
  return 1;
}

static kvs_status ask(struct kvs__asking *asking, const kvs_matches **matches) {
  struct kvs__rows rows = {0};
  int whole = plan_walks(asking);
  for (uint32_t i = 0; whole && i < asking->walks_count; i++) whole = kvs__walk_run(asking, &asking->walks[i]);
  for (uint32_t i = 0; whole && i < asking->walks_count; i++)
    whole = answer_alive(asking, &asking->walks[i], &rows) && answer_endless(asking, &asking->walks[i], &rows);
  if (whole) {
    const kvs_matches *packed = kvs__rows_pack(&rows);
    whole = packed != NULL;
    if (whole) *matches = packed;
  }
  for (uint32_t i = 0; i < asking->walks_count; i++) {
    free(asking->walks[i].stretches);
    free(asking->walks[i].alive);
  }
  free(asking->walks);
  free(rows.rows);
  free(rows.media);
  return whole ? KVS_OK : KVS_ERR_MEMORY;
}

static int64_t model_number(const kvs_index *index, const kvs_query *query) {
  for (uint32_t i = 0; i < index->models_count; i++)
    if (index->models[i].name_bytes == query->model_bytes &&
        (query->model_bytes == 0 || memcmp(index->models[i].name, query->model, query->model_bytes) == 0))
      return i;
  return -1;
}

kvs_status kvs_index_match(kvs_index *index, const kvs_query *query, const kvs_matches **matches) {
  struct kvs__asking asking = {0};
  kvs_status status = KVS_ERR_MEMORY;
  if (index == NULL || matches == NULL || !kvs__query_is_sound(query)) return KVS_ERR_ARGUMENT;
  asking.index = index;
  asking.query = query;
  if (take_filter(&asking, query->engines, query->engines_count) && kvs__prompt_sort(query, &asking.extras)) {
    pthread_rwlock_rdlock(&index->state);
    asking.model = model_number(index, query);
    status = ask(&asking, matches);
    pthread_rwlock_unlock(&index->state);
  }
  free(asking.only);
  free(asking.extras);
  return status;
}

kvs_status kvs_index_match_tokens(kvs_index *index, const kvs_query *query, const uint32_t *tokens,
                                  size_t tokens_count, const kvs_matches **matches) {
  kvs_query of_these;
  if (query == NULL) return KVS_ERR_ARGUMENT;
  of_these = *query;
  of_these.tokens = tokens;
  of_these.tokens_count = tokens_count;
  return kvs_index_match(index, &of_these, matches);
}

kvs_status kvs_index_match_hashes(kvs_index *index, const uint64_t *hashes, size_t hashes_count,
                                  const uint32_t *engines, size_t engines_count, const kvs_matches **matches) {
  static const uint64_t none = 0;
  struct kvs__asking asking = {0};
  kvs_status status = KVS_ERR_MEMORY;
  if (index == NULL || matches == NULL || (hashes == NULL && hashes_count > 0)) return KVS_ERR_ARGUMENT;
  if (engines == NULL && engines_count > 0) return KVS_ERR_ARGUMENT;
  asking.index = index;
  asking.model = -1;
  asking.hashes = hashes == NULL ? &none : hashes;
  asking.hashes_count = hashes_count;
  if (take_filter(&asking, engines, engines_count)) {
    pthread_rwlock_rdlock(&index->state);
    status = ask(&asking, matches);
    pthread_rwlock_unlock(&index->state);
  }
  free(asking.only);
  return status;
}

void kvs_matches_free(const kvs_matches *matches) {
  if (matches != NULL && matches->rows_count > 0) free((void *)(uintptr_t)matches);
}
