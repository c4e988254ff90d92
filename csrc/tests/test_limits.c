/* What a stranger can drive to its limit, and what the index does there (docs/design/index.md). */
#include "check.h"
#include "failing.h"
#include "index.h" /* only for how tables are divided */
#include "notation.h"
#include "scene.h"

/* More doubts than an entry's epoch can count. */
static void doubts_beyond_the_epochs(void) {
  struct scene scene = scene_begin(NULL, 1);
  store(&scene, 0, 1, 0, 4);
  for (unsigned i = 0; i < 600; i++) {
    store(&scene, 0, 2, 0, 1); /* something certain, so that a doubt has work to do */
    CHECK_EQUAL(kvs_index_doubt(scene.index, 0, NULL, 0), KVS_OK);
    CHECK_EQUAL(medium_of(&scene, 0, "GPU").doubtful, 5);
    CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_STALE);
    if (i % 100 == 99) {
      store(&scene, 0, 1, i / 100 % 4, i / 100 % 4 + 1);
      CHECK_EQUAL(medium_of(&scene, 0, "GPU").doubtful, 4);
    }
  }
  CHECK_EQUAL(match(&scene, 0, 1, 4), 4);
  for (unsigned i = 0; i < 300; i++) CHECK_EQUAL(kvs_index_doubt(scene.index, 0, NULL, 0), KVS_OK);
  store(&scene, 0, 1, 0, 4);
  store(&scene, 0, 2, 0, 1);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_PARTIAL); /* no doubtful entry is left */
  CHECK_EQUAL(medium_of(&scene, 0, "GPU").doubtful, 0);
  scene_end(&scene);
}

/* A removed block stays known until its frame ends: the same frame may move it to the CPU, the next one may not. */
static void removals_are_known_for_a_frame(void) {
  struct scene scene = scene_begin(NULL, 1);
  for (uint32_t prompt = 1000; prompt < 6000; prompt++) {
    store(&scene, 0, prompt, 0, 1);
    drop(&scene, 0, prompt, 0, 1, "GPU");
    place(&scene, 0, prompt, 0, 1, "CPU");
    CHECK_EQUAL(match(&scene, 0, prompt, 1), 0);
  }
  CHECK_EQUAL(status_of(&scene, 0).entries, 5000);
  CHECK_EQUAL(stats_of(&scene).blocks, 0);
  scene_end(&scene);
}

/* Beyond 16,384 orphans a block is held, and stays untied for good. */
static void orphans_beyond_their_number(void) {
  struct scene scene = scene_begin(NULL, 1);
  uint32_t more = 300;
  scene.next[0] = 5; /* a late joiner */
  for (uint32_t i = 0; i < KVS_ORPHANS_MAX + more; i++) store(&scene, 0, 1000 + i, 1, 2);
  CHECK_EQUAL(status_of(&scene, 0).orphans, KVS_ORPHANS_MAX);
  CHECK_EQUAL(status_of(&scene, 0).entries, KVS_ORPHANS_MAX + more);
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_ORPHANS_DROPPED), more);
  for (uint32_t i = 0; i < KVS_ORPHANS_MAX + more; i += i < KVS_ORPHANS_MAX - 5 ? 97 : 1) {
    store(&scene, 0, 1000 + i, 0, 1);
    CHECK_EQUAL(match(&scene, 0, 1000 + i, 2), i < KVS_ORPHANS_MAX ? 2 : 1);
  }
  store(&scene, 0, 1000 + KVS_ORPHANS_MAX + more - 1, 1, 2); /* told again, it can be tied */
  CHECK_EQUAL(match(&scene, 0, 1000 + KVS_ORPHANS_MAX + more - 1, 2), 2);
  scene_end(&scene);
}

/* One parent that thousands wait for, and one long line that joins at once. */
static void many_join_at_once(void) {
  struct scene scene = scene_begin(NULL, 1);
  struct telling telling;
  for (uint32_t i = 0; i < 5000; i++) {
    telling_begin(&telling, 1, 1, 2);
    telling.hashes[0] = 900000000 + i;
    telling.tokens[0] = i;
    tell_stored(&scene, 0, &telling.event, WIRE_MAP);
  }
  for (uint32_t block = 600; block-- > 1;) store(&scene, 0, 2, block, block + 1);
  CHECK_EQUAL(status_of(&scene, 0).orphans, 5000 + 599);
  store(&scene, 0, 1, 0, 1);
  store(&scene, 0, 2, 0, 1);
  CHECK_EQUAL(status_of(&scene, 0).orphans, 0);
  CHECK_EQUAL(match(&scene, 0, 2, 600), 600);
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_ORPHANS_JOINED), 5000 + 599);
  scene_end(&scene);
}

