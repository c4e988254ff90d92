/* What reads, saves and loads, with each of its allocations refused in turn: it says so, gives nothing out, and the index
 * is as it was. What changes an index is swept in test_memory.c. */
#include "check.h"
#include "failing.h"
#include "scene.h"

#define ENGINES 40u /* so that lists of rows and of engines under way grow more than once */
#define LONG 40u
#define NOT_WRITTEN ((void *)(uintptr_t)1)

/* What a call is made on, and where its answer comes to lie. */
struct call {
  struct scene scene;
  const kvs_query *query;
  const uint8_t *section; /* to be loaded */
  size_t section_bytes;
  uint64_t hashes[SCENE_BLOCKS_MAX];
  const kvs_matches *matches;
  const kvs_export *list;
  uint8_t *bytes;
  size_t bytes_count;
  kvs_engine_status status;
};

static void answer_is_unwritten(struct call *call) {
  call->matches = NOT_WRITTEN;
  call->list = NOT_WRITTEN;
  call->bytes = NOT_WRITTEN;
  call->bytes_count = 77;
  memset(&call->status, 0xa5, sizeof call->status);
}

static void answer_is_still_unwritten(const struct call *call) {
  static struct call untouched;
  answer_is_unwritten(&untouched);
  CHECK(call->matches == NOT_WRITTEN);
  CHECK(call->list == NOT_WRITTEN);
  CHECK(call->bytes == NOT_WRITTEN);
  CHECK_EQUAL(call->bytes_count, 77);
  CHECK(memcmp(&call->status, &untouched.status, sizeof call->status) == 0);
}

/* Refuse each allocation of a call, until it asks for fewer; how many it asks for. */
static uint64_t sweep(struct call *call, kvs_status (*make)(struct call *)) {
  uint64_t bytes = stats_of(&call->scene).bytes, asked;
  kvs_status status;
  for (uint64_t n = 1;; n++) {
    answer_is_unwritten(call);
    failing_begin(n);
    status = make(call);
    asked = failing_end();
    if (asked < n) break;
    CHECK_EQUAL(status, KVS_ERR_MEMORY);
    answer_is_still_unwritten(call);
    CHECK_EQUAL(stats_of(&call->scene).bytes, bytes);
  }
  CHECK_EQUAL(status, KVS_OK);
  return asked;
}

/* An engine with what only few have: hashes of bytes, second copies, blocks that wait for one never told. */
static void tell_of_everything(struct scene *scene, uint32_t engine) {
  static struct telling telling;
  telling_begin(&telling, 2, 0, 100);
  telling.event.hash_bytes = 16;
  tell_stored(scene, engine, &telling.event, WIRE_MAP);
  telling_begin(&telling, 2, 50, 60);
  telling.event.hash_bytes = 16;
  tell_stored(scene, engine, &telling.event, WIRE_MAP);
  store(scene, engine, 3, 10, 40);
}

/* Engines hold prompts that fork, on two media, with holes. */
static struct call call_begin(void) {
  struct call call = {.scene = scene_begin(NULL, ENGINES)};
  for (uint32_t engine = 0; engine < ENGINES; engine++) {
    store(&call.scene, engine, 1, 0, 1 + engine);
    store(&call.scene, engine, 11 + engine % 5, 0, 20);
    if (engine % 3 == 0) place(&call.scene, engine, 1, 0, 1 + engine / 2, "CPU");
    if (engine % 4 == 0) drop(&call.scene, engine, 1, engine / 2, engine / 2 + 1, NULL);
  }
  tell_of_everything(&call.scene, 3);
  return call;
}

static void call_end(struct call *call) { scene_end(&call->scene); }

/* ---- questions ---- */

static kvs_status ask_tokens(struct call *call) {
  return kvs_index_match(call->scene.index, call->query, &call->matches);
}

static kvs_status ask_hashes(struct call *call) {
  return kvs_index_match_hashes(call->scene.index, call->hashes, LONG, NULL, 0, &call->matches);
}

static kvs_status ask_block_hashes(struct call *call) {
  return kvs_index_block_hashes(call->scene.index, call->query, SCENE_BLOCK, call->hashes);
}

static void every_allocation_of_a_question_fails_once(void) {
  struct call call = call_begin();
  uint32_t tokens[LONG * SCENE_BLOCK], only[] = {7, 3, 30};
  kvs_query query = {
      .tokens = tokens, .tokens_count = LONG * SCENE_BLOCK, .model = SCENE_MODEL, .model_bytes = 5};
  prompt_tokens(1, tokens, LONG * SCENE_BLOCK);
  call.query = &query;
  CHECK(sweep(&call, ask_tokens) >= 8);
  CHECK_EQUAL(call.matches->rows_count, ENGINES);
  kvs_matches_free(call.matches);
  query.engines = only;
  query.engines_count = 3;
  CHECK(sweep(&call, ask_tokens) >= 4);
  CHECK_EQUAL(call.matches->rows_count, 3);
  kvs_matches_free(call.matches);
  CHECK_EQUAL(ask_block_hashes(&call), KVS_OK);
  CHECK(sweep(&call, ask_hashes) >= 8);
  CHECK_EQUAL(call.matches->rows_count, ENGINES);
  kvs_matches_free(call.matches);
  call_end(&call);
}

