/* How many leading blocks of a prompt does each engine hold?
 *
 *   chain   the prompt's block hashes under one (block size, dialect), made as the walk goes
 *   run     neighbouring blocks with the same holder set: along a prompt there are few
 *   alive   engines whose full-attention group has held every block so far; when none is left the walk stops
 *
 * An engine with one full-attention group matches up to where it left `alive`. Others are evaluated over the
 * runs: in each run a group's unbroken length only grows or is cut, so the longest valid length inside a run is at its
 * end. Groups of different block sizes walk in chains of their own and are compared token by token. */
#include <stdlib.h>

#include "index.h"

#define ANY_DIALECT 0

struct run {
  uint32_t set; /* 0 = held by nobody */
  uint32_t start;
};

struct alive {
  uint32_t engine;
  uint32_t length;
};

struct walk {
  uint32_t block_size; /* 0 = whatever each engine's is (hashes were given) */
  uint8_t dialect;     /* ANY_DIALECT where the prompt has nothing that dialects show differently */
  int endless;
  uint32_t length; /* blocks walked */
  struct run *runs;
  uint32_t runs_count;
  uint32_t runs_capacity;
  struct alive *alive; /* those still alive first */
  uint32_t alive_count;
  uint32_t seen_count;
  uint32_t seen_capacity;
};

struct asking {
  kvs_index *index;
  const kvs_query *query;
  int64_t model; /* -1 = all */
  const kvs_extra_key **extras; /* by offset */
  uint32_t *only;               /* ascending, NULL = all */
  size_t only_count;
  const uint64_t *hashes; /* given, or NULL */
  size_t hashes_count;
  struct walk *walks;
  uint32_t walks_count;
};

struct rows {
  kvs_match_row *rows;
  uint32_t rows_count;
  uint32_t rows_capacity;
  kvs_match_medium *media;
  uint32_t media_count;
  uint32_t media_capacity;
};

static int room(void **array, uint32_t *capacity, uint32_t count, size_t size) {
  uint32_t wanted = *capacity == 0 ? 16 : *capacity * 2;
  void *grown;
  if (count < *capacity) return 1;
  grown = realloc(*array, (size_t)wanted * size);
  if (grown == NULL) return 0;
  *array = grown;
  *capacity = wanted;
  return 1;
}

/* ---- a prompt's hashes ---- */

static int by_offset(const void *left, const void *right) {
  const kvs_extra_key *a = *(const kvs_extra_key *const *)left, *b = *(const kvs_extra_key *const *)right;
  return a->offset < b->offset ? -1 : a->offset > b->offset;
}

static int sort_extras(struct asking *asking) {
  size_t count = asking->query->extra_keys_count;
  if (count == 0) return 1;
  asking->extras = malloc(count * sizeof *asking->extras);
  if (asking->extras == NULL) return 0;
  for (size_t i = 0; i < count; i++) asking->extras[i] = &asking->query->extra_keys[i];
  qsort(asking->extras, count, sizeof *asking->extras, by_offset);
  return 1;
}

static uint64_t end_of(const kvs_extra_key *extra) {
  return extra->length > UINT64_MAX - extra->offset ? UINT64_MAX : extra->offset + extra->length;
}

struct chaining {
  const kvs_index *index;
  const kvs_query *query;
  const kvs_extra_key **extras;
  uint32_t block_size;
  uint8_t dialect;
  uint64_t previous;
  uint64_t at;          /* next block */
  size_t extras_passed; /* items that end before the next block */
};

static void chaining_begin(struct chaining *chaining, const kvs_index *index, const kvs_query *query,
                           const kvs_extra_key **extras, uint32_t block_size, uint8_t dialect) {
  memset(chaining, 0, sizeof *chaining);
  chaining->index = index;
  chaining->query = query;
  chaining->extras = extras;
  chaining->block_size = block_size;
  chaining->dialect = dialect;
  chaining->previous = kvs__hash_root(&index->hasher, query->model, query->model_bytes, query->lora,
                                      query->lora_bytes, block_size);
}

