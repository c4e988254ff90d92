/* The index by its public header: what is stored, removed, cleared and told, and what a match then says. */
#include "check.h"
#include "kvsync.h"
#include "notation.h"
#include "scene.h"

/* ---- blocks ---- */

static void store_and_match(void) {
  struct scene scene = scene_begin(NULL, 2);
  kvs_match_medium media[KVS_MEDIA_MAX];
  kvs_match_row row;
  CHECK_EQUAL(match(&scene, 0, 1, 8), 0);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_UNKNOWN);
  CHECK_EQUAL(store(&scene, 0, 1, 0, 8).stored, 8);
  for (uint32_t blocks = 0; blocks <= 12; blocks++)
    CHECK_EQUAL(match(&scene, 0, 1, blocks), blocks < 8 ? blocks : 8);
  CHECK_EQUAL(match(&scene, 0, 10, 8), SCENE_SHARED);
  CHECK_EQUAL(match(&scene, 0, 2, 8), 0);
  CHECK_EQUAL(match(&scene, 1, 1, 8), 0);
  row = ask_prompt(&scene, 0, 1, 9, media);
  CHECK_EQUAL(row.blocks, 8);
  CHECK_EQUAL(row.tokens, 8 * SCENE_BLOCK);
  CHECK_EQUAL(row.certain, 1);
  CHECK_EQUAL(row.trust, KVS_TRUST_EXACT);
  CHECK_EQUAL(row.media_count, 1);
  CHECK_EQUAL(media[0].blocks, 8);
  CHECK(strcmp(kvs_index_medium_name(scene.index, media[0].medium), "GPU") == 0);
  CHECK_EQUAL(status_of(&scene, 0).block_size, SCENE_BLOCK);
  CHECK_EQUAL(status_of(&scene, 0).dialect, KVS_DIALECT_TAGGED);
  CHECK_EQUAL(stats_of(&scene).blocks, 8);
  scene_end(&scene);
}

/* A block that is half there is not there. */
static void part_of_a_block_never_matches(void) {
  struct scene scene = scene_begin(NULL, 1);
  uint32_t tokens[8 * SCENE_BLOCK];
  prompt_tokens(1, tokens, 8 * SCENE_BLOCK);
  store(&scene, 0, 1, 0, 8);
  for (uint32_t count = 0; count <= 8 * SCENE_BLOCK; count++) {
    kvs_query query = {.tokens = tokens, .tokens_count = count, .model = SCENE_MODEL, .model_bytes = 5};
    CHECK_EQUAL(ask(&scene, 0, &query, NULL).blocks, count / SCENE_BLOCK);
  }
  for (uint32_t place = 0; place < 8 * SCENE_BLOCK; place++) {
    kvs_query query = {
        .tokens = tokens, .tokens_count = 8 * SCENE_BLOCK, .model = SCENE_MODEL, .model_bytes = 5};
    tokens[place] ^= 1;
    CHECK_EQUAL(ask(&scene, 0, &query, NULL).blocks, place / SCENE_BLOCK);
    tokens[place] ^= 1;
  }
  scene_end(&scene);
}

static void holes_cut_and_heal(void) {
  struct scene scene = scene_begin(NULL, 1);
  store(&scene, 0, 1, 0, 8);
  for (uint32_t hole = 0; hole < 8; hole++) {
    CHECK_EQUAL(drop(&scene, 0, 1, hole, hole + 1, "GPU").removed, 1);
    CHECK_EQUAL(match(&scene, 0, 1, 8), hole);
    CHECK_EQUAL(store(&scene, 0, 1, hole, hole + 1).stored, 1);
    CHECK_EQUAL(match(&scene, 0, 1, 8), 8);
  }
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_EXACT);
  scene_end(&scene);
}

static void copies_are_counted(void) {
  struct scene scene = scene_begin(NULL, 1);
  store(&scene, 0, 1, 0, 1);
  for (unsigned copy = 2; copy <= 5; copy++) {
    CHECK_EQUAL(store(&scene, 0, 1, 0, 1).stored, 1);
    CHECK_EQUAL(copies_of(&scene, 0, "GPU", 0, block_name(1, 0)), copy);
  }
  for (unsigned left = 5; left-- > 0;) {
    CHECK_EQUAL(match(&scene, 0, 1, 1), 1);
    CHECK_EQUAL(drop(&scene, 0, 1, 0, 1, NULL).removed, 1);
    CHECK_EQUAL(copies_of(&scene, 0, "GPU", 0, block_name(1, 0)), left);
  }
  CHECK_EQUAL(match(&scene, 0, 1, 1), 0);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_EXACT);
  /* One removal too many is evidence that something was missed. */
  CHECK_EQUAL(drop(&scene, 0, 1, 0, 1, NULL).removed, 0);
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_REMOVED_UNKNOWN), 1);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_PARTIAL); /* stale, but nothing is held that could be untrue */
  CHECK_EQUAL(medium_of(&scene, 0, "GPU").reason, KVS_REASON_REMOVED_UNKNOWN);
  scene_end(&scene);
}

static void reannouncements_add_no_copy(void) {
  struct scene scene = scene_begin(NULL, 1);
  kvs_applied applied;
  store(&scene, 0, 1, 0, 4);
  applied = store(&scene, 0, 1, 0, 4);
  CHECK_EQUAL(applied.reannounced, 4);
  CHECK_EQUAL(applied.stored, 0);
  CHECK_EQUAL(copies_of(&scene, 0, "GPU", 0, block_name(1, 3)), 1);
  /* Not all of them held: then it is a store. */
  applied = store(&scene, 0, 1, 0, 5);
  CHECK_EQUAL(applied.reannounced, 0);
  CHECK_EQUAL(applied.stored, 5);
  CHECK_EQUAL(copies_of(&scene, 0, "GPU", 0, block_name(1, 3)), 2);
  scene_end(&scene);
}

static void two_hashes_may_be_one_block(void) {
  struct scene scene = scene_begin(NULL, 1);
  struct telling other;
  store(&scene, 0, 1, 0, 3);
  telling_begin(&other, 1, 0, 3);
  for (unsigned i = 0; i < 3; i++) other.hashes[i] += 5000;
  CHECK_EQUAL(tell_stored(&scene, 0, &other.event, WIRE_MAP).stored, 3);
  CHECK_EQUAL(stats_of(&scene).blocks, 3);
  CHECK_EQUAL(stats_of(&scene).entries, 6);
  drop(&scene, 0, 1, 0, 3, NULL);
  CHECK_EQUAL(match(&scene, 0, 1, 3), 3);
  store(&scene, 0, 1, 0, 1); /* and once more under the first name */
  for (unsigned i = 0; i < 3; i++) {
    struct pack pack = {0};
    wire_batch_begin(&pack, WIRE_BATCH_3, 1);
    wire_removed(&pack, &other.hashes[i], 1, 0, NULL, -1, 4);
    wire_batch_end(&pack, WIRE_BATCH_3);
    tell(&scene, 0, &pack);
  }
  CHECK_EQUAL(match(&scene, 0, 1, 3), 1);
  CHECK_EQUAL(stats_of(&scene).blocks, 1);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_EXACT);
  scene_end(&scene);
}