static kvs_applied store_on(struct scene *scene, uint32_t engine, const char *medium, int64_t group) {
  struct telling telling;
  telling_begin(&telling, 1, 0, 1);
  telling.event.medium = medium;
  telling.event.group = group;
  return tell_stored(scene, engine, &telling.event, WIRE_MAP);
}

static void the_ninth_medium(void) {
  struct scene scene = scene_begin(NULL, 2);
  char name[16];
  for (unsigned i = 0; i < KVS_MEDIA_MAX; i++) {
    snprintf(name, sizeof name, "tier %u", i);
    CHECK_EQUAL(store_on(&scene, 0, i == 0 ? NULL : name, -1).stored, 1);
  }
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_EXACT);
  CHECK_EQUAL(store_on(&scene, 0, "one more", -1).skipped, 1);
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_SKIPPED_LIMIT), 1);
  CHECK_EQUAL(status_of(&scene, 0).media_count, KVS_MEDIA_MAX);
  CHECK_EQUAL(status_of(&scene, 0).entries, KVS_MEDIA_MAX);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_STALE);
  CHECK_EQUAL(store_on(&scene, 0, "TIER 3", -1).stored, 1);
  CHECK_EQUAL(store_on(&scene, 1, "one more", -1).stored, 1); /* another engine has its own eight */
  scene_end(&scene);
}

/* A 33rd kind is skipped whole: a medium that only it named does not come to exist. */
static void the_thirty_third_kind(void) {
  struct scene scene = scene_begin(NULL, 1);
  struct pack removed = notation("[1.5, [['BlockRemoved', [1], 'CPU', 0]]]");
  for (int64_t group = 0; group < KVS_KINDS_MAX; group++)
    CHECK_EQUAL(store_on(&scene, 0, NULL, group * 2000).stored, 1);
  CHECK_EQUAL(store_on(&scene, 0, NULL, 1).skipped, 1);
  CHECK_EQUAL(store_on(&scene, 0, "CPU", 0).skipped, 1);
  CHECK_EQUAL(tell(&scene, 0, &removed).skipped, 1);
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_SKIPPED_LIMIT), 3);
  CHECK_EQUAL(status_of(&scene, 0).media_count, 1);
  CHECK_EQUAL(status_of(&scene, 0).entries, KVS_KINDS_MAX);
  CHECK_EQUAL(store_on(&scene, 0, NULL, 62000).stored, 1);
  scene_end(&scene);
}

/* Asking for media that nobody named leaves no trace, however many names are tried. */
static void names_that_are_only_asked_for(void) {
  struct scene scene = scene_begin(NULL, 1);
  char name[KVS_MEDIUM_BYTES_MAX + 8];
  for (unsigned i = 0; i < 1000; i++) {
    snprintf(name, sizeof name, "name %u", i);
    CHECK_EQUAL(kvs_index_doubt(scene.index, 0, name, strlen(name)), KVS_ERR_ARGUMENT);
    CHECK_EQUAL(kvs_index_clear(scene.index, 0, name, strlen(name)), KVS_ERR_ARGUMENT);
  }
  memset(name, 'x', sizeof name);
  CHECK_EQUAL(kvs_index_clear(scene.index, 0, name, KVS_MEDIUM_BYTES_MAX + 1), KVS_ERR_ARGUMENT);
  CHECK_EQUAL(kvs_index_clear(scene.index, 0, "G\0PU", 4), KVS_ERR_ARGUMENT);
  CHECK_EQUAL(say_cleared(&scene, 0).skipped, 0);
  CHECK_EQUAL(store_on(&scene, 0, "name 7", -1).stored, 1);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_EXACT);
  scene_end(&scene);
}

static void the_last_number_there_is(void) {
  struct scene scene = scene_begin(NULL, 1);
  struct pack empty = notation("[1.5, []]");
  kvs_applied applied;
  static const int64_t numbers[] = {INT64_MAX - 1, INT64_MAX, -1, INT64_MAX, 0};
  for (unsigned i = 0; i < 5; i++)
    CHECK_EQUAL(kvs_index_apply(scene.index, 0, empty.at, empty.bytes, numbers[i], &applied), KVS_OK);
  CHECK_EQUAL(status_of(&scene, 0).sequence, INT64_MAX);
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_DUPLICATE), 2);
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_GAPS), 0);
  pack_end(&empty);
  scene_end(&scene);
}

