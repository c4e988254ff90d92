/* An index with a few engines, prompts that fork, and short ways to tell and ask. Public header only.
 *
 * Prompts are numbers: block j of prompt p has four tokens of its own and the engine hash block_name(p, j). Prompts 10 to
 * 19 begin with the first four blocks of prompt 1, 20 to 29 with those of prompt 2, and so on. */
#ifndef SCENE_H
#define SCENE_H

#include "check.h"
#include "kvsync.h"
#include "wire.h"

#define SCENE_BLOCK 4u
#define SCENE_SHARED 4u /* blocks that a fork has in common */
#define SCENE_BLOCKS_MAX 600u
#define SCENE_ENGINES_MAX 64u
#define SCENE_MODEL "model"

struct scene {
  kvs_index *index;
  int64_t next[SCENE_ENGINES_MAX]; /* sequence number of each engine's next frame */
};

/* An event about blocks of a prompt, and the arrays it points to. */
struct telling {
  struct wire_stored event;
  uint64_t hashes[SCENE_BLOCKS_MAX];
  uint32_t tokens[SCENE_BLOCKS_MAX * SCENE_BLOCK];
};

static inline uint32_t block_owner(uint32_t prompt, uint32_t block) {
  return prompt >= 10 && prompt < 100 && block < SCENE_SHARED ? prompt / 10 : prompt;
}

static inline uint64_t block_name(uint32_t prompt, uint32_t block) {
  return (uint64_t)block_owner(prompt, block) * 100000 + block + 1;
}

static inline uint32_t token_at(uint32_t prompt, uint32_t place) {
  return block_owner(prompt, place / SCENE_BLOCK) * 65536 + place;
}

static inline void prompt_tokens(uint32_t prompt, uint32_t *tokens, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) tokens[i] = token_at(prompt, i);
}

/* ---- telling ---- */

static inline struct scene scene_begin(const kvs_options *options, unsigned engines) {
  static const kvs_options plain = {.seed = 42};
  struct scene scene = {0};
  CHECK_EQUAL(kvs_index_create(options == NULL ? &plain : options, &scene.index), KVS_OK);
  for (unsigned i = 0; i < engines; i++) {
    uint32_t engine = 0;
    CHECK_EQUAL(kvs_index_engine_add(scene.index, SCENE_MODEL, strlen(SCENE_MODEL), &engine), KVS_OK);
    CHECK_EQUAL(engine, i);
  }
  return scene;
}

static inline void scene_end(struct scene *scene) { kvs_index_destroy(scene->index); }

/* A batch as one frame; `pack` is done with then. */
static inline kvs_applied tell(struct scene *scene, uint32_t engine, struct pack *pack) {
  kvs_applied applied;
  CHECK_EQUAL(kvs_index_apply(scene->index, engine, pack->at, pack->bytes, scene->next[engine]++, &applied),
              KVS_OK);
  pack_end(pack);
  return applied;
}

/* Blocks from..to-1 of a prompt, whole, on the GPU, as maps have it. */
static inline void telling_begin(struct telling *telling, uint32_t prompt, uint32_t from, uint32_t to) {
  static const struct wire_stored nothing = {WIRE_NIL};
  telling->event = nothing;
  for (uint32_t i = from; i < to; i++) telling->hashes[i - from] = block_name(prompt, i);
  for (uint32_t i = 0; i < (to - from) * SCENE_BLOCK; i++)
    telling->tokens[i] = token_at(prompt, from * SCENE_BLOCK + i);
  telling->event.hashes = telling->hashes;
  telling->event.hashes_count = to - from;
  telling->event.tokens = telling->tokens;
  telling->event.tokens_count = (to - from) * SCENE_BLOCK;
  telling->event.block_size = SCENE_BLOCK;
  telling->event.has_parent = from > 0;
  telling->event.parent = from > 0 ? block_name(prompt, from - 1) : 0;
}

static inline kvs_applied tell_stored(struct scene *scene, uint32_t engine, const struct wire_stored *event,
                                      unsigned form) {
  struct pack pack = {0};
  wire_batch_begin(&pack, WIRE_BATCH_3, 1);
  wire_stored(&pack, event, form);
  wire_batch_end(&pack, WIRE_BATCH_3);
  return tell(scene, engine, &pack);
}

static inline kvs_applied store(struct scene *scene, uint32_t engine, uint32_t prompt, uint32_t from,
                                uint32_t to) {
  static _Thread_local struct telling telling;
  telling_begin(&telling, prompt, from, to);
  return tell_stored(scene, engine, &telling.event, WIRE_MAP);
}

/* A note that blocks lie on a medium, without their tokens. */
static inline kvs_applied place(struct scene *scene, uint32_t engine, uint32_t prompt, uint32_t from,
                                uint32_t to, const char *medium) {
  static _Thread_local struct telling telling;
  telling_begin(&telling, prompt, from, to);
  telling.event.medium = medium;
  telling.event.tokens_count = 0;
  telling.event.block_size = 0;
  telling.event.has_parent = 0;
  return tell_stored(scene, engine, &telling.event, WIRE_MAP);
}

static inline kvs_applied drop(struct scene *scene, uint32_t engine, uint32_t prompt, uint32_t from,
                               uint32_t to, const char *medium) {
  struct pack pack = {0};
  wire_batch_begin(&pack, WIRE_BATCH_3, 1);
  pack_array(&pack, 3);
  pack_text(&pack, "BlockRemoved");
  pack_array(&pack, to - from);
  for (uint32_t i = to; i-- > from;) pack_unsigned(&pack, block_name(prompt, i));
  pack_maybe(&pack, medium);
  wire_batch_end(&pack, WIRE_BATCH_3);
  return tell(scene, engine, &pack);
}