static void the_later_word_about_a_hash_wins(void) {
  struct scene scene = scene_begin(NULL, 1);
  struct telling other;
  store(&scene, 0, 1, 0, 2);
  telling_begin(&other, 2, 0, 2);
  for (unsigned i = 0; i < 2; i++) other.hashes[i] = block_name(1, i);
  tell_stored(&scene, 0, &other.event, WIRE_MAP);
  CHECK_EQUAL(match(&scene, 0, 1, 2), 0);
  CHECK_EQUAL(match(&scene, 0, 2, 2), 2);
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_RETIED), 2);
  CHECK_EQUAL(stats_of(&scene).blocks, 2);
  scene_end(&scene);
}

/* ---- orphans ---- */

#define LINE 5u

static void in_order(struct scene *scene, uint32_t engine, unsigned permutation) {
  unsigned left[LINE] = {0, 1, 2, 3, 4};
  for (unsigned count = LINE; count > 0; count--) {
    unsigned nth = permutation % count;
    permutation /= count;
    store(scene, engine, 1, left[nth], left[nth] + 1);
    left[nth] = left[count - 1];
  }
}

static void orphans_join_in_any_order(void) {
  for (unsigned permutation = 0; permutation < 120; permutation++) {
    struct scene scene = scene_begin(NULL, 1);
    in_order(&scene, 0, permutation);
    CHECK_EQUAL(match(&scene, 0, 1, LINE), LINE);
    CHECK_EQUAL(status_of(&scene, 0).orphans, 0);
    CHECK_EQUAL(status_of(&scene, 0).entries, LINE);
    scene_end(&scene);
  }
}

static void an_orphan_waits_and_is_forgotten(void) {
  struct scene scene = scene_begin(NULL, 1);
  store(&scene, 0, 3, 0, 1);
  store(&scene, 0, 1, 1, 4);
  CHECK_EQUAL(status_of(&scene, 0).orphans, 3);
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_PARENT_MISSING), 1);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_STALE);
  CHECK_EQUAL(match(&scene, 0, 1, 4), 0); /* never at position 0 */
  drop(&scene, 0, 1, 2, 3, NULL);         /* the middle one goes; the last still waits for it */
  CHECK_EQUAL(status_of(&scene, 0).orphans, 2);
  store(&scene, 0, 1, 0, 1);
  CHECK_EQUAL(match(&scene, 0, 1, 4), 2);
  CHECK_EQUAL(status_of(&scene, 0).orphans, 1);
  store(&scene, 0, 1, 2, 3);
  CHECK_EQUAL(match(&scene, 0, 1, 4), 4);
  CHECK_EQUAL(status_of(&scene, 0).orphans, 0);
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_ORPHANS_JOINED), 2);
  scene_end(&scene);
}

/* ---- media ---- */

static void placeholders_follow_the_hash(void) {
  struct scene scene = scene_begin(NULL, 1);
  kvs_match_medium media[KVS_MEDIA_MAX];
  kvs_match_row row;
  store(&scene, 0, 1, 0, 6);
  place(&scene, 0, 1, 0, 4, "cpu");
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_PLACEHOLDERS), 4);
  drop(&scene, 0, 1, 2, 6, "GPU");
  row = ask_prompt(&scene, 0, 1, 6, media);
  CHECK_EQUAL(row.blocks, 4); /* two on the GPU, two only on the CPU */
  CHECK_EQUAL(row.media_count, 2);
  CHECK_EQUAL(media[0].blocks, 2);
  CHECK_EQUAL(media[1].blocks, 2);
  CHECK(strcmp(kvs_index_medium_name(scene.index, media[1].medium), "CPU") == 0);
  /* A hash removed from the GPU in the same frame is still known. */
  store(&scene, 0, 1, 4, 6);
  move(&scene, 0, 1, 4, 6, "CPU");
  CHECK_EQUAL(match(&scene, 0, 1, 6), 6);
  /* One never heard of is held, and tied when its tokens come. */
  place(&scene, 0, 2, 0, 2, "STORAGE");
  CHECK_EQUAL(match(&scene, 0, 2, 2), 0);
  store(&scene, 0, 2, 0, 2);
  drop(&scene, 0, 2, 0, 2, "GPU");
  row = ask_prompt(&scene, 0, 2, 2, media);
  CHECK_EQUAL(row.blocks, 2);
  CHECK(strcmp(kvs_index_medium_name(scene.index, media[0].medium), "STORAGE") == 0);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_EXACT);
  scene_end(&scene);
}

static void masked_stores_are_held_and_tied_to_nothing(void) {
  struct scene scene = scene_begin(NULL, 1);
  struct telling telling;
  telling_begin(&telling, 1, 0, 4);
  telling.event.hashes_count = 3; /* tokens of four blocks */
  CHECK_EQUAL(tell_stored(&scene, 0, &telling.event, WIRE_MAP).stored, 3);
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_MASKED), 3);
  CHECK_EQUAL(match(&scene, 0, 1, 4), 0);
  CHECK_EQUAL(status_of(&scene, 0).entries, 3);
  CHECK_EQUAL(status_of(&scene, 0).block_size, 0);
  scene_end(&scene);
}

static void cleared_means_the_gpu(void) {
  struct scene scene = scene_begin(NULL, 2);
  store(&scene, 0, 1, 0, 200);
  store(&scene, 1, 1, 0, 200);
  place(&scene, 0, 1, 0, 3, "CPU");
  store(&scene, 0, 2, 3, 5); /* orphans go too */
  CHECK_EQUAL(say_cleared(&scene, 0).cleared, 202);
  CHECK_EQUAL(match(&scene, 0, 1, 200), 3);
  CHECK_EQUAL(match(&scene, 1, 1, 200), 200);
  CHECK_EQUAL(status_of(&scene, 0).orphans, 0);
  CHECK_EQUAL(medium_of(&scene, 0, "GPU").trust, KVS_TRUST_EXACT);
  CHECK_EQUAL(medium_of(&scene, 0, "CPU").trust, KVS_TRUST_STALE);
  CHECK_EQUAL(medium_of(&scene, 0, "CPU").reason, KVS_REASON_CLEARED_ABOVE);
  CHECK_EQUAL(medium_of(&scene, 0, "CPU").doubtful, 3);
  drop(&scene, 0, 1, 0, 3, "CPU");
  CHECK_EQUAL(medium_of(&scene, 0, "CPU").trust, KVS_TRUST_PARTIAL); /* no doubtful entry is left */
  store(&scene, 0, 1, 0, 7);
  CHECK_EQUAL(match(&scene, 0, 1, 200), 7);
  scene_end(&scene);
}