static void every_allocation_with_extra_keys_fails_once(void) {
  struct call call = call_begin();
  uint32_t tokens[LONG * SCENE_BLOCK];
  const kvs_extra_key keys[] = {{"later", 5, 30, 10}, {"sooner", 6, 0, 5}};
  kvs_query query = {.tokens = tokens,
                     .tokens_count = LONG * SCENE_BLOCK,
                     .model = SCENE_MODEL,
                     .model_bytes = 5,
                     .extra_keys = keys,
                     .extra_keys_count = 2};
  uint64_t before[LONG];
  prompt_tokens(1, tokens, LONG * SCENE_BLOCK);
  call.query = &query;
  CHECK(sweep(&call, ask_tokens) >= 2);
  CHECK_EQUAL(call.matches->rows_count, 0); /* nobody holds it with these */
  kvs_matches_free(call.matches);
  CHECK_EQUAL(ask_block_hashes(&call), KVS_OK);
  memcpy(before, call.hashes, sizeof before);
  CHECK(sweep(&call, ask_block_hashes) >= 1);
  CHECK(memcmp(before, call.hashes, sizeof before) == 0);
  call_end(&call);
}

/* Groups of two block sizes are compared token by token, which takes lists of its own. */
static void every_allocation_with_groups_fails_once(void) {
  struct call call = {.scene = scene_begin(NULL, 3)};
  uint32_t tokens[LONG * SCENE_BLOCK];
  kvs_query query = {
      .tokens = tokens, .tokens_count = LONG * SCENE_BLOCK, .model = SCENE_MODEL, .model_bytes = 5};
  for (uint32_t engine = 0; engine < 3; engine++)
    for (int group = 0; group < 2; group++) {
      static struct telling telling;
      telling_begin(&telling, 1, 0, LONG);
      telling.event.group = group;
      if (group == 1) {
        telling.event.hashes_count = LONG / 2;
        telling.event.block_size = 2 * SCENE_BLOCK;
      }
      if (group == 1 || engine == 2) telling.event.spec_kind = "mamba";
      tell_stored(&call.scene, engine, &telling.event, WIRE_MAP);
    }
  prompt_tokens(1, tokens, LONG * SCENE_BLOCK);
  call.query = &query;
  CHECK(sweep(&call, ask_tokens) >= 10);
  CHECK_EQUAL(call.matches->rows_count, 3);
  for (uint32_t i = 0; i < 3; i++) CHECK_EQUAL(call.matches->rows[i].blocks, LONG);
  kvs_matches_free(call.matches);
  call_end(&call);
}

static kvs_status list_one(struct call *call) { return kvs_index_export(call->scene.index, 3, &call->list); }

static void every_allocation_of_a_list_fails_once(void) {
  struct call call = call_begin();
  CHECK(sweep(&call, list_one) >= 1);
  CHECK_EQUAL(call.list->rows_count, status_of(&call.scene, 3).entries);
  kvs_export_free(call.list);
  call_end(&call);
}

/* ---- snapshots ---- */

static kvs_status save_one(struct call *call) {
  return kvs_index_engine_save(call->scene.index, 3, &call->status, &call->bytes, &call->bytes_count);
}

/* Into an index of its own, with all that this takes; the index ends, whatever came of it. */
static kvs_status load_one(struct call *call) {
  const kvs_options options = {.seed = 42};
  kvs_index *index = NULL;
  kvs_loading *loading = NULL;
  uint32_t engine = 77;
  kvs_status status = kvs_index_create(&options, &index);
  if (status != KVS_OK) {
    CHECK(index == NULL);
    return status;
  }
  status = kvs_loading_begin(index, &loading);
  if (status == KVS_OK) status = kvs_loading_starts(loading, call->section, call->section_bytes);
  if (status == KVS_OK)
    status = kvs_loading_engine(loading, SCENE_MODEL, 5, call->section, call->section_bytes, &engine);
  CHECK_EQUAL(engine, status == KVS_OK ? 0 : 77);
  kvs_loading_end(loading);
  kvs_index_destroy(index);
  return status;
}

static void every_allocation_of_a_snapshot_fails_once(void) {
  struct call call = call_begin(), again;
  uint8_t *saved;
  CHECK(sweep(&call, save_one) >= 5);
  CHECK_EQUAL(call.status.entries, status_of(&call.scene, 3).entries);
  CHECK(call.status.orphans > 0);
  saved = call.bytes;
  call.section = saved;
  call.section_bytes = call.bytes_count;
  CHECK(sweep(&call, load_one) > 50);
  /* Saved once more it is the same, whatever failed in between. */
  again = call;
  CHECK_EQUAL(save_one(&again), KVS_OK);
  CHECK_EQUAL(again.bytes_count, call.section_bytes);
  CHECK(memcmp(again.bytes, saved, call.section_bytes) == 0);
  kvs_bytes_free(again.bytes);
  kvs_bytes_free(saved);
  call_end(&call);
}

void tests_of_allocations(void) {
  RUN("allocations: every one of a question fails once", every_allocation_of_a_question_fails_once);
  RUN("allocations: every one of a question with extra keys fails once",
      every_allocation_with_extra_keys_fails_once);
  RUN("allocations: every one of a question to groups fails once", every_allocation_with_groups_fails_once);
  RUN("allocations: every one of a list fails once", every_allocation_of_a_list_fails_once);
  RUN("allocations: every one of saving and loading fails once", every_allocation_of_a_snapshot_fails_once);
}