/* Sizes whose common multiple is 2**64 + 4: no prompt is whole in all of them. */
static void block_sizes_with_no_common_multiple(void) {
  static const uint32_t sizes[] = {5581, 8681, 384773, 989540};
  struct scene scene = scene_begin(NULL, 1);
  uint32_t *tokens = check_alloc(1000000 * sizeof *tokens);
  kvs_query query = {.tokens = tokens, .tokens_count = 1000000, .model = SCENE_MODEL, .model_bytes = 5};
  memset(tokens, 0, 1000000 * sizeof *tokens);
  for (unsigned i = 0; i < 4; i++) {
    struct wire_stored event = {WIRE_NIL};
    uint64_t hash = i;
    event.hashes = &hash;
    event.hashes_count = 1;
    event.tokens = tokens;
    event.tokens_count = event.block_size = sizes[i];
    event.group = i;
    CHECK_EQUAL(tell_stored(&scene, 0, &event, WIRE_MAP).stored, 1);
    CHECK_EQUAL(ask(&scene, 0, &query, NULL).blocks, i == 0 ? 1 : 0);
  }
  free(tokens);
  scene_end(&scene);
}

/* A hundred contexts at once: each has a chain of its own. */
static void many_chains(void) {
  struct scene scene = scene_begin(NULL, 60);
  uint32_t tokens[600];
  kvs_query query = {.tokens = tokens, .tokens_count = 600, .model = SCENE_MODEL, .model_bytes = 5};
  for (uint32_t i = 0; i < 600; i++) tokens[i] = i;
  for (uint32_t engine = 0; engine < 60; engine++) {
    struct wire_stored event = {WIRE_NIL};
    uint64_t hash = 7;
    event.hashes = &hash;
    event.hashes_count = 1;
    event.tokens = tokens;
    event.tokens_count = event.block_size = engine + 1;
    tell_stored(&scene, engine, &event, engine % 3 == 0 ? 8 : WIRE_MAP);
  }
  for (uint32_t engine = 0; engine < 60; engine++) {
    CHECK_EQUAL(ask(&scene, engine, &query, NULL).blocks, 1);
    CHECK_EQUAL(ask(&scene, engine, &query, NULL).tokens, engine + 1);
  }
  scene_end(&scene);
}

/* An event of more blocks than any slice, from and to which readers may look. */
static void one_event_of_many_blocks(void) {
  enum { MANY = 50000 };
  struct scene scene = scene_begin(NULL, 1);
  uint64_t *hashes = check_alloc(MANY * sizeof *hashes);
  uint32_t *tokens = check_alloc(MANY * sizeof *tokens);
  struct wire_stored event = {WIRE_NIL};
  kvs_query query = {.tokens = tokens, .tokens_count = MANY, .model = SCENE_MODEL, .model_bytes = 5};
  struct pack pack = {0};
  for (uint32_t i = 0; i < MANY; i++) {
    hashes[i] = check_random();
    tokens[i] = i;
  }
  event.hashes = hashes;
  event.hashes_count = event.tokens_count = MANY;
  event.tokens = tokens;
  event.block_size = 1;
  CHECK_EQUAL(tell_stored(&scene, 0, &event, WIRE_MAP).stored, MANY);
  CHECK_EQUAL(ask(&scene, 0, &query, NULL).blocks, MANY);
  CHECK_EQUAL(tell_stored(&scene, 0, &event, WIRE_MAP).reannounced, MANY);
  wire_batch_begin(&pack, WIRE_BATCH_3, 1);
  wire_removed(&pack, hashes, MANY, 0, NULL, -1, 3);
  wire_batch_end(&pack, WIRE_BATCH_3);
  CHECK_EQUAL(tell(&scene, 0, &pack).removed, MANY);
  CHECK_EQUAL(stats_of(&scene).entries, 0);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_EXACT);
  free(hashes);
  free(tokens);
  scene_end(&scene);
}

/* Hashes chosen so that a map that mixes them without our seed has them all in one place: what an engine makes cost a day
 * that way takes longer than a test may. They get second copies, lose them, go, and are moved in the frame in which they went. */