/* ---- numbers, lives, doubt ---- */

static void numbers_come_once_and_in_order(void) {
  struct scene scene = scene_begin(NULL, 1);
  store(&scene, 0, 1, 0, 2);
  scene.next[0] = 0;
  CHECK_EQUAL(store(&scene, 0, 1, 2, 4).stored, 0); /* number 0 again */
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_DUPLICATE), 1);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_EXACT);
  CHECK_EQUAL(store(&scene, 0, 1, 2, 4).stored, 2);
  CHECK_EQUAL(status_of(&scene, 0).sequence, 1);
  scene.next[0] = 3;
  CHECK_EQUAL(store(&scene, 0, 1, 4, 6).stored, 2); /* number 2 never came */
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_GAPS), 1);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_STALE);
  CHECK_EQUAL(medium_of(&scene, 0, "GPU").doubtful, 4);
  CHECK_EQUAL(match(&scene, 0, 1, 6), 6); /* doubtful blocks count, and trust says so */
  scene.next[0] = -1;
  CHECK_EQUAL(store(&scene, 0, 2, 0, 1).stored, 1); /* no number at all is never a duplicate */
  CHECK_EQUAL(status_of(&scene, 0).sequence, 3);
  scene_end(&scene);
}

static void the_beginning_decides(void) {
  struct scene scene = scene_begin(NULL, 3);
  scene.next[1] = 5;
  scene.next[2] = -1;
  for (uint32_t engine = 0; engine < 3; engine++) {
    store(&scene, engine, 1, 0, 2);
    CHECK_EQUAL(trust_of(&scene, engine), engine == 0 ? KVS_TRUST_EXACT : KVS_TRUST_PARTIAL);
  }
  CHECK_EQUAL(medium_of(&scene, 1, "GPU").reason, KVS_REASON_BEGINNING);
  /* Known to be empty: any number goes on from there. */
  CHECK_EQUAL(kvs_index_clear(scene.index, 1, NULL, 0), KVS_OK);
  scene.next[1] = 1000;
  store(&scene, 1, 1, 0, 2);
  CHECK_EQUAL(trust_of(&scene, 1), KVS_TRUST_EXACT);
  scene_end(&scene);
}

static void a_restart_begins_anew(void) {
  struct scene scene = scene_begin(NULL, 2);
  store(&scene, 0, 1, 0, 300);
  store(&scene, 1, 1, 0, 2);
  place(&scene, 0, 2, 0, 3, "CPU");
  drop(&scene, 0, 1, 200, 300, NULL);
  CHECK_EQUAL(kvs_index_restart(scene.index, 0), KVS_OK);
  CHECK_EQUAL(match(&scene, 0, 1, 200), 0);
  CHECK_EQUAL(match(&scene, 1, 1, 2), 2);
  CHECK_EQUAL(status_of(&scene, 0).lives, 2);
  CHECK_EQUAL(status_of(&scene, 0).sequence, -1);
  CHECK_EQUAL(status_of(&scene, 0).entries, 0);
  CHECK_EQUAL(status_of(&scene, 0).dialect, KVS_DIALECT_NONE);
  CHECK_EQUAL(status_of(&scene, 0).media_count, 1);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_PARTIAL);
  scene.next[0] = 0;
  store(&scene, 0, 1, 0, 3);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_EXACT);
  CHECK_EQUAL(match(&scene, 0, 1, 200), 3);
  scene_end(&scene);
}

static void doubt_and_its_end(void) {
  struct scene scene = scene_begin(NULL, 1);
  store(&scene, 0, 1, 0, 1);
  store(&scene, 0, 1, 0, 1);
  store(&scene, 0, 1, 1, 3);
  CHECK_EQUAL(kvs_index_doubt(scene.index, 0, "CPU", 3), KVS_ERR_ARGUMENT);
  CHECK_EQUAL(kvs_index_doubt(scene.index, 0, "gpu", 3), KVS_OK);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_STALE);
  CHECK_EQUAL(medium_of(&scene, 0, "GPU").reason, KVS_REASON_TOLD);
  CHECK_EQUAL(store(&scene, 0, 1, 1, 2).stored, 1); /* clears its doubt, and counts from one */
  CHECK_EQUAL(copies_of(&scene, 0, "GPU", 0, block_name(1, 1)), 1);
  drop(&scene, 0, 1, 0, 1, NULL); /* two copies, but doubtful: gone at once */
  CHECK_EQUAL(copies_of(&scene, 0, "GPU", 0, block_name(1, 0)), 0);
  CHECK_EQUAL(medium_of(&scene, 0, "GPU").doubtful, 1);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_STALE);
  store(&scene, 0, 1, 2, 3);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_PARTIAL);
  CHECK_EQUAL(kvs_index_clear(scene.index, 0, "GPU", 3), KVS_OK);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_EXACT);
  CHECK_EQUAL(status_of(&scene, 0).entries, 0);
  scene_end(&scene);
}

/* ---- engines ---- */

static void engines_go_without_a_trace(void) {
  struct scene scene = scene_begin(NULL, 3);
  uint64_t before;
  uint32_t fresh = 0;
  store(&scene, 1, 1, 0, 100);
  before = stats_of(&scene).bytes;
  store(&scene, 0, 1, 0, 500);
  store(&scene, 0, 10, 0, 90);
  store(&scene, 2, 10, 0, 90);
  place(&scene, 0, 1, 0, 90, "CPU");
  CHECK_EQUAL(kvs_index_engine_remove(scene.index, 0), KVS_OK);
  CHECK_EQUAL(kvs_index_engine_remove(scene.index, 0), KVS_ERR_ENGINE);
  CHECK_EQUAL(kvs_index_engine_remove(scene.index, 2), KVS_OK);
  CHECK_EQUAL(match(&scene, 1, 1, 500), 100);
  CHECK_EQUAL(match(&scene, 1, 10, 90), SCENE_SHARED);
  CHECK_EQUAL(stats_of(&scene).engines, 1);
  CHECK_EQUAL(stats_of(&scene).blocks, 100);
  CHECK_EQUAL(stats_of(&scene).entries, 100);
  CHECK(stats_of(&scene).bytes <= before + 16384);
  CHECK_EQUAL(kvs_index_engine_add(scene.index, SCENE_MODEL, 5, &fresh), KVS_OK);
  CHECK_EQUAL(fresh, 3); /* a number is never another engine's */
  scene_end(&scene);
}