static uint64_t chaining_extras(struct chaining *chaining) {
  const struct kvs__hasher *hasher = &chaining->index->hasher;
  const kvs_query *query = chaining->query;
  uint64_t start = chaining->at * chaining->block_size, end = start + chaining->block_size;
  uint64_t extras = KVS__NO_EXTRAS;
  if (chaining->dialect == KVS_DIALECT_ABSENT) return extras;
  while (chaining->extras_passed < query->extra_keys_count &&
         end_of(chaining->extras[chaining->extras_passed]) <= start)
    chaining->extras_passed++;
  for (size_t i = chaining->extras_passed; i < query->extra_keys_count; i++) {
    const kvs_extra_key *extra = chaining->extras[i];
    if (extra->offset >= end) break;
    if (end_of(extra) <= start || extra->length == 0) continue;
    extras = chaining->dialect == KVS_DIALECT_UNTAGGED
                 ? kvs__extras_add(hasher, extras, KVS__EXTRA_TEXT, extra->identifier, extra->identifier_bytes)
                 : kvs__extras_add_at(hasher, extras, KVS__EXTRA_TEXT, extra->identifier,
                                      extra->identifier_bytes, (int64_t)extra->offset - (int64_t)start);
  }
  if (chaining->at == 0 && query->cache_salt != NULL)
    extras = kvs__extras_add(hasher, extras, KVS__EXTRA_TEXT, query->cache_salt, query->cache_salt_bytes);
  return extras;
}

static uint64_t chaining_next(struct chaining *chaining) {
  const struct kvs__hasher *hasher = &chaining->index->hasher;
  const uint32_t *tokens = chaining->query->tokens + chaining->at * chaining->block_size;
  uint64_t local = kvs__extras_fold(hasher, kvs__hash_tokens(hasher, tokens, chaining->block_size),
                                    chaining_extras(chaining));
  chaining->at++;
  chaining->previous = kvs__mix(hasher, chaining->previous, local);
  return chaining->previous;
}

/* ---- who may answer ---- */

static int has_extras(const kvs_query *query) {
  return query->cache_salt != NULL || query->extra_keys_count > 0;
}

static int asked(const struct asking *asking, uint32_t engine) {
  size_t low = 0, high = asking->only_count;
  if (asking->only == NULL) return 1;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (asking->only[middle] < engine)
      low = middle + 1;
    else
      high = middle;
  }
  return low < asking->only_count && asking->only[low] == engine;
}

/* The group whose blocks are counted: the first full-attention one, else the first. -1 = nothing learned. */
static int main_group(const struct kvs__engine *engine) {
  int first = -1;
  for (int i = 0; i < engine->groups_count; i++) {
    if (engine->groups[i].block_size == 0) continue;
    if (engine->groups[i].spec == KVS__SPEC_FULL) return i;
    if (first < 0) first = i;
  }
  return first;
}

static int counting_groups(const struct kvs__engine *engine) {
  int count = 0;
  for (int i = 0; i < engine->groups_count; i++) count += engine->groups[i].block_size > 0;
  return count;
}

static int fits(const struct walk *walk, const struct kvs__engine *engine, const struct kvs__group *group) {
  if (walk->block_size == 0) return 1;
  return group->block_size == walk->block_size &&
         (walk->dialect == ANY_DIALECT || walk->dialect == engine->dialect);
}

/* Does `holder` make its engine a candidate of this walk's main line? */
static struct kvs__engine *candidate(const struct asking *asking, const struct walk *walk, uint32_t holder) {
  struct kvs__engine *engine = asking->index->engines[KVS__HOLDER_ENGINE(holder)];
  int group = main_group(engine);
  if (group < 0) return NULL;
  if (asking->model >= 0 && engine->model != (uint32_t)asking->model) return NULL;
  if (engine->kinds[KVS__HOLDER_KIND(holder)].group != group) return NULL;
  return fits(walk, engine, &engine->groups[group]) ? engine : NULL;
}

