/* Broken frames into a whole index: whatever comes, the books balance and memory comes back.
 *
 * With KVSYNC_FUZZ_CORPUS naming a file of frames (4 bytes of length, big-endian, then the payload, over and over) those are
 * what gets broken, and KVSYNC_FUZZ_SECONDS says for how long. */
#include <time.h>

#include "books.h"
#include "check.h"
#include "kvsync.h"
#include "mutate.h"
#include "scene.h"

#define FRAMES_MAX 20000u

struct corpus {
  struct pack frames[FRAMES_MAX];
  unsigned count;
};

static void add_frame(struct corpus *corpus, struct pack frame) {
  if (corpus->count == FRAMES_MAX)
    pack_end(&frame);
  else
    corpus->frames[corpus->count++] = frame;
}

/* Frames that belong together: parents, copies, groups, media, byte hashes, all forms. */
static void make_frames(struct corpus *corpus) {
  struct telling *telling = check_alloc(sizeof *telling);
  for (unsigned i = 0; i < 300; i++) {
    struct pack pack = {0};
    uint32_t prompt = 1 + (uint32_t)check_below(30), from = (uint32_t)check_below(6);
    unsigned form = check_below(2) ? WIRE_MAP : 6 + (unsigned)check_below(7);
    enum wire_batch batch = (enum wire_batch)check_below(3);
    telling_begin(telling, prompt, from, from + 1 + (uint32_t)check_below(5));
    telling->event.hash_bytes = prompt % 3 == 0 ? 32 : 0;
    telling->event.group = (int64_t)check_below(3) - 1;
    telling->event.spec_kind = check_below(3) == 0 ? "sliding_window" : NULL;
    telling->event.window = telling->event.spec_kind == NULL ? -1 : 9;
    telling->event.medium = check_below(4) == 0 ? "CPU" : NULL;
    telling->event.lora_name = check_below(5) == 0 ? "adapter" : NULL;
    wire_batch_begin(&pack, batch, 3);
    wire_removed(&pack, telling->hashes, 1, telling->event.hash_bytes, NULL, -1, check_below(2) ? WIRE_MAP : 4);
    wire_stored(&pack, &telling->event, form);
    if (check_below(20) == 0)
      wire_cleared(&pack, 1);
    else
      wire_removed(&pack, telling->hashes, telling->event.hashes_count, telling->event.hash_bytes,
                   telling->event.medium, telling->event.group, WIRE_MAP);
    wire_batch_end(&pack, batch);
    add_frame(corpus, pack);
  }
  free(telling);
}

static void read_frames(struct corpus *corpus, const char *path) {
  FILE *file = fopen(path, "rb");
  uint8_t head[4];
  if (!CHECK(file != NULL)) return;
  while (fread(head, 1, 4, file) == 4) {
    size_t bytes = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
    struct pack pack = {check_alloc(bytes), bytes, bytes};
    CHECK_EQUAL(fread(pack.at, 1, bytes, file), bytes);
    add_frame(corpus, pack);
  }
  fclose(file);
}

/* One index's life under broken frames. */
static void one_life(const struct corpus *corpus, unsigned frames) {
  kvs_options options = {.seed = 42, .bytes_max = check_below(2) ? 0 : 200000 + check_below(2000000)};
  struct scene scene = scene_begin(&options, 4);
  unsigned start = (unsigned)check_below(corpus->count);
  for (unsigned i = 0; i < frames; i++) {
    struct pack work = {0};
    const struct pack *from = &corpus->frames[(start + i) % corpus->count];
    uint32_t engine = (uint32_t)check_below(4);
    uint8_t *exact;
    kvs_applied applied;
    pack_raw(&work, from->at, from->bytes);
    if (work.bytes > 0 && check_below(3) != 0) mutate(&work);
    /* At the end of an allocation of its own, so that a sanitizer sees a read behind it. */
    exact = check_alloc(work.bytes);
    memcpy(exact, work.at, work.bytes);
    CHECK_EQUAL(
        kvs_index_apply(scene.index, engine, exact, work.bytes, check_below(2) ? -1 : (int64_t)i, &applied),
        KVS_OK);
    free(exact);
    pack_end(&work);
    switch (check_below(200)) {
      case 0: CHECK_EQUAL(kvs_index_clear(scene.index, engine, NULL, 0), KVS_OK); break;
      case 1: CHECK_EQUAL(kvs_index_restart(scene.index, engine), KVS_OK); break;
      case 2: CHECK_EQUAL(kvs_index_doubt(scene.index, engine, NULL, 0), KVS_OK); break;
      default: (void)match(&scene, engine, 1 + (uint32_t)check_below(30), 12); break;
    }
    if (i % 100 == 0) books_balance(scene.index, 4);
  }
  books_balance(scene.index, 4);
  if (options.bytes_max > 0) CHECK(stats_of(&scene).bytes_peak <= options.bytes_max);
  for (uint32_t engine = 0; engine < 4; engine++)
    if (check_below(2)) CHECK_EQUAL(kvs_index_engine_remove(scene.index, engine), KVS_OK);
  scene_end(&scene);
}

static void broken_frames(void) {
  struct corpus *corpus = check_alloc(sizeof *corpus);
  const char *path = getenv("KVSYNC_FUZZ_CORPUS"), *seconds = getenv("KVSYNC_FUZZ_SECONDS");
  time_t end = time(NULL) + (seconds == NULL ? 0 : strtol(seconds, NULL, 10));
  if (seconds != NULL) check_takes_its_time();
  corpus->count = 0;
  if (path == NULL)
    make_frames(corpus);
  else
    read_frames(corpus, path);
  for (unsigned life = 0; check_state.failures == 0 && (life < 30 || time(NULL) < end); life++)
    one_life(corpus, 800);
  for (unsigned i = 0; i < corpus->count; i++) pack_end(&corpus->frames[i]);
  free(corpus);
}

void tests_of_fuzz(void) { RUN("fuzz: broken frames leave a sound index", broken_frames); }