static void batches_are_timed_by_their_stamp(void) {
  struct scene scene = scene_begin(NULL, 1);
  /* [stamp, []]: 1.5 as eight bytes, as four, cut; an integer; none; in the year 33658; infinite */
  static const uint8_t wide[] = {0x92, 0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0x90},
                       narrow[] = {0x92, 0xca, 0x3f, 0xc0, 0, 0, 0x90}, cut[] = {0x92, 0xcb, 0x3f},
                       number[] = {0x92, 0x07, 0x90}, nil[] = {0x92, 0xc0, 0x90},
                       future[] = {0x92, 0xcf, 0, 0, 0, 0xe8, 0xd4, 0xa5, 0x10, 0, 0x90},
                       endless[] = {0x92, 0xca, 0x7f, 0x80, 0, 0, 0x90};
  static const struct {
    const uint8_t *bytes;
    size_t count;
  } frames[] = {{wide, sizeof wide}, {narrow, sizeof narrow}, {cut, sizeof cut},        {number, sizeof number},
                {nil, sizeof nil},   {future, sizeof future}, {endless, sizeof endless}};
  kvs_engine_status status;
  kvs_applied applied;
  for (int64_t i = 0; i < (int64_t)(sizeof frames / sizeof *frames); i++)
    CHECK_EQUAL(kvs_index_apply(scene.index, 0, frames[i].bytes, frames[i].count, i, &applied), KVS_OK);
  CHECK_EQUAL(kvs_index_engine_status(scene.index, 0, &status), KVS_OK);
  CHECK_EQUAL(status.lag.counts[KVS_LAG_COUNTS - 1], 3); /* half a century late */
  CHECK_EQUAL(status.lag.counts[0], 1);
  CHECK_EQUAL(status.lag.ahead, 1);
  CHECK(status.lag.last < 0 && status.lag.seconds > 3e9);
  for (unsigned i = 1; i < KVS_LAG_COUNTS; i++) CHECK(kvs_lag_bound(i - 1) < kvs_lag_bound(i));
  scene_end(&scene);
}

static void unknown_engines_change_nothing(void) {
  struct scene scene = scene_begin(NULL, 1);
  kvs_applied applied = {7, 7, 7, 7, 7};
  kvs_engine_status status = {.sequence = 7};
  kvs_medium_status medium = {.entries = 7};
  const kvs_export *list = NULL;
  uint8_t trust = 7, payload[] = {0x92, 0x01, 0x90};
  CHECK_EQUAL(kvs_index_apply(scene.index, 1, payload, sizeof payload, 0, &applied), KVS_ERR_ENGINE);
  CHECK_EQUAL(applied.stored, 7);
  CHECK_EQUAL(kvs_index_clear(scene.index, 1, NULL, 0), KVS_ERR_ENGINE);
  CHECK_EQUAL(kvs_index_restart(scene.index, UINT32_MAX), KVS_ERR_ENGINE);
  CHECK_EQUAL(kvs_index_doubt(scene.index, 1, "GPU", 3), KVS_ERR_ENGINE);
  CHECK_EQUAL(kvs_index_engine_status(scene.index, 1, &status), KVS_ERR_ENGINE);
  CHECK_EQUAL(kvs_index_medium_status(scene.index, 1, 0, &medium), KVS_ERR_ENGINE);
  CHECK_EQUAL(kvs_index_trust(scene.index, 1, &trust), KVS_ERR_ENGINE);
  CHECK_EQUAL(kvs_index_export(scene.index, 1, &list), KVS_ERR_ENGINE);
  CHECK(status.sequence == 7 && medium.entries == 7 && trust == 7 && list == NULL);
  CHECK_EQUAL(kvs_index_medium_status(scene.index, 0, 0, &medium), KVS_ERR_ARGUMENT);
  CHECK(kvs_index_medium_name(scene.index, 12345) == NULL);
  scene_end(&scene);
}

static void only_those_asked_answer(void) {
  struct scene scene = scene_begin(NULL, 4);
  uint32_t tokens[3 * SCENE_BLOCK], asked[] = {3, 1, 1, 99};
  const kvs_matches *matches = NULL;
  kvs_query query = {.tokens = tokens,
                     .tokens_count = 3 * SCENE_BLOCK,
                     .model = SCENE_MODEL,
                     .model_bytes = 5,
                     .engines = asked,
                     .engines_count = 4};
  prompt_tokens(1, tokens, 3 * SCENE_BLOCK);
  for (uint32_t engine = 0; engine < 4; engine++) store(&scene, engine, 1, 0, 1 + engine % 3);
  CHECK_EQUAL(kvs_index_match(scene.index, &query, &matches), KVS_OK);
  CHECK_EQUAL(matches->rows_count, 2);
  for (uint32_t i = 0; i < matches->rows_count; i++)
    CHECK_EQUAL(matches->rows[i].blocks, 1 + matches->rows[i].engine % 3);
  kvs_matches_free(matches);
  query.engines_count = 0; /* asking nobody is not asking all */
  CHECK_EQUAL(kvs_index_match(scene.index, &query, &matches), KVS_OK);
  CHECK_EQUAL(matches->rows_count, 0);
  kvs_matches_free(matches);
  scene_end(&scene);
}

/* ---- hashes ---- */

/* For each length, two hashes that differ in one byte; an integer equals none of them. */
static void hashes_of_every_length(void) {
  struct scene scene = scene_begin(NULL, 1);
  const kvs_export *list = NULL;
  struct telling telling;
  uint64_t removed = 0;
  for (unsigned length = 0; length <= KVS_HASH_BYTES_MAX; length++)
    for (uint32_t number = 1; number <= 2; number++) {
      telling_begin(&telling, 100 + 2 * length + number, 0, 1);
      telling.hashes[0] = number;
      telling.event.hash_bytes = length;
      CHECK_EQUAL(tell_stored(&scene, 0, &telling.event, WIRE_MAP).stored, 1);
    }
  CHECK_EQUAL(status_of(&scene, 0).entries, 2 * (KVS_HASH_BYTES_MAX + 1));
  CHECK_EQUAL(kvs_index_export(scene.index, 0, &list), KVS_OK);
  for (uint64_t i = 0; i < list->rows_count; i++) {
    uint8_t bytes[KVS_HASH_BYTES_MAX];
    const kvs_export_row *row = &list->rows[i];
    uint64_t number = row->hash_bytes == 0 ? row->hash : list->bytes[row->hash];
    CHECK(number == 1 || number == 2);
    wire_hash_bytes(number, bytes, row->hash_bytes);
    if (row->hash_bytes > 0) CHECK(memcmp(list->bytes + row->hash, bytes, row->hash_bytes) == 0);
    CHECK(row->tied && row->copies == 1 && !row->doubtful);
  }
  kvs_export_free(list);
  for (unsigned length = 0; length <= KVS_HASH_BYTES_MAX; length++)
    for (uint64_t number = 1; number <= 2; number++) {
      struct pack pack = {0};
      wire_batch_begin(&pack, WIRE_BATCH_3, 1);
      wire_removed(&pack, &number, 1, length, NULL, -1, 2);
      wire_batch_end(&pack, WIRE_BATCH_3);
      CHECK_EQUAL(match(&scene, 0, 100 + 2 * length + (uint32_t)number, 1), 1);
      removed += tell(&scene, 0, &pack).removed;
      CHECK_EQUAL(match(&scene, 0, 100 + 2 * length + (uint32_t)number, 1), 0);
    }
  CHECK_EQUAL(removed, 2 * (KVS_HASH_BYTES_MAX + 1));
  scene_end(&scene);
}