/* ---- walking ---- */

static int add_candidates(struct asking *asking, struct walk *walk, uint32_t set) {
  const struct kvs__set *members;
  if (set == 0) return 1;
  members = kvs__sets_get(&asking->index->sets, set);
  for (uint32_t i = 0; i < members->count; i++) {
    const struct kvs__engine *engine = candidate(asking, walk, members->holders[i]);
    if (engine == NULL || !asked(asking, engine->number)) continue;
    if (walk->seen_count > 0 && walk->alive[walk->seen_count - 1].engine == engine->number) continue;
    if (!room((void **)&walk->alive, &walk->seen_capacity, walk->seen_count, sizeof *walk->alive)) return 0;
    walk->alive[walk->seen_count].engine = engine->number;
    walk->alive[walk->seen_count].length = 0;
    walk->seen_count++;
  }
  walk->alive_count = walk->seen_count;
  return 1;
}

/* Is any kind of this engine's group among the holders? */
static int group_holds(const kvs_index *index, const struct kvs__engine *engine, int group, uint32_t set) {
  for (uint32_t kind = 0; kind < engine->kinds_count; kind++)
    if (engine->kinds[kind].group == group &&
        kvs__sets_has(&index->sets, set, KVS__HOLDER(engine->number, kind)))
      return 1;
  return 0;
}

/* The set changed at block `at`: who is not in the new one ends here. */
static void thin_out(struct asking *asking, struct walk *walk, uint32_t set, uint32_t at) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < walk->alive_count; i++) {
    struct alive one = walk->alive[i];
    const struct kvs__engine *engine = asking->index->engines[one.engine];
    if (set != 0 && group_holds(asking->index, engine, main_group(engine), set)) {
      if (kept != i) {
        struct alive swap = walk->alive[kept];
        walk->alive[kept] = one;
        walk->alive[i] = swap;
      }
      kept++;
    } else {
      walk->alive[i].length = at;
    }
  }
  walk->alive_count = kept;
}

static uint32_t holders_of(const kvs_index *index, uint64_t hash) {
  const struct kvs__block *block = kvs__blocks_first(&index->blocks, hash);
  while (block != NULL && block->hash != hash)
    block = kvs__blocks_next(&index->blocks, hash, (struct kvs__block *)(uintptr_t)block);
  return block == NULL ? 0 : block->set;
}

static int walk(struct asking *asking, struct walk *walk) {
  kvs_index *index = asking->index;
  struct chaining chaining;
  uint64_t total;
  uint32_t previous = 0;
  if (asking->hashes != NULL) {
    total = asking->hashes_count;
  } else {
    total = asking->query->tokens_count / walk->block_size;
    chaining_begin(&chaining, index, asking->query, asking->extras, walk->block_size,
                   walk->dialect == ANY_DIALECT ? KVS_DIALECT_ABSENT : walk->dialect);
  }
  if (total > UINT32_MAX) total = UINT32_MAX;
  for (uint32_t i = 0; i < total; i++) {
    uint32_t set = holders_of(index, asking->hashes != NULL ? asking->hashes[i] : chaining_next(&chaining));
    if (i == 0 || set != previous) {
      if (i == 0 && !add_candidates(asking, walk, set)) return 0;
      if (i > 0) thin_out(asking, walk, set, i);
      if (walk->alive_count == 0 && !walk->endless) break;
      if (!room((void **)&walk->runs, &walk->runs_capacity, walk->runs_count, sizeof *walk->runs)) return 0;
      walk->runs[walk->runs_count].set = set;
      walk->runs[walk->runs_count].start = i;
      walk->runs_count++;
      previous = set;
    }
    walk->length = i + 1;
  }
  for (uint32_t i = 0; i < walk->alive_count; i++) walk->alive[i].length = walk->length;
  return 1;
}