/* GPU copies go, and a placeholder says where they went, in one frame. */
static inline kvs_applied move(struct scene *scene, uint32_t engine, uint32_t prompt, uint32_t from,
                               uint32_t to, const char *medium) {
  static _Thread_local struct telling telling;
  struct pack pack = {0};
  telling_begin(&telling, prompt, from, to);
  wire_batch_begin(&pack, WIRE_BATCH_3, 2);
  wire_removed(&pack, telling.hashes, to - from, 0, "GPU", -1, WIRE_MAP);
  telling.event.medium = medium;
  telling.event.tokens_count = 0;
  telling.event.block_size = 0;
  telling.event.has_parent = 0;
  wire_stored(&pack, &telling.event, WIRE_MAP);
  wire_batch_end(&pack, WIRE_BATCH_3);
  return tell(scene, engine, &pack);
}

static inline kvs_applied say_cleared(struct scene *scene, uint32_t engine) {
  struct pack pack = {0};
  wire_batch_begin(&pack, WIRE_BATCH_3, 1);
  wire_cleared(&pack, 1);
  wire_batch_end(&pack, WIRE_BATCH_3);
  return tell(scene, engine, &pack);
}

/* ---- asking ---- */

/* One engine's row; all zero if it has none. `media` has KVS_MEDIA_MAX places, or is NULL. */
static inline kvs_match_row ask(const struct scene *scene, uint32_t engine, const kvs_query *query,
                                kvs_match_medium *media) {
  const kvs_matches *matches = NULL;
  kvs_match_row row = {0};
  if (!CHECK_EQUAL(kvs_index_match(scene->index, query, &matches), KVS_OK)) return row;
  for (uint32_t i = 0; i < matches->rows_count; i++) {
    uint32_t sum = 0;
    for (uint32_t m = 0; m < matches->rows[i].media_count; m++)
      sum += matches->media[matches->rows[i].media_at + m].blocks;
    CHECK_EQUAL(sum, matches->rows[i].blocks);
    CHECK(matches->rows[i].blocks > 0);
    if (matches->rows[i].engine != engine) continue;
    row = matches->rows[i];
    for (uint32_t m = 0; media != NULL && m < row.media_count; m++) media[m] = matches->media[row.media_at + m];
  }
  kvs_matches_free(matches);
  return row;
}

static inline kvs_match_row ask_prompt(const struct scene *scene, uint32_t engine, uint32_t prompt,
                                       uint32_t blocks, kvs_match_medium *media) {
  static _Thread_local uint32_t tokens[SCENE_BLOCKS_MAX * SCENE_BLOCK];
  kvs_query query = {
      .tokens = tokens, .tokens_count = blocks * SCENE_BLOCK, .model = SCENE_MODEL, .model_bytes = 5};
  prompt_tokens(prompt, tokens, blocks * SCENE_BLOCK);
  return ask(scene, engine, &query, media);
}

/* How many leading blocks of a prompt of `blocks` the engine holds. */
static inline uint32_t match(const struct scene *scene, uint32_t engine, uint32_t prompt, uint32_t blocks) {
  return ask_prompt(scene, engine, prompt, blocks, NULL).blocks;
}

static inline kvs_engine_status status_of(const struct scene *scene, uint32_t engine) {
  kvs_engine_status status = {0};
  CHECK_EQUAL(kvs_index_engine_status(scene->index, engine, &status), KVS_OK);
  return status;
}

static inline uint64_t counter(const struct scene *scene, uint32_t engine, kvs_counter number) {
  return status_of(scene, engine).counters[number];
}

static inline kvs_trust trust_of(const struct scene *scene, uint32_t engine) {
  uint8_t trust = 255;
  CHECK_EQUAL(kvs_index_trust(scene->index, engine, &trust), KVS_OK);
  return (kvs_trust)trust;
}

static inline kvs_medium_status medium_of(const struct scene *scene, uint32_t engine, const char *name) {
  kvs_medium_status status = {.reason = 255};
  for (uint32_t nth = 0; kvs_index_medium_status(scene->index, engine, nth, &status) == KVS_OK; nth++)
    if (strcmp(kvs_index_medium_name(scene->index, status.medium), name) == 0) return status;
  CHECK(!"the engine never named this medium");
  return status;
}

static inline kvs_stats stats_of(const struct scene *scene) {
  kvs_stats stats;
  kvs_index_stats(scene->index, &stats);
  return stats;
}

/* Copies of an integer hash in one place, 0 if not held there. */
static inline uint32_t copies_of(const struct scene *scene, uint32_t engine, const char *medium, uint32_t group,
                                 uint64_t hash) {
  const kvs_export *list = NULL;
  uint32_t copies = 0;
  if (!CHECK_EQUAL(kvs_index_export(scene->index, engine, &list), KVS_OK)) return 0;
  for (uint64_t i = 0; i < list->rows_count; i++) {
    const kvs_export_row *row = &list->rows[i];
    if (row->hash_bytes != 0 || row->hash != hash || row->group != group) continue;
    if (strcmp(kvs_index_medium_name(scene->index, row->medium), medium) == 0) copies = row->copies;
  }
  kvs_export_free(list);
  return copies;
}

#endif