static void signs_keep_their_bits(void) {
  struct scene scene = scene_begin(NULL, 1);
  struct telling telling;
  struct pack pack = {0};
  uint64_t hash = UINT64_MAX - 4;
  telling_begin(&telling, 1, 0, 1);
  telling.hashes[0] = hash;
  telling.event.is_signed = 1; /* -5 on the wire */
  tell_stored(&scene, 0, &telling.event, 6);
  CHECK_EQUAL(copies_of(&scene, 0, "GPU", 0, hash), 1);
  wire_batch_begin(&pack, WIRE_BATCH_2, 1);
  wire_removed(&pack, &hash, 1, 0, NULL, -1, 2); /* 2**64 - 5 */
  wire_batch_end(&pack, WIRE_BATCH_2);
  CHECK_EQUAL(tell(&scene, 0, &pack).removed, 1);
  scene_end(&scene);
}

/* ---- context ---- */

static uint32_t match_in(const struct scene *scene, const char *model, const char *lora, const char *salt,
                         const kvs_extra_key *extras, size_t extras_count, int *certain) {
  uint32_t tokens[3 * SCENE_BLOCK];
  kvs_query query = {.tokens = tokens,
                     .tokens_count = 3 * SCENE_BLOCK,
                     .model = model,
                     .model_bytes = strlen(model),
                     .lora = lora,
                     .lora_bytes = lora == NULL ? 0 : strlen(lora),
                     .cache_salt = salt,
                     .cache_salt_bytes = salt == NULL ? 0 : strlen(salt),
                     .extra_keys = extras,
                     .extra_keys_count = extras_count};
  kvs_match_row row;
  prompt_tokens(1, tokens, 3 * SCENE_BLOCK);
  row = ask(scene, 0, &query, NULL);
  *certain = row.certain;
  return row.blocks;
}

/* Four engines' worth of contexts in one: each query finds its own and no other. */
static void contexts_are_kept_apart(void) {
  static const struct {
    const char *lora_name, *salt, *extras; /* of the event */
    int64_t lora_id;
  } contexts[] = {
      {NULL, NULL, NULL, -1},
      {"adapter", NULL, NULL, -1},
      {NULL, "salt", NULL, -1},
      {NULL, NULL, "[['salt'], nil, nil]", -1}, /* the same salt, told as an extra key */
      {NULL, NULL, "[[['image', 2]], [['image', -2]], nil]", -1},
      {"adapter", NULL, "[['adapter', ['image', 2], 'salt'], ['adapter', ['image', -2]], ['adapter']]", -1},
      {NULL, NULL, NULL, 3}, /* an adapter known by number only, which nobody can ask for */
  };
  static const kvs_extra_key image = {"image", 5, 2, 4};
  for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++) {
    struct scene scene = scene_begin(NULL, 1);
    struct pack extras = {0};
    struct telling telling;
    int certain;
    telling_begin(&telling, 1, 0, 3);
    telling.event.lora_name = contexts[i].lora_name;
    telling.event.lora_id = contexts[i].lora_id;
    telling.event.cache_salt = contexts[i].salt;
    if (contexts[i].extras != NULL) extras = notation(contexts[i].extras);
    telling.event.extra_keys = (const char *)extras.at;
    telling.event.extra_keys_bytes = extras.bytes;
    tell_stored(&scene, 0, &telling.event, WIRE_MAP);
    CHECK_EQUAL(match_in(&scene, SCENE_MODEL, NULL, NULL, NULL, 0, &certain), i == 0 ? 3 : 0);
    CHECK_EQUAL(match_in(&scene, SCENE_MODEL, "adapter", NULL, NULL, 0, &certain), i == 1 ? 3 : 0);
    CHECK_EQUAL(match_in(&scene, SCENE_MODEL, NULL, "salt", NULL, 0, &certain), i == 2 || i == 3 ? 3 : 0);
    CHECK_EQUAL(match_in(&scene, SCENE_MODEL, NULL, NULL, &image, 1, &certain), i == 4 ? 3 : 0);
    CHECK_EQUAL(match_in(&scene, SCENE_MODEL, "adapter", "salt", &image, 1, &certain), i == 5 ? 3 : 0);
    CHECK_EQUAL(certain, i == 5);
    CHECK_EQUAL(match_in(&scene, SCENE_MODEL, "3", NULL, NULL, 0, &certain), 0);
    CHECK_EQUAL(match_in(&scene, "other", NULL, NULL, NULL, 0, &certain), 0);
    pack_end(&extras);
    scene_end(&scene);
  }
}

static void dialects_say_what_they_can(void) {
  static const kvs_extra_key image = {"image", 5, 2, 4};
  int certain;
  for (unsigned form = WIRE_STORED_MIN; form <= WIRE_STORED_MAX; form++) {
    struct scene scene = scene_begin(NULL, 1);
    struct telling telling;
    telling_begin(&telling, 1, 0, 3);
    tell_stored(&scene, 0, &telling.event, form);
    CHECK_EQUAL(match_in(&scene, SCENE_MODEL, NULL, NULL, NULL, 0, &certain), 3);
    CHECK_EQUAL(certain, form >= 9);
    /* Where the wire shows no extras, whatever is asked with them may match, uncertainly. */
    CHECK_EQUAL(match_in(&scene, SCENE_MODEL, NULL, "salt", &image, 1, &certain), form <= 8 ? 3 : 0);
    CHECK_EQUAL(certain, 0);
    scene_end(&scene);
  }
  {
    struct scene scene = scene_begin(NULL, 1);
    struct pack extras = notation("[['image', 'salt'], ['image'], nil]");
    struct telling telling;
    telling_begin(&telling, 1, 0, 3);
    telling.event.extra_keys = (const char *)extras.at;
    telling.event.extra_keys_bytes = extras.bytes;
    tell_stored(&scene, 0, &telling.event, 9); /* untagged: the bare identifier */
    CHECK_EQUAL(match_in(&scene, SCENE_MODEL, NULL, "salt", &image, 1, &certain), 3);
    CHECK_EQUAL(certain, 0);
    CHECK_EQUAL(match_in(&scene, SCENE_MODEL, NULL, NULL, &image, 1, &certain), 0);
    pack_end(&extras);
    scene_end(&scene);
  }
}