static uint32_t run_end(const struct walk *walk, uint32_t run) {
  return run + 1 < walk->runs_count ? walk->runs[run + 1].start : walk->length;
}

/* ---- several groups ---- */

/* How many last blocks a group needs to be there at length n; full attention needs all. */
static uint64_t needed(const struct kvs__group *group, uint64_t n) {
  uint64_t last;
  if (group->spec == KVS__SPEC_FULL) return n;
  if (group->spec == KVS__SPEC_STATE) return n < 1 ? n : 1;
  last = group->window <= 1 ? 0 : ((uint64_t)group->window - 1 + group->block_size - 1) / group->block_size;
  return n < last ? n : last;
}

/* All groups of one block size: look at the end of each run. */
static uint32_t longest_by_runs(const struct asking *asking, const struct walk *walk,
                                const struct kvs__engine *engine) {
  uint32_t unbroken[KVS_KINDS_MAX] = {0};
  uint32_t best = 0;
  for (uint32_t run = 0; run < walk->runs_count; run++) {
    uint32_t end = run_end(walk, run);
    int valid = 1;
    for (int g = 0; g < engine->groups_count; g++) {
      const struct kvs__group *group = &engine->groups[g];
      if (group->block_size == 0) continue;
      if (walk->runs[run].set != 0 && group_holds(asking->index, engine, g, walk->runs[run].set))
        unbroken[g] += end - walk->runs[run].start;
      else if (group->spec == KVS__SPEC_FULL)
        return best;
      else
        unbroken[g] = 0;
      valid &= unbroken[g] >= needed(group, end);
    }
    if (valid) best = end;
  }
  return best;
}

static const struct walk *walk_for(const struct asking *asking, const struct kvs__engine *engine,
                                   const struct kvs__group *group) {
  for (uint32_t i = 0; i < asking->walks_count; i++)
    if (fits(&asking->walks[i], engine, group)) return &asking->walks[i];
  return NULL;
}

static uint64_t common_multiple(uint64_t a, uint64_t b) {
  uint64_t x = a, y = b;
  while (y != 0) {
    uint64_t rest = x % y;
    x = y;
    y = rest;
  }
  return a / x * b;
}

/* For each length n of one group's chain, how many blocks up to n are unbroken. NULL = out of memory. */
static uint32_t *unbroken_lengths(const struct asking *asking, const struct walk *walk,
                                  const struct kvs__engine *engine, int group) {
  uint32_t *lengths = calloc((size_t)walk->length + 1, sizeof *lengths);
  if (lengths == NULL) return NULL;
  for (uint32_t run = 0; run < walk->runs_count; run++) {
    int held = walk->runs[run].set != 0 && group_holds(asking->index, engine, group, walk->runs[run].set);
    for (uint32_t i = walk->runs[run].start; i < run_end(walk, run); i++)
      lengths[i + 1] = held ? lengths[i] + 1 : 0;
  }
  return lengths;
}

/* Groups of different block sizes: try every length that is whole in all of them. -1 = out of memory. */
static int64_t longest_by_tokens(const struct asking *asking, const struct kvs__engine *engine) {
  uint32_t *lengths[KVS_KINDS_MAX] = {NULL};
  const struct walk *walks[KVS_KINDS_MAX] = {NULL};
  uint64_t step = 1;
  int64_t best = 0;
  for (int g = 0; g < engine->groups_count && best >= 0; g++) {
    const struct kvs__group *group = &engine->groups[g];
    if (group->block_size == 0) continue;
    step = common_multiple(step, group->block_size);
    walks[g] = walk_for(asking, engine, group);
    if (walks[g] == NULL) {
      step = UINT64_MAX;
      continue;
    }
    lengths[g] = unbroken_lengths(asking, walks[g], engine, g);
    if (lengths[g] == NULL) best = -1;
  }
  for (uint64_t tokens = step; best >= 0 && step != UINT64_MAX && tokens <= asking->query->tokens_count;
       tokens += step) {
    int valid = 1, over = 0;
    for (int g = 0; g < engine->groups_count; g++) {
      const struct kvs__group *group = &engine->groups[g];
      uint64_t n;
      if (group->block_size == 0) continue;
      n = tokens / group->block_size;
      if (n > walks[g]->length || lengths[g][n] < needed(group, n)) {
        valid = 0;
        over |= group->spec == KVS__SPEC_FULL;
      }
    }
    if (over) break;
    if (valid) best = (int64_t)tokens;
  }
  for (int g = 0; g < engine->groups_count; g++) free(lengths[g]);
  return best;
}

