/* snapshot.c: what is saved is loaded, and what is not a snapshot does no harm. */
#include "mutate.h"
#include "scene.h"

/* A little of everything: prompts that part, holes, copies, media, orphans, doubt, an engine that is gone. */
static struct scene scene_full(void) {
  struct scene scene = scene_begin(NULL, 4);
  for (uint32_t prompt = 1; prompt < 12; prompt++)
    for (uint32_t engine = 0; engine < 4; engine++) store(&scene, engine, prompt, 0, 3 + prompt * engine);
  store(&scene, 1, 7, 0, 5);
  place(&scene, 1, 7, 0, 3, "CPU");
  place(&scene, 1, 900, 0, 2, "STORAGE");
  drop(&scene, 2, 9, 2, 5, NULL);
  scene.next[2] += 5;
  store(&scene, 2, 800, 4, 8);
  CHECK_EQUAL(kvs_index_engine_remove(scene.index, 3), KVS_OK);
  return scene;
}

/* The sections of a scene's engines, one behind the other. */
struct saved {
  uint8_t *sections[SCENE_ENGINES_MAX];
  size_t bytes[SCENE_ENGINES_MAX];
  uint32_t count;
};

static struct saved save(const struct scene *scene, uint32_t engines) {
  struct saved saved = {.count = 0};
  for (uint32_t engine = 0; engine < engines; engine++) {
    kvs_engine_status status;
    CHECK_EQUAL(
        kvs_index_engine_save(scene->index, engine, &status, &saved.sections[engine], &saved.bytes[engine]),
        KVS_OK);
    CHECK_EQUAL(status.sequence, status_of(scene, engine).sequence);
    saved.count++;
  }
  return saved;
}

static void saved_end(struct saved *saved) {
  for (uint32_t i = 0; i < saved->count; i++) kvs_bytes_free(saved->sections[i]);
}

/* Into a new index of that seed; nothing is left of one that could not be loaded whole. */
static kvs_status load(const struct saved *saved, kvs_options options, kvs_index **index) {
  kvs_loading *loading = NULL;
  kvs_status status;
  options.seed = 42;
  status = kvs_index_create(&options, index);
  if (status != KVS_OK) return status;
  CHECK_EQUAL(kvs_loading_begin(*index, &loading), KVS_OK);
  for (uint32_t i = 0; i < saved->count && status == KVS_OK; i++)
    status = kvs_loading_starts(loading, saved->sections[i], saved->bytes[i]);
  for (uint32_t i = 0; i < saved->count && status == KVS_OK; i++) {
    uint32_t engine;
    status = kvs_loading_engine(loading, SCENE_MODEL, strlen(SCENE_MODEL), saved->sections[i], saved->bytes[i],
                                &engine);
    if (status == KVS_OK) CHECK_EQUAL(engine, i);
  }
  kvs_loading_end(loading);
  if (status != KVS_OK) kvs_index_destroy(*index);
  return status;
}

static void confirm(const struct scene *scene, uint32_t engines) {
  for (uint32_t engine = 0; engine < engines; engine++)
    CHECK_EQUAL(kvs_index_confirm(scene->index, engine), KVS_OK);
}

static void same(const struct scene *one, const struct scene *other) {
  for (uint32_t engine = 0; engine < 3; engine++) {
    CHECK_EQUAL(trust_of(one, engine), trust_of(other, engine));
    CHECK_EQUAL(status_of(one, engine).entries, status_of(other, engine).entries);
    CHECK_EQUAL(status_of(one, engine).orphans, status_of(other, engine).orphans);
    CHECK_EQUAL(status_of(one, engine).sequence, status_of(other, engine).sequence);
    for (uint32_t prompt = 1; prompt < 12; prompt++)
      CHECK_EQUAL(match(one, engine, prompt, 40), match(other, engine, prompt, 40));
  }
  CHECK_EQUAL(stats_of(one).blocks, stats_of(other).blocks);
  CHECK_EQUAL(stats_of(one).entries, stats_of(other).entries);
  CHECK_EQUAL(stats_of(one).holder_sets, stats_of(other).holder_sets);
}