/* Two items that begin at one token keep the caller's order; all others go by offset, in whatever order they came. */
static void extra_keys_go_by_offset(void) {
  static const kvs_extra_key sorted[] = {
      {"a", 1, 1, 1}, {"b", 1, 2, 1}, {"c", 1, 9, 1}, {"z", 1, 9, 1}, {"d", 1, 9, 0}};
  kvs_extra_key shuffled[5];
  struct scene scene = scene_begin(NULL, 1);
  struct pack extras = notation("[[['a', 1], ['b', 2]], nil, [['c', 1], ['z', 1]]]");
  struct telling telling;
  int certain;
  telling_begin(&telling, 1, 0, 3);
  telling.event.extra_keys = (const char *)extras.at;
  telling.event.extra_keys_bytes = extras.bytes;
  tell_stored(&scene, 0, &telling.event, WIRE_MAP);
  CHECK_EQUAL(match_in(&scene, SCENE_MODEL, NULL, NULL, sorted, 5, &certain), 3);
  shuffled[0] = sorted[2];
  shuffled[1] = sorted[4];
  shuffled[2] = sorted[3];
  shuffled[3] = sorted[1];
  shuffled[4] = sorted[0];
  CHECK_EQUAL(match_in(&scene, SCENE_MODEL, NULL, NULL, shuffled, 5, &certain), 3);
  shuffled[0] = sorted[3];
  shuffled[2] = sorted[2];
  CHECK_EQUAL(match_in(&scene, SCENE_MODEL, NULL, NULL, shuffled, 5, &certain), 2);
  pack_end(&extras);
  scene_end(&scene);
}

/* ---- block hashes ---- */

static void block_hashes_match_as_tokens_do(void) {
  struct scene scene = scene_begin(NULL, 2);
  uint32_t tokens[10 * SCENE_BLOCK];
  uint64_t hashes[10], others[10];
  const kvs_matches *matches = NULL;
  kvs_query query = {
      .tokens = tokens, .tokens_count = 10 * SCENE_BLOCK, .model = SCENE_MODEL, .model_bytes = 5};
  prompt_tokens(1, tokens, 10 * SCENE_BLOCK);
  store(&scene, 0, 1, 0, 6);
  store(&scene, 1, 1, 0, 9);
  CHECK_EQUAL(kvs_index_block_hashes(scene.index, &query, SCENE_BLOCK, hashes), KVS_OK);
  CHECK_EQUAL(kvs_index_match_hashes(scene.index, hashes, 10, NULL, 0, &matches), KVS_OK);
  CHECK_EQUAL(matches->rows_count, 2);
  for (uint32_t i = 0; i < matches->rows_count; i++)
    CHECK_EQUAL(matches->rows[i].blocks, matches->rows[i].engine == 0 ? 6 : 9);
  kvs_matches_free(matches);
  CHECK_EQUAL(kvs_index_match_hashes(scene.index, hashes, 4, (uint32_t[]){1}, 1, &matches), KVS_OK);
  CHECK(matches->rows_count == 1 && matches->rows[0].engine == 1 && matches->rows[0].blocks == 4);
  kvs_matches_free(matches);
  CHECK_EQUAL(kvs_index_match_hashes(scene.index, NULL, 0, NULL, 0, &matches), KVS_OK);
  CHECK_EQUAL(matches->rows_count, 0);
  kvs_matches_free(matches);
  /* Another block size is another context. */
  CHECK_EQUAL(kvs_index_block_hashes(scene.index, &query, 2 * SCENE_BLOCK, others), KVS_OK);
  for (unsigned i = 0; i < 5; i++)
    for (unsigned j = 0; j < 10; j++) CHECK(others[i] != hashes[j]);
  scene_end(&scene);
}

static void the_seed_is_in_every_hash(void) {
  uint32_t tokens[SCENE_BLOCK];
  uint64_t hashes[3];
  kvs_query query = {.tokens = tokens, .tokens_count = SCENE_BLOCK, .model = SCENE_MODEL, .model_bytes = 5};
  prompt_tokens(1, tokens, SCENE_BLOCK);
  for (unsigned i = 0; i < 3; i++) {
    kvs_options options = {.seed = i % 2};
    struct scene scene = scene_begin(&options, 0);
    CHECK_EQUAL(kvs_index_block_hashes(scene.index, &query, SCENE_BLOCK, &hashes[i]), KVS_OK);
    scene_end(&scene);
  }
  CHECK(hashes[0] != hashes[1]);
  CHECK_EQUAL(hashes[0], hashes[2]);
}

/* ---- broken events ---- */

static void the_rest_of_a_batch_applies(void) {
  struct scene scene = scene_begin(NULL, 1);
  struct pack bad = notation("['BlockStored', [1], nil, 'tokens', 4, nil]"), pack = {0};
  struct telling telling;
  kvs_applied applied;
  telling_begin(&telling, 1, 0, 2);
  wire_batch_begin(&pack, WIRE_BATCH_3, 3);
  wire_stored(&pack, &telling.event, WIRE_MAP);
  pack_raw(&pack, bad.at, bad.bytes);
  telling_begin(&telling, 1, 2, 4);
  wire_stored(&pack, &telling.event, WIRE_MAP);
  wire_batch_end(&pack, WIRE_BATCH_3);
  applied = tell(&scene, 0, &pack);
  CHECK_EQUAL(applied.stored, 4);
  CHECK_EQUAL(applied.skipped, 1);
  CHECK_EQUAL(match(&scene, 0, 1, 4), 4);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_STALE);
  CHECK_EQUAL(medium_of(&scene, 0, "GPU").reason, KVS_REASON_UNDECODABLE);
  CHECK_EQUAL(medium_of(&scene, 0, "GPU").doubtful, 2); /* what came after is certain */
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_SKIPPED_TYPE), 1);
  pack_end(&bad);
  scene_end(&scene);
}

static void a_bad_payload_consumes_its_number(void) {
  struct scene scene = scene_begin(NULL, 1);
  struct pack junk = notation("'no batch'");
  store(&scene, 0, 1, 0, 1);
  CHECK_EQUAL(tell(&scene, 0, &junk).skipped, 1);
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_SKIPPED_BATCH), 1);
  store(&scene, 0, 1, 1, 2);
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_GAPS), 0);
  CHECK_EQUAL(status_of(&scene, 0).sequence, 2);
  scene_end(&scene);
}

/* ---- the door ---- */