static int one_block_size(const struct kvs__engine *engine, uint32_t block_size) {
  for (int g = 0; g < engine->groups_count; g++)
    if (engine->groups[g].block_size != 0 && engine->groups[g].block_size != block_size) return 0;
  return 1;
}

/* ---- rows ---- */

/* The engine's fastest medium that has this run's blocks, in the counted group; -1 = none. */
static int fastest(const kvs_index *index, const struct kvs__engine *engine, int group, uint32_t set) {
  int best = -1;
  if (set == 0) return best;
  for (uint32_t kind = 0; kind < engine->kinds_count; kind++) {
    const struct kvs__medium_name *mine, *other;
    int medium = engine->kinds[kind].medium;
    if (engine->kinds[kind].group != group) continue;
    if (!kvs__sets_has(&index->sets, set, KVS__HOLDER(engine->number, kind))) continue;
    if (best < 0) {
      best = medium;
      continue;
    }
    mine = &index->media[engine->media[medium].name];
    other = &index->media[engine->media[best].name];
    if (mine->speed < other->speed || (mine->speed == other->speed && strcmp(mine->text, other->text) < 0))
      best = medium;
  }
  return best;
}

static int gpu_of(const kvs_index *index, const struct kvs__engine *engine) {
  for (int i = 0; i < engine->media_count; i++)
    if (index->media[engine->media[i].name].speed == 0) return i;
  return 0;
}

static int add_media(const struct asking *asking, const struct walk *walk, const struct kvs__engine *engine,
                     kvs_match_row *row, struct rows *rows) {
  const kvs_index *index = asking->index;
  int group = main_group(engine);
  uint32_t blocks[KVS_MEDIA_MAX] = {0};
  for (uint32_t run = 0; run < walk->runs_count && walk->runs[run].start < row->blocks; run++) {
    uint32_t end = run_end(walk, run);
    int medium = fastest(index, engine, group, walk->runs[run].set);
    if (end > row->blocks) end = row->blocks;
    blocks[medium < 0 ? gpu_of(index, engine) : medium] += end - walk->runs[run].start;
  }
  row->media_at = rows->media_count;
  row->media_count = 0;
  for (int i = 0; i < engine->media_count; i++) {
    if (blocks[i] == 0) continue;
    if (!room((void **)&rows->media, &rows->media_capacity, rows->media_count, sizeof *rows->media)) return 0;
    rows->media[rows->media_count].medium = engine->media[i].name;
    rows->media[rows->media_count].blocks = blocks[i];
    rows->media_count++;
    row->media_count++;
  }
  return 1;
}

static uint8_t certain(const struct asking *asking, const struct kvs__engine *engine) {
  if (engine->dialect == KVS_DIALECT_TAGGED) return 1;
  if (engine->dialect != KVS_DIALECT_UNTAGGED || asking->hashes != NULL) return 0;
  return !has_extras(asking->query);
}

static int add_row(const struct asking *asking, const struct walk *walk, const struct kvs__engine *engine,
                   uint32_t blocks, struct rows *rows) {
  kvs_match_row *row;
  if (blocks == 0) return 1;
  if (!room((void **)&rows->rows, &rows->rows_capacity, rows->rows_count, sizeof *rows->rows)) return 0;
  row = &rows->rows[rows->rows_count];
  memset(row, 0, sizeof *row);
  row->engine = engine->number;
  row->blocks = blocks;
  row->tokens = (uint64_t)blocks * engine->groups[main_group(engine)].block_size;
  row->certain = certain(asking, engine);
  row->trust = kvs__record_trust(engine);
  if (!add_media(asking, walk, engine, row, rows)) return 0;
  rows->rows_count++;
  return 1;
}

