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
  kvs_options options = {0};
  uint8_t *bytes = NULL;
  size_t count = 0;
  CHECK_EQUAL(kvs_index_save(scene.index, &bytes, &count), KVS_OK);
  CHECK_EQUAL(kvs_index_load(&options, bytes, count, &again.index), KVS_OK);
  kvs_bytes_free(bytes);
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

/* Whatever the bytes: an answer, no crash, and an index that ends. */
static void damaged_bytes_do_no_harm(void) {
  struct scene scene = scene_full();
  uint8_t *bytes = NULL;
  size_t count = 0;
  unsigned loaded = 0;
  CHECK_EQUAL(kvs_index_save(scene.index, &bytes, &count), KVS_OK);
  for (unsigned i = 0; i < 20000; i++) {
    struct pack pack = {check_alloc(count), count, count};
    kvs_options options = {0};
    struct scene other = scene;
    memcpy(pack.at, bytes, count);
    mutate(&pack);
    if (kvs_index_load(&options, pack.at, pack.bytes, &other.index) == KVS_OK) {
      loaded++;
      (void)match(&other, 0, 5, 40);
      kvs_index_destroy(other.index);
    }
    pack_end(&pack);
  }
  CHECK(loaded > 0); /* a changed hash is another index, and as good */
  for (size_t cut = 0; cut < count; cut++) {
    kvs_options options = {0};
    kvs_index *index = NULL;
    CHECK_EQUAL(kvs_index_load(&options, bytes, cut, &index), KVS_ERR_SNAPSHOT);
  }
  kvs_bytes_free(bytes);
  scene_end(&scene);
}

static void no_memory_gives_nothing(void) {
  struct scene scene = scene_full();
  uint8_t *bytes = NULL;
  size_t count = 0;
  kvs_status status = KVS_ERR_MEMORY;
  CHECK_EQUAL(kvs_index_save(scene.index, &bytes, &count), KVS_OK);
  for (uint64_t n = 1; status == KVS_ERR_MEMORY && n < 5000; n++) {
    kvs_options options = {.fail_allocation = n};
    struct scene other = scene;
    status = kvs_index_load(&options, bytes, count, &other.index);
    if (status != KVS_OK) continue;
    same(&scene, &other);
    kvs_index_destroy(other.index);
  }
  CHECK_EQUAL(status, KVS_OK);
  kvs_bytes_free(bytes);
  scene_end(&scene);
}

void tests_of_snapshot(void) {
  RUN("snapshot: loaded is as saved", loaded_is_as_saved);
  RUN("snapshot: damaged bytes do no harm", damaged_bytes_do_no_harm);
  RUN("snapshot: no memory gives nothing", no_memory_gives_nothing);
}