static void wrong_arguments_are_refused(void) {
  struct scene scene = scene_begin(NULL, 1);
  static char long_text[KVS_TEXT_BYTES_MAX + 1];
  const kvs_matches *matches = NULL;
  uint32_t tokens[4] = {0}, engine = 77;
  uint64_t hash = 77;
  kvs_query good = {.tokens = tokens, .tokens_count = 4, .model = SCENE_MODEL, .model_bytes = 5}, query;
  kvs_extra_key extra = {NULL, 1, 0, 1};
  CHECK_EQUAL(kvs_index_create(NULL, &scene.index), KVS_ERR_ARGUMENT);
  CHECK_EQUAL(kvs_index_create(&(kvs_options){0}, NULL), KVS_ERR_ARGUMENT);
  CHECK_EQUAL(kvs_index_engine_add(scene.index, long_text, sizeof long_text, &engine), KVS_ERR_ARGUMENT);
  CHECK_EQUAL(kvs_index_engine_add(scene.index, NULL, 1, &engine), KVS_ERR_ARGUMENT);
  CHECK_EQUAL(engine, 77);
  /* A text of no bytes may be NULL. */
  for (unsigned i = 0; i < 2; i++) CHECK_EQUAL(kvs_index_engine_add(scene.index, NULL, 0, &engine), KVS_OK);
  query = (kvs_query){0};
  CHECK_EQUAL(kvs_index_match(scene.index, &query, &matches), KVS_OK);
  kvs_matches_free(matches);
  matches = NULL;
  CHECK_EQUAL(kvs_index_match(scene.index, NULL, &matches), KVS_ERR_ARGUMENT);
  CHECK_EQUAL(kvs_index_match(scene.index, &good, NULL), KVS_ERR_ARGUMENT);
#define REFUSED(change)                                                                   \
  do {                                                                                    \
    query = good;                                                                         \
    change;                                                                               \
    CHECK_EQUAL(kvs_index_match(scene.index, &query, &matches), KVS_ERR_ARGUMENT);        \
    CHECK_EQUAL(kvs_index_block_hashes(scene.index, &query, 4, &hash), KVS_ERR_ARGUMENT); \
  } while (0)
  REFUSED(query.tokens = NULL);
  REFUSED(query.model = NULL);
  REFUSED(query.model_bytes = KVS_TEXT_BYTES_MAX + 1);
  REFUSED((query.lora = long_text, query.lora_bytes = sizeof long_text));
  REFUSED((query.cache_salt = long_text, query.cache_salt_bytes = sizeof long_text));
  REFUSED(query.extra_keys_count = 1);
  REFUSED((query.extra_keys = &extra, query.extra_keys_count = 1));
  REFUSED(query.engines_count = 1);
#undef REFUSED
  CHECK_EQUAL(kvs_index_block_hashes(scene.index, &good, 0, &hash), KVS_ERR_ARGUMENT);
  CHECK_EQUAL(kvs_index_block_hashes(scene.index, &good, (1u << 20) + 1, &hash), KVS_ERR_ARGUMENT);
  CHECK_EQUAL(kvs_index_match_hashes(scene.index, NULL, 1, NULL, 0, &matches), KVS_ERR_ARGUMENT);
  CHECK_EQUAL(kvs_index_match_hashes(scene.index, &hash, 1, NULL, 1, &matches), KVS_ERR_ARGUMENT);
  CHECK(matches == NULL && hash == 77);
  scene_end(&scene);
}

static void a_query_serves_for_the_tokens_given_beside_it(void) {
  struct scene scene = scene_begin(NULL, 1);
  uint32_t tokens[2 * SCENE_BLOCK], others[2 * SCENE_BLOCK];
  const kvs_query query = {.tokens = others, .tokens_count = 1, .model = SCENE_MODEL, .model_bytes = 5};
  const kvs_matches *matches = NULL;
  prompt_tokens(1, tokens, 2 * SCENE_BLOCK);
  prompt_tokens(2, others, 2 * SCENE_BLOCK);
  store(&scene, 0, 1, 0, 2);
  CHECK_EQUAL(kvs_index_match_tokens(scene.index, &query, tokens, 2 * SCENE_BLOCK, &matches), KVS_OK);
  CHECK(matches->rows_count == 1 && matches->rows[0].blocks == 2);
  kvs_matches_free(matches);
  CHECK_EQUAL(kvs_index_match_tokens(scene.index, &query, others, 2 * SCENE_BLOCK, &matches), KVS_OK);
  CHECK_EQUAL(matches->rows_count, 0); /* needs no freeing, and allows it */
  matches = NULL;
  CHECK_EQUAL(kvs_index_match_tokens(scene.index, NULL, tokens, 4, &matches), KVS_ERR_ARGUMENT);
  CHECK_EQUAL(kvs_index_match_tokens(scene.index, &query, NULL, 4, &matches), KVS_ERR_ARGUMENT);
  CHECK_EQUAL(kvs_index_match_tokens(scene.index, &query, tokens, 4, NULL), KVS_ERR_ARGUMENT);
  CHECK(matches == NULL);
  scene_end(&scene);
}

static void answers_outlive_the_index(void) {
  struct scene scene = scene_begin(NULL, 1);
  uint32_t tokens[2 * SCENE_BLOCK];
  kvs_query query = {.tokens = tokens, .tokens_count = 2 * SCENE_BLOCK, .model = SCENE_MODEL, .model_bytes = 5};
  const kvs_matches *matches = NULL;
  const kvs_export *list = NULL;
  prompt_tokens(1, tokens, 2 * SCENE_BLOCK);
  store(&scene, 0, 1, 0, 2);
  CHECK_EQUAL(kvs_index_match(scene.index, &query, &matches), KVS_OK);
  CHECK_EQUAL(kvs_index_export(scene.index, 0, &list), KVS_OK);
  scene_end(&scene);
  CHECK_EQUAL(matches->rows[0].blocks, 2);
  CHECK_EQUAL(matches->media[0].blocks, 2);
  CHECK_EQUAL(list->rows_count, 2);
  kvs_matches_free(matches);
  kvs_export_free(list);
  kvs_matches_free(NULL);
  kvs_export_free(NULL);
  kvs_index_destroy(NULL);
}

static void everything_has_a_name(void) {
  CHECK(strcmp(kvs_version(), KVS_VERSION) == 0);
  CHECK(strcmp(kvs_status_name(KVS_ERR_MEMORY), "KVS_ERR_MEMORY") == 0);
  CHECK(strlen(kvs_status_text(KVS_ERR_ENGINE)) > 0);
  CHECK(strcmp(kvs_status_name((kvs_status)99), "unknown status") == 0);
  CHECK(strcmp(kvs_reason_text(KVS_REASON_GAP), "gap") == 0);
  CHECK(strcmp(kvs_reason_text((kvs_reason)99), "unknown reason") == 0);
  for (unsigned i = 0; i < KVS_COUNTERS_COUNT; i++) CHECK(strlen(kvs_counter_name(i)) > 0);
  CHECK(kvs_counter_name(KVS_COUNTERS_COUNT) == NULL);
}