/* One engine's longest match; -1 = out of memory. */
static int64_t evaluate(const struct asking *asking, const struct walk *walk, const struct kvs__engine *engine,
                        uint32_t alive_length) {
  const struct kvs__group *group = &engine->groups[main_group(engine)];
  int64_t tokens;
  if (counting_groups(engine) == 1 && group->spec == KVS__SPEC_FULL) return alive_length;
  if (one_block_size(engine, group->block_size) || asking->hashes != NULL)
    return longest_by_runs(asking, walk, engine);
  tokens = longest_by_tokens(asking, engine);
  return tokens < 0 ? tokens : tokens / group->block_size;
}

static int answer_alive(const struct asking *asking, const struct walk *walk, struct rows *rows) {
  for (uint32_t i = 0; i < walk->seen_count; i++) {
    const struct kvs__engine *engine = asking->index->engines[walk->alive[i].engine];
    int64_t blocks;
    if (engine->groups[main_group(engine)].spec != KVS__SPEC_FULL) continue; /* not bound to begin at block 0 */
    blocks = evaluate(asking, walk, engine, walk->alive[i].length);
    if (blocks < 0 || !add_row(asking, walk, engine, (uint32_t)blocks, rows)) return 0;
  }
  return 1;
}

/* Engines without any full-attention group may match behind a hole. */
static int answer_endless(const struct asking *asking, const struct walk *walk, struct rows *rows) {
  const kvs_index *index = asking->index;
  if (!walk->endless) return 1;
  for (uint32_t i = 0; i < index->engines_count; i++) {
    const struct kvs__engine *engine = index->engines[i];
    int64_t blocks;
    int group;
    if (engine == NULL || (asking->model >= 0 && engine->model != (uint32_t)asking->model)) continue;
    group = main_group(engine);
    if (group < 0 || engine->groups[group].spec == KVS__SPEC_FULL) continue;
    if (!fits(walk, engine, &engine->groups[group]) || !asked(asking, i)) continue;
    blocks = evaluate(asking, walk, engine, 0);
    if (blocks < 0 || !add_row(asking, walk, engine, (uint32_t)blocks, rows)) return 0;
  }
  return 1;
}

/* ---- asking ---- */

static int by_number(const void *left, const void *right) {
  uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
  return a < b ? -1 : a > b;
}

static int take_filter(struct asking *asking, const uint32_t *engines, size_t count) {
  if (engines == NULL) return 1;
  asking->only = malloc((count + 1) * sizeof *asking->only);
  if (asking->only == NULL) return 0;
  if (count > 0) memcpy(asking->only, engines, count * sizeof *engines);
  qsort(asking->only, count, sizeof *asking->only, by_number);
  asking->only_count = count;
  return 1;
}