static void loaded_is_as_saved(void) {
  struct scene scene = scene_full(), again = scene;
  struct saved saved = save(&scene, 3);
  CHECK_EQUAL(load(&saved, (kvs_options){0}, &again.index), KVS_OK);
  saved_end(&saved);
  confirm(&again, 3);
  same(&scene, &again);
  /* And both go on alike. */
  store(&scene, 2, 800, 0, 4);
  store(&again, 2, 800, 0, 4);
  drop(&scene, 1, 7, 3, 5, NULL);
  drop(&again, 1, 7, 3, 5, NULL);
  same(&scene, &again);
  CHECK_EQUAL(match(&again, 2, 800, 8), 8);
  scene_end(&scene);
  scene_end(&again);
}

/* Engines are saved one after the other, while blocks come and go: what one tells in the middle of a prompt another may
 * tell alone, and it is one block all the same. */
static void blocks_told_in_part_are_the_same(void) {
  struct scene scene = scene_begin(NULL, 3), again = scene;
  struct saved saved = {.count = 3};
  kvs_engine_status status;
  store(&scene, 0, 1, 0, 40);
  CHECK_EQUAL(kvs_index_engine_save(scene.index, 0, &status, &saved.sections[0], &saved.bytes[0]), KVS_OK);
  /* Engine 1 holds the middle only; then 5 is where the prompt begins for it, and a fork lies where 5 was. */
  store(&scene, 1, 1, 0, 20);
  drop(&scene, 1, 1, 0, 5, NULL);
  drop(&scene, 0, 1, 4, 6, NULL);
  store(&scene, 0, 11, 0, 9);
  CHECK_EQUAL(kvs_index_engine_save(scene.index, 1, &status, &saved.sections[1], &saved.bytes[1]), KVS_OK);
  store(&scene, 2, 11, 0, 8);
  store(&scene, 2, 1, 0, 10);
  CHECK_EQUAL(kvs_index_engine_save(scene.index, 2, &status, &saved.sections[2], &saved.bytes[2]), KVS_OK);
  CHECK_EQUAL(load(&saved, (kvs_options){0}, &again.index), KVS_OK);
  saved_end(&saved);
  CHECK_EQUAL(match(&again, 0, 1, 40), 40);
  CHECK_EQUAL(match(&again, 1, 1, 40), 0);
  CHECK_EQUAL(match(&again, 2, 1, 40), 10);
  CHECK_EQUAL(match(&again, 2, 11, 40), 8);
  again.next[1] = scene.next[1];
  store(&again, 1, 1, 0, 5);
  CHECK_EQUAL(match(&again, 1, 1, 40), 20);
  CHECK_EQUAL(stats_of(&again).blocks, 40 + 4);
  scene_end(&scene);
  scene_end(&again);
}

static void what_lies_behind_another_branch_is_found(void) {
  struct scene scene = scene_begin(NULL, 1), again = scene;
  struct saved saved;
  store(&scene, 0, 1, 0, 10);
  drop(&scene, 0, 1, 4, 5, NULL);
  store(&scene, 0, 11, 0, 5); /* its fifth block takes the place before the sixth of the other */
  saved = save(&scene, 1);
  CHECK_EQUAL(load(&saved, (kvs_options){0}, &again.index), KVS_OK);
  saved_end(&saved);
  again.next[0] = scene.next[0];
  store(&again, 0, 1, 4, 5);
  CHECK_EQUAL(match(&again, 0, 1, 10), 10);
  CHECK_EQUAL(match(&again, 0, 11, 10), 5);
  scene_end(&scene);
  scene_end(&again);
}

static void loaded_is_doubted_until_confirmed(void) {
  struct scene scene = scene_full(), again = scene;
  struct saved saved = save(&scene, 3);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_EXACT);
  CHECK_EQUAL(load(&saved, (kvs_options){0}, &again.index), KVS_OK);
  saved_end(&saved);
  CHECK_EQUAL(trust_of(&again, 0), KVS_TRUST_STALE);
  CHECK_EQUAL(medium_of(&again, 0, "GPU").trust, KVS_TRUST_STALE);
  CHECK_EQUAL(medium_of(&again, 0, "GPU").reason, KVS_REASON_LOADED);
  CHECK_EQUAL(ask_prompt(&again, 0, 5, 10, NULL).trust, KVS_TRUST_STALE);
  CHECK_EQUAL(kvs_index_confirm(again.index, 0), KVS_OK);
  CHECK_EQUAL(trust_of(&again, 0), KVS_TRUST_EXACT);
  CHECK_EQUAL(medium_of(&again, 0, "GPU").reason, KVS_REASON_NONE);
  /* Doubt, a clear and a restart settle it as well: confirming later does not undo them. */
  CHECK_EQUAL(kvs_index_doubt(again.index, 1, NULL, 0), KVS_OK);
  CHECK_EQUAL(kvs_index_confirm(again.index, 1), KVS_OK);
  CHECK_EQUAL(trust_of(&again, 1), KVS_TRUST_STALE);
  CHECK_EQUAL(kvs_index_clear(again.index, 1, NULL, 0), KVS_OK);
  CHECK_EQUAL(trust_of(&again, 1), KVS_TRUST_EXACT);
  CHECK_EQUAL(kvs_index_restart(again.index, 2), KVS_OK);
  CHECK_EQUAL(trust_of(&again, 2), KVS_TRUST_PARTIAL);
  CHECK_EQUAL(kvs_index_confirm(again.index, 77), KVS_ERR_ENGINE);
  scene_end(&scene);
  scene_end(&again);
}