/* One event about blocks of a prompt, not told yet. */
static struct pack frame_of(uint32_t prompt, uint32_t from, uint32_t to, int removed) {
  static struct telling telling;
  struct pack pack = {0};
  telling_begin(&telling, prompt, from, to);
  wire_batch_begin(&pack, WIRE_BATCH_3, 1);
  if (removed)
    wire_removed(&pack, telling.hashes, to - from, 0, "GPU", -1, WIRE_MAP);
  else
    wire_stored(&pack, &telling.event, WIRE_MAP);
  wire_batch_end(&pack, WIRE_BATCH_3);
  return pack;
}

enum { MANY = 6 };

/* Several frames in one turn say and do what they do one after the other; a gap and a duplicate are among them. */
static void many_frames_are_as_one_by_one(void) {
  static const int64_t sequences[MANY] = {0, 0, 1, 1, 1, 5};
  static const uint32_t engines[MANY] = {0, 1, 0, 1, 0, 1};
  struct scene one_by_one = scene_begin(NULL, 2), together = scene_begin(NULL, 2);
  struct pack packs[MANY] = {frame_of(1, 0, 4, 0), frame_of(1, 0, 2, 0), frame_of(1, 4, 9, 0),
                             frame_of(1, 1, 2, 1), frame_of(2, 0, 3, 0), frame_of(10, 0, 5, 0)};
  const uint8_t *payloads[MANY];
  size_t lengths[MANY], done = 99;
  kvs_applied expected[MANY], applied[MANY];
  for (int i = 0; i < MANY; i++) {
    payloads[i] = packs[i].at;
    lengths[i] = packs[i].bytes;
    CHECK_EQUAL(
        kvs_index_apply(one_by_one.index, engines[i], payloads[i], lengths[i], sequences[i], &expected[i]),
        KVS_OK);
  }
  CHECK_EQUAL(kvs_index_apply_many(together.index, MANY, engines, payloads, lengths, sequences, applied, &done),
              KVS_OK);
  CHECK_EQUAL(done, MANY);
  CHECK_EQUAL(memcmp(expected, applied, sizeof applied), 0);
  CHECK_EQUAL(applied[4].stored, 0);
  for (uint32_t engine = 0; engine < 2; engine++) {
    kvs_engine_status status = status_of(&together, engine), other = status_of(&one_by_one, engine);
    CHECK_EQUAL(memcmp(status.lag.counts, other.lag.counts, sizeof status.lag.counts), 0);
    memset(&status.lag, 0, sizeof status.lag); /* the rest of it goes by the clock */
    memset(&other.lag, 0, sizeof other.lag);
    CHECK_EQUAL(memcmp(&status, &other, sizeof status), 0);
    CHECK_EQUAL(match(&together, engine, 1, 9), match(&one_by_one, engine, 1, 9));
  }
  CHECK_EQUAL(match(&together, 0, 1, 9), 9);
  CHECK_EQUAL(counter(&together, 1, KVS_COUNTER_GAPS), 1);
  for (int i = 0; i < MANY; i++) pack_end(&packs[i]);
  scene_end(&one_by_one);
  scene_end(&together);
}

/* A number that is no engine's ends the turn; what came before it is applied. */
static void many_frames_stop_at_an_unknown_engine(void) {
  static const int64_t sequences[3] = {0, 0, 1};
  static const uint32_t engines[3] = {0, 7, 0};
  struct scene scene = scene_begin(NULL, 1);
  struct pack pack = frame_of(1, 0, 4, 0);
  const uint8_t *payloads[3] = {pack.at, pack.at, pack.at};
  size_t lengths[3] = {pack.bytes, pack.bytes, pack.bytes}, done = 99;
  kvs_applied applied[3];
  CHECK_EQUAL(kvs_index_apply_many(scene.index, 3, engines, payloads, lengths, sequences, applied, &done),
              KVS_ERR_ENGINE);
  CHECK_EQUAL(done, 1);
  CHECK_EQUAL(applied[0].stored, 4);
  CHECK_EQUAL(status_of(&scene, 0).sequence, 0);
  CHECK_EQUAL(kvs_index_apply_many(scene.index, 0, NULL, NULL, NULL, NULL, NULL, &done), KVS_OK);
  CHECK_EQUAL(done, 0);
  pack_end(&pack);
  scene_end(&scene);
}

void tests_of_index(void) {
  RUN("index: what is stored matches, and nothing else", store_and_match);
  RUN("index: part of a block never matches", part_of_a_block_never_matches);
  RUN("index: a hole cuts the match, and a new store heals it", holes_cut_and_heal);
  RUN("index: copies are counted", copies_are_counted);
  RUN("index: a re-announcement adds no copy", reannouncements_add_no_copy);
  RUN("index: two hashes may be one block", two_hashes_may_be_one_block);
  RUN("index: the later word about a hash wins", the_later_word_about_a_hash_wins);
  RUN("index: orphans join in any order", orphans_join_in_any_order);
  RUN("index: an orphan waits, and is forgotten when removed", an_orphan_waits_and_is_forgotten);
  RUN("index: placeholders follow the hash", placeholders_follow_the_hash);
  RUN("index: masked stores are held and tied to nothing", masked_stores_are_held_and_tied_to_nothing);
  RUN("index: cleared means the GPU", cleared_means_the_gpu);
  RUN("index: numbers come once and in order", numbers_come_once_and_in_order);
  RUN("index: the beginning decides what may be believed", the_beginning_decides);
  RUN("index: a restart begins anew", a_restart_begins_anew);
  RUN("index: doubt, and its end", doubt_and_its_end);
  RUN("index: engines go without a trace", engines_go_without_a_trace);
  RUN("index: batches are timed by their stamp", batches_are_timed_by_their_stamp);
  RUN("index: unknown engines change nothing", unknown_engines_change_nothing);
  RUN("index: only those asked answer", only_those_asked_answer);
  RUN("index: byte hashes of every length", hashes_of_every_length);
  RUN("index: signed hashes keep their bits", signs_keep_their_bits);
  RUN("index: contexts are kept apart", contexts_are_kept_apart);
  RUN("index: a dialect says what it can", dialects_say_what_they_can);
  RUN("index: extra keys go by offset", extra_keys_go_by_offset);
  RUN("index: block hashes match as tokens do", block_hashes_match_as_tokens_do);
  RUN("index: the seed is in every hash", the_seed_is_in_every_hash);
  RUN("index: the rest of a batch applies", the_rest_of_a_batch_applies);
  RUN("index: many frames are as one by one", many_frames_are_as_one_by_one);
  RUN("index: many frames stop at an unknown engine", many_frames_stop_at_an_unknown_engine);
  RUN("index: a bad payload consumes its number", a_bad_payload_consumes_its_number);
  RUN("index: wrong arguments are refused", wrong_arguments_are_refused);
  RUN("index: a query serves for the tokens given beside it", a_query_serves_for_the_tokens_given_beside_it);
  RUN("index: answers outlive the index", answers_outlive_the_index);
  RUN("index: everything has a name", everything_has_a_name);
}