static int plan_walks(struct asking *asking) {
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
  plain = !has_extras(asking->query);
  if (model->chains_count == 0) return 1;
  asking->walks = calloc(model->chains_count, sizeof *asking->walks);
  if (asking->walks == NULL) return 0;
  for (uint32_t i = 0; i < model->chains_count; i++) {
    uint8_t dialect = plain ? ANY_DIALECT : model->chains[i].dialect;
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

/* One allocation holds the answer: header, rows, media. */
static const kvs_matches *pack(const struct rows *rows) {
  size_t rows_bytes = rows->rows_count * sizeof *rows->rows,
         media_bytes = rows->media_count * sizeof *rows->media;
  kvs_matches *matches = malloc(sizeof *matches + rows_bytes + media_bytes);
  kvs_match_row *row_copy;
  kvs_match_medium *media_copy;
  if (matches == NULL) return NULL;
  row_copy = (kvs_match_row *)(matches + 1);
  media_copy = (kvs_match_medium *)(row_copy + rows->rows_count);
  if (rows_bytes > 0) memcpy(row_copy, rows->rows, rows_bytes);
  if (media_bytes > 0) memcpy(media_copy, rows->media, media_bytes);
  matches->rows_count = rows->rows_count;
  matches->rows = row_copy;
  matches->media = media_copy;
  return matches;
}

static kvs_status ask(struct asking *asking, const kvs_matches **matches) {
  struct rows rows = {0};
  int whole = plan_walks(asking);
  for (uint32_t i = 0; whole && i < asking->walks_count; i++) whole = walk(asking, &asking->walks[i]);
  for (uint32_t i = 0; whole && i < asking->walks_count; i++)
    whole = answer_alive(asking, &asking->walks[i], &rows) && answer_endless(asking, &asking->walks[i], &rows);
  if (whole) {
    *matches = pack(&rows);
    whole = *matches != NULL;
  }
  for (uint32_t i = 0; i < asking->walks_count; i++) {
    free(asking->walks[i].runs);
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

static int query_is_sound(const kvs_query *query) {
  if (query == NULL || (query->tokens == NULL && query->tokens_count > 0)) return 0;
  if ((query->model == NULL && query->model_bytes > 0) || query->model_bytes > KVS_TEXT_BYTES_MAX) return 0;
  if (query->lora_bytes > KVS_TEXT_BYTES_MAX || query->cache_salt_bytes > KVS_TEXT_BYTES_MAX) return 0;
  if (query->extra_keys == NULL && query->extra_keys_count > 0) return 0;
  for (size_t i = 0; i < query->extra_keys_count; i++)
    if (query->extra_keys[i].identifier == NULL || query->extra_keys[i].identifier_bytes > KVS_TEXT_BYTES_MAX ||
        query->extra_keys[i].offset > INT64_MAX)
      return 0;
  return query->engines != NULL || query->engines_count == 0;
}

kvs_status kvs_index_match(kvs_index *index, const kvs_query *query, const kvs_matches **matches) {
  struct asking asking = {0};
  kvs_status status = KVS_ERR_MEMORY;
  if (index == NULL || matches == NULL || !query_is_sound(query)) return KVS_ERR_ARGUMENT;
  asking.index = index;
  asking.query = query;
  if (take_filter(&asking, query->engines, query->engines_count) && sort_extras(&asking)) {
    pthread_rwlock_rdlock(&index->state);
    asking.model = model_number(index, query);
    status = ask(&asking, matches);
    pthread_rwlock_unlock(&index->state);
  }
  free(asking.only);
  free(asking.extras);
  return status;
}

kvs_status kvs_index_match_hashes(kvs_index *index, const uint64_t *hashes, size_t hashes_count,
                                  const uint32_t *engines, size_t engines_count, const kvs_matches **matches) {
  static const uint64_t none = 0;
  struct asking asking = {0};
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

void kvs_matches_free(const kvs_matches *matches) { free((void *)(uintptr_t)matches); }

kvs_status kvs_index_block_hashes(const kvs_index *index, const kvs_query *query, uint32_t block_size,
                                  uint64_t *hashes) {
  struct asking asking = {0};
  struct chaining chaining;
  uint64_t count;
  if (index == NULL || hashes == NULL || !query_is_sound(query)) return KVS_ERR_ARGUMENT;
  if (block_size == 0 || block_size > 1u << 20) return KVS_ERR_ARGUMENT;
  asking.query = query;
  if (!sort_extras(&asking)) return KVS_ERR_MEMORY;
  count = query->tokens_count / block_size;
  chaining_begin(&chaining, index, query, asking.extras, block_size, KVS_DIALECT_TAGGED);
  for (uint64_t i = 0; i < count; i++) hashes[i] = chaining_next(&chaining);
  free(asking.extras);
  return KVS_OK;
}
