/* Readers beside writers: every answer must be one that could have been true.
 *
 *   engine 0      stores prompt 1 at first, and is left alone: always matches whole
 *   engine 1      stores, drops, clears, restarts prompts 2 and 3, which begin nobody else's
 *   engines 2..   come, store ten blocks of prompt 1, and go
 *
 * Meanwhile engines 0 and 1 are saved, each at a moment of its own, and loaded: what comes out is as true.
 *
 * Checks count in a shared place, so threads report into flags of their own. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "check.h"
#include "kvsync.h"
#include "scene.h"

#define READERS 3
#define STEADY_BLOCKS 80u
#define CHURN_BLOCKS 150u
#define GUEST_BLOCKS 10u
#define SECONDS 0.7

struct shared {
  kvs_index *index;
  atomic_int stop;
  atomic_int wrong; /* line of the first wrong answer */
  atomic_ulong answers;
  atomic_ulong changes;
  atomic_ulong saves;
};

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#define MUST(condition)                                                                 \
  do {                                                                                  \
    int none_ = 0;                                                                      \
    if (!(condition)) atomic_compare_exchange_strong(&shared->wrong, &none_, __LINE__); \
  } while (0)

/* ---- readers ---- */

static void check_rows(struct shared *shared, const kvs_matches *matches, uint32_t prompt, int *steady) {
  for (uint32_t i = 0; i < matches->rows_count; i++) {
    const kvs_match_row *row = &matches->rows[i];
    uint32_t sum = 0;
    for (uint32_t m = 0; m < row->media_count; m++) {
      const kvs_match_medium *medium = &matches->media[row->media_at + m];
      sum += medium->blocks;
      MUST(kvs_index_medium_name(shared->index, medium->medium) != NULL);
    }
    MUST(sum == row->blocks);
    MUST(row->tokens == (uint64_t)row->blocks * SCENE_BLOCK);
    if (row->engine == 0) {
      *steady = 1;
      MUST(prompt == 1);
      MUST(row->blocks == STEADY_BLOCKS);
      MUST(row->trust == KVS_TRUST_EXACT);
    } else if (row->engine == 1) {
      MUST(prompt == 2 || prompt == 3);
      MUST(row->blocks <= CHURN_BLOCKS);
    } else {
      MUST(prompt == 1);
      MUST(row->blocks <= GUEST_BLOCKS);
    }
  }
}

static void *read_on(void *argument) {
  struct shared *shared = argument;
  uint32_t tokens[200 * SCENE_BLOCK];
  uint64_t hashes[200];
  kvs_query query = {
      .tokens = tokens, .tokens_count = 200 * SCENE_BLOCK, .model = SCENE_MODEL, .model_bytes = 5};
  uint32_t prompt = 1;
  while (!atomic_load(&shared->stop)) {
    const kvs_matches *matches = NULL;
    uint8_t trust = 0;
    int steady = 0;
    prompt_tokens(prompt, tokens, 200 * SCENE_BLOCK);
    if (prompt == 3) {
      MUST(kvs_index_block_hashes(shared->index, &query, SCENE_BLOCK, hashes) == KVS_OK);
      MUST(kvs_index_match_hashes(shared->index, hashes, 200, NULL, 0, &matches) == KVS_OK);
    } else {
      MUST(kvs_index_match(shared->index, &query, &matches) == KVS_OK);
    }
    check_rows(shared, matches, prompt, &steady);
    MUST(steady == (prompt == 1));
    MUST(kvs_index_trust(shared->index, 0, &trust) == KVS_OK && trust == KVS_TRUST_EXACT);
    kvs_matches_free(matches);
    atomic_fetch_add(&shared->answers, 1);
    prompt = prompt % 3 + 1;
  }
  return NULL;
}

/* ---- writers: their own scene over the shared index, and random numbers of their own ---- */

static void frame(struct shared *shared, uint32_t engine, struct pack *pack, int64_t sequence) {
  kvs_applied applied;
  MUST(kvs_index_apply(shared->index, engine, pack->at, pack->bytes, sequence, &applied) == KVS_OK);
  MUST(applied.skipped == 0);
  pack_end(pack);
  atomic_fetch_add(&shared->changes, 1);
}

static struct pack stored_frame(struct telling *telling, uint32_t prompt, uint32_t from, uint32_t to) {
  struct pack pack = {0};
  telling_begin(telling, prompt, from, to);
  wire_batch_begin(&pack, WIRE_BATCH_3, 1);
  wire_stored(&pack, &telling->event, WIRE_MAP);
  wire_batch_end(&pack, WIRE_BATCH_3);
  return pack;
}

static void *churn(void *argument) {
  struct shared *shared = argument;
  struct telling *telling = check_alloc(sizeof *telling);
  uint64_t random = 1;
  while (!atomic_load(&shared->stop)) {
    uint32_t prompt = 2 + (uint32_t)(random % 2);
    uint32_t block = (uint32_t)(random >> 8) % CHURN_BLOCKS;
    struct pack pack = {0};
    random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    switch (random >> 60) {
      case 0: MUST(kvs_index_clear(shared->index, 1, NULL, 0) == KVS_OK); break;
      case 1: MUST(kvs_index_restart(shared->index, 1) == KVS_OK); break;
      case 2: MUST(kvs_index_doubt(shared->index, 1, NULL, 0) == KVS_OK); break;
      case 3:
        wire_batch_begin(&pack, WIRE_BATCH_3, 1);
        wire_cleared(&pack, 1);
        wire_batch_end(&pack, WIRE_BATCH_3);
        frame(shared, 1, &pack, -1);
        break;
      case 4:
      case 5:
      case 6:
        telling_begin(telling, prompt, block, block + 1);
        wire_batch_begin(&pack, WIRE_BATCH_3, 1);
        wire_removed(&pack, telling->hashes, 1, 0, "GPU", -1, 4);
        wire_batch_end(&pack, WIRE_BATCH_3);
        frame(shared, 1, &pack, -1);
        break;
      default:
        pack = stored_frame(telling, prompt, random & 1024 ? block : 0, CHURN_BLOCKS);
        frame(shared, 1, &pack, -1);
        break;
    }
  }
  free(telling);
  return NULL;
}