/* Whatever the bytes: an answer, no crash, and an index that ends. */
static void damaged_bytes_do_no_harm(void) {
  struct scene scene = scene_full();
  struct saved saved = save(&scene, 3);
  unsigned loaded = 0;
  for (unsigned i = 0; i < 20000; i++) {
    uint32_t which = i % 3;
    struct pack pack = {check_alloc(saved.bytes[which]), saved.bytes[which], saved.bytes[which]};
    struct saved other = saved;
    struct scene made = scene;
    memcpy(pack.at, saved.sections[which], saved.bytes[which]);
    mutate(&pack);
    other.sections[which] = pack.at;
    other.bytes[which] = pack.bytes;
    if (load(&other, (kvs_options){0}, &made.index) == KVS_OK) {
      loaded++;
      (void)match(&made, 0, 5, 40);
      kvs_index_destroy(made.index);
    }
    pack_end(&pack);
  }
  CHECK(loaded > 0); /* a changed hash is another index, and as good */
  for (size_t cut = 0; cut < saved.bytes[1]; cut++) {
    struct saved other = {.sections = {saved.sections[1]}, .bytes = {cut}, .count = 1};
    kvs_index *index = NULL;
    CHECK_EQUAL(load(&other, (kvs_options){0}, &index), KVS_ERR_SNAPSHOT);
  }
  saved_end(&saved);
  scene_end(&scene);
}

static void what_was_not_told_is_refused(void) {
  struct scene scene = scene_full();
  struct saved saved = save(&scene, 3);
  kvs_loading *loading = NULL;
  kvs_index *index = NULL;
  kvs_options options = {.seed = 42};
  uint32_t engine;
  CHECK_EQUAL(kvs_loading_begin(scene.index, &loading), KVS_ERR_ARGUMENT); /* it has engines */
  CHECK_EQUAL(kvs_index_create(&options, &index), KVS_OK);
  CHECK_EQUAL(kvs_loading_begin(index, &loading), KVS_OK);
  CHECK_EQUAL(kvs_loading_engine(loading, "m", 1, saved.sections[0], saved.bytes[0], &engine),
              KVS_ERR_SNAPSHOT);
  kvs_loading_end(loading);
  kvs_index_destroy(index);
  saved_end(&saved);
  scene_end(&scene);
}

static void no_memory_gives_nothing(void) {
  struct scene scene = scene_full();
  struct saved saved = save(&scene, 3);
  kvs_status status = KVS_ERR_MEMORY;
  for (uint64_t n = 1; status == KVS_ERR_MEMORY && n < 5000; n++) {
    struct scene other = scene;
    status = load(&saved, (kvs_options){.fail_allocation = n}, &other.index);
    if (status != KVS_OK) continue;
    confirm(&other, 3);
    same(&scene, &other);
    kvs_index_destroy(other.index);
  }
  CHECK_EQUAL(status, KVS_OK);
  saved_end(&saved);
  scene_end(&scene);
}

void tests_of_snapshot(void) {
  RUN("snapshot: loaded is as saved", loaded_is_as_saved);
  RUN("snapshot: blocks told in part are the same", blocks_told_in_part_are_the_same);
  RUN("snapshot: what lies behind another branch is found", what_lies_behind_another_branch_is_found);
  RUN("snapshot: loaded is doubted until confirmed", loaded_is_doubted_until_confirmed);
  RUN("snapshot: damaged bytes do no harm", damaged_bytes_do_no_harm);
  RUN("snapshot: what was not told is refused", what_was_not_told_is_refused);
  RUN("snapshot: no memory gives nothing", no_memory_gives_nothing);
}