static void hashes_crafted_to_meet(void) {
  enum { HASHES = 200000 };
  struct scene scene = scene_begin(NULL, 1);
  uint64_t *hashes = check_alloc(HASHES * sizeof *hashes);
  uint32_t *tokens = check_alloc(HASHES * sizeof *tokens);
  struct wire_stored event = {WIRE_NIL, .hashes = hashes, .hashes_count = HASHES};
  struct pack pack = {0};
  for (uint32_t i = 0; i < HASHES; i++) {
    hashes[i] = (i + 1) * UINT64_C(0xf1de83e19937733d); /* the inverse of what map.c multiplies by */
    tokens[i] = i;
  }
  CHECK_EQUAL(tell_stored(&scene, 0, &event, WIRE_MAP).stored, HASHES);
  CHECK_EQUAL(tell_stored(&scene, 0, &event, WIRE_MAP).stored, HASHES);
  CHECK_EQUAL(copies_of(&scene, 0, "GPU", 0, hashes[HASHES - 1]), 2);
  event.tokens = tokens;
  event.tokens_count = HASHES;
  event.block_size = 1;
  tell_stored(&scene, 0, &event, WIRE_MAP);
  wire_batch_begin(&pack, WIRE_BATCH_3, 3);
  for (unsigned i = 0; i < 2; i++) wire_removed(&pack, hashes, HASHES, 0, "GPU", -1, WIRE_MAP);
  event.medium = "CPU";
  event.tokens_count = event.block_size = 0;
  wire_stored(&pack, &event, WIRE_MAP);
  wire_batch_end(&pack, WIRE_BATCH_3);
  CHECK_EQUAL(tell(&scene, 0, &pack).removed, 2 * HASHES);
  CHECK_EQUAL(status_of(&scene, 0).entries, HASHES);
  CHECK_EQUAL(stats_of(&scene).blocks, HASHES); /* the CPU knows what they are, because the frame did */
  free(hashes);
  free(tokens);
  scene_end(&scene);
}

/* However much one call or one event has to do, readers are let in after KVS_SLICE_BLOCKS blocks, or what costs as much: a
 * bucket that is looked through, a removal that is filed, an eighth of a segment that moves. */
static void readers_are_let_in(void) {
  enum { PROMPTS = 80, LENGTH = 500, HELD = PROMPTS * LENGTH, BUCKETS = HELD / KVS__BUCKET_ITEMS };
  kvs_options options = {.seed = 42, .entries_max = HELD};
  struct scene scene = scene_begin(&options, 1);
  uint64_t before, held;
  for (uint32_t prompt = 1; prompt <= PROMPTS; prompt++) store(&scene, 0, 100 + prompt, 0, LENGTH);
  before = failing_let_in();
  store(&scene, 0, 1000, 0, 1); /* an eighth goes: all are counted, and all are looked at again */
  CHECK(stats_of(&scene).evicted > HELD / 8);
  CHECK(failing_let_in() - before > (2 * BUCKETS + HELD / 8) / KVS_SLICE_BLOCKS);
  held = stats_of(&scene).entries;
  before = failing_let_in();
  CHECK_EQUAL(kvs_index_clear(scene.index, 0, NULL, 0), KVS_OK); /* each goes, and then its segment */
  CHECK(failing_let_in() - before > (held + held / KVS__UNIT_ITEMS) / KVS_SLICE_BLOCKS);
  scene_end(&scene);
}

static void readers_are_let_in_while_removals_are_filed(void) {
  enum { REMOVED = 500 };
  struct scene scene = scene_begin(NULL, 1);
  struct wire_stored moved = {WIRE_NIL};
  struct pack pack = {0};
  uint64_t hashes[REMOVED], before;
  for (uint32_t i = 0; i < REMOVED; i++) hashes[i] = block_name(1, i);
  store(&scene, 0, 1, 0, REMOVED);
  moved.hashes = hashes;
  moved.hashes_count = 1;
  moved.medium = "CPU";
  wire_batch_begin(&pack, WIRE_BATCH_3, 2);
  wire_removed(&pack, hashes, REMOVED, 0, "GPU", -1, WIRE_MAP);
  wire_stored(&pack, &moved, WIRE_MAP);
  wire_batch_end(&pack, WIRE_BATCH_3);
  before = failing_let_in();
  tell(&scene, 0, &pack);
  CHECK(failing_let_in() - before > 3 * REMOVED / KVS_SLICE_BLOCKS); /* removed, filed, let go of */
  scene_end(&scene);
}

void tests_of_limits(void) {
  RUN("limits: more doubts than an entry can count", doubts_beyond_the_epochs);
  RUN("limits: a removal is known until its frame ends", removals_are_known_for_a_frame);
  RUN("limits: more orphans than are kept", orphans_beyond_their_number);
  RUN("limits: many orphans join at once", many_join_at_once);
  RUN("limits: the ninth medium", the_ninth_medium);
  RUN("limits: the thirty-third kind", the_thirty_third_kind);
  RUN("limits: names that are only asked for", names_that_are_only_asked_for);
  RUN("limits: the last number there is", the_last_number_there_is);
  RUN("limits: block sizes without a common multiple", block_sizes_with_no_common_multiple);
  RUN("limits: many chains", many_chains);
  RUN("limits: hashes crafted to meet", hashes_crafted_to_meet);
  RUN("limits: one event of many blocks", one_event_of_many_blocks);
  RUN("limits: readers are let in, whatever there is to do", readers_are_let_in);
  RUN("limits: readers are let in while removals are filed", readers_are_let_in_while_removals_are_filed);
}