static void *come_and_go(void *argument) {
  struct shared *shared = argument;
  struct telling *telling = check_alloc(sizeof *telling);
  while (!atomic_load(&shared->stop)) {
    uint32_t engine = 0;
    kvs_engine_status status;
    const kvs_export *list = NULL;
    kvs_stats stats;
    struct pack pack = stored_frame(telling, 1, 0, GUEST_BLOCKS);
    MUST(kvs_index_engine_add(shared->index, SCENE_MODEL, 5, &engine) == KVS_OK);
    frame(shared, engine, &pack, 0);
    MUST(kvs_index_engine_status(shared->index, engine, &status) == KVS_OK);
    MUST(status.entries == GUEST_BLOCKS && status.trust == KVS_TRUST_EXACT);
    MUST(kvs_index_export(shared->index, engine, &list) == KVS_OK);
    MUST(list->rows_count == GUEST_BLOCKS);
    kvs_export_free(list);
    kvs_index_stats(shared->index, &stats);
    MUST(stats.engines == 3);
    MUST(kvs_index_engine_remove(shared->index, engine) == KVS_OK);
    atomic_fetch_add(&shared->changes, 1);
  }
  free(telling);
  return NULL;
}

/* ---- a saver ---- */

#define SAVED 2u

/* Into an index of its own: nobody else knows it. */
static void load_and_ask(struct shared *shared, uint8_t *const *sections, const size_t *bytes) {
  struct shared own = {.index = NULL};
  kvs_options options = {.seed = kvs_index_seed(shared->index)};
  kvs_loading *loading = NULL;
  const kvs_matches *matches = NULL;
  uint32_t tokens[200 * SCENE_BLOCK], engine;
  kvs_query query = {
      .tokens = tokens, .tokens_count = 200 * SCENE_BLOCK, .model = SCENE_MODEL, .model_bytes = 5};
  int steady = 0;
  MUST(kvs_index_create(&options, &own.index) == KVS_OK);
  MUST(kvs_loading_begin(own.index, &loading) == KVS_OK);
  for (uint32_t i = 0; i < SAVED; i++) MUST(kvs_loading_starts(loading, sections[i], bytes[i]) == KVS_OK);
  for (uint32_t i = 0; i < SAVED; i++)
    MUST(kvs_loading_engine(loading, SCENE_MODEL, 5, sections[i], bytes[i], &engine) == KVS_OK && engine == i);
  kvs_loading_end(loading);
  MUST(kvs_index_confirm(own.index, 0) == KVS_OK);
  prompt_tokens(1, tokens, 200 * SCENE_BLOCK);
  MUST(kvs_index_match(own.index, &query, &matches) == KVS_OK);
  check_rows(&own, matches, 1, &steady);
  MUST(steady && atomic_load(&own.wrong) == 0);
  kvs_matches_free(matches);
  kvs_index_destroy(own.index);
}

static void *save_on(void *argument) {
  struct shared *shared = argument;
  while (!atomic_load(&shared->stop)) {
    uint8_t *sections[SAVED];
    size_t bytes[SAVED];
    kvs_engine_status status;
    for (uint32_t i = 0; i < SAVED; i++)
      MUST(kvs_index_engine_save(shared->index, i, &status, &sections[i], &bytes[i]) == KVS_OK);
    load_and_ask(shared, sections, bytes);
    for (uint32_t i = 0; i < SAVED; i++) kvs_bytes_free(sections[i]);
    atomic_fetch_add(&shared->saves, 1);
  }
  return NULL;
}

static void readers_beside_writers(void) {
  struct scene scene = scene_begin(NULL, 2);
  struct shared shared = {.index = scene.index};
  pthread_t threads[READERS + 3];
  double end;
  store(&scene, 0, 1, 0, STEADY_BLOCKS);
  for (unsigned i = 0; i < READERS; i++) CHECK_EQUAL(pthread_create(&threads[i], NULL, read_on, &shared), 0);
  CHECK_EQUAL(pthread_create(&threads[READERS], NULL, churn, &shared), 0);
  CHECK_EQUAL(pthread_create(&threads[READERS + 1], NULL, come_and_go, &shared), 0);
  CHECK_EQUAL(pthread_create(&threads[READERS + 2], NULL, save_on, &shared), 0);
  for (end = seconds_now() + SECONDS; seconds_now() < end && atomic_load(&shared.wrong) == 0;)
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
  atomic_store(&shared.stop, 1);
  for (unsigned i = 0; i < READERS + 3; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
  CHECK_EQUAL(atomic_load(&shared.wrong), 0); /* the line that saw it */
  CHECK(atomic_load(&shared.answers) > 10);
  CHECK(atomic_load(&shared.changes) > 10);
  CHECK(atomic_load(&shared.saves) > 2);
  CHECK_EQUAL(match(&scene, 0, 1, 200), STEADY_BLOCKS);
  scene_end(&scene);
}

void tests_of_threads(void) {
  RUN("threads: every answer beside writers is a true one", readers_beside_writers);
}
