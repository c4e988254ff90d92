/* Running out of memory: at every single allocation of a long script, as the index counts them and as the system is
 * asked for them, and at a ceiling.
 *
 * The script plays engines whose caches are known exactly (struct truth). Whatever fails, an engine that is called
 * `exact` must match what it holds, and one that is called `partial` must match no more than that. */

#include "check.h"
#include "failing.h"
#include "index.h" /* only to count allocations */
#include "scene.h"

#define ENGINES 3u
#define BLOCKS 12u
#define OWNERS 5u
#define NAMES 2u /* every block has a second engine hash now and then */
#define ALIAS UINT64_C(50000)
#define STEPS 220u

static const uint32_t PROMPTS[OWNERS] = {1, 2, 10, 11, 20};
enum medium { ON_GPU, ON_CPU, MEDIA };
static const char *const MEDIUM_NAMES[MEDIA] = {"GPU", "CPU"};

struct cache {
  uint8_t copies[MEDIA][NAMES][OWNERS][BLOCKS];
};

struct play {
  struct scene scene;
  uint32_t number[ENGINES]; /* of each player; a player that left comes back under another */
  struct cache truth[ENGINES];
};

static unsigned owner_slot(uint32_t prompt, uint32_t block) {
  uint32_t owner = block_owner(prompt, block);
  for (unsigned slot = 0; slot < OWNERS; slot++)
    if (PROMPTS[slot] == owner) return slot;
  abort();
}

static uint8_t *copies_in(struct cache *cache, enum medium medium, unsigned name, uint32_t prompt,
                          uint32_t block) {
  return &cache->copies[medium][name][owner_slot(prompt, block)][block];
}

static uint32_t truly_held(struct cache *cache, uint32_t prompt) {
  for (uint32_t block = 0; block < BLOCKS; block++) {
    unsigned copies = 0;
    for (int medium = 0; medium < MEDIA; medium++)
      for (unsigned name = 0; name < NAMES; name++)
        copies += *copies_in(cache, (enum medium)medium, name, prompt, block);
    if (copies == 0) return block;
  }
  return BLOCKS;
}

/* ---- what players do; engine 2 has hashes of bytes ---- */

static unsigned hash_bytes(unsigned player) { return player == 2 ? 16 : 0; }

static void add_player(struct play *play, unsigned player) {
  kvs_status status = kvs_index_engine_add(play->scene.index, SCENE_MODEL, 5, &play->number[player]);
  if (status == KVS_ERR_MEMORY) /* only one allocation fails */
    status = kvs_index_engine_add(play->scene.index, SCENE_MODEL, 5, &play->number[player]);
  CHECK_EQUAL(status, KVS_OK);
  play->scene.next[play->number[player]] = 0;
  memset(&play->truth[player], 0, sizeof play->truth[player]);
}

static void play_store(struct play *play, unsigned player, uint32_t prompt, unsigned name) {
  struct cache *cache = &play->truth[player];
  struct telling telling;
  uint32_t from = (uint32_t)check_below(BLOCKS), to;
  int all = 1;
  while (from > 0 && *copies_in(cache, ON_GPU, name, prompt, from - 1) == 0)
    from--; /* its parent must be held */
  to = from + 1 + (uint32_t)check_below(BLOCKS - from);
  telling_begin(&telling, prompt, from, to);
  for (uint32_t block = from; block < to; block++) {
    telling.hashes[block - from] += name * ALIAS;
    all &= *copies_in(cache, ON_GPU, name, prompt, block) > 0;
  }
  telling.event.parent += name * ALIAS;
  telling.event.hash_bytes = hash_bytes(player);
  tell_stored(&play->scene, play->number[player], &telling.event, WIRE_MAP);
  for (uint32_t block = from; block < to; block++) /* A whole held prefix told again is a re-announcement. */
    if (!(all && from == 0 && to > 1)) ++*copies_in(cache, ON_GPU, name, prompt, block);
}

/* An event about one hash: removed from a medium, or placed on it. */
static void play_one(struct play *play, unsigned player, enum medium medium, unsigned name, uint32_t prompt,
                     uint32_t block, int placed) {
  struct telling telling;
  struct pack pack = {0};
  telling_begin(&telling, prompt, block, block + 1);
  telling.hashes[0] += name * ALIAS;
  if (placed) {
    telling.event.tokens_count = 0;
    telling.event.has_parent = 0;
    telling.event.medium = MEDIUM_NAMES[medium];
    telling.event.hash_bytes = hash_bytes(player);
    tell_stored(&play->scene, play->number[player], &telling.event, WIRE_MAP);
    ++*copies_in(&play->truth[player], medium, name, prompt, block);
    return;
  }
  wire_batch_begin(&pack, WIRE_BATCH_3, 1);
  wire_removed(&pack, telling.hashes, 1, hash_bytes(player), MEDIUM_NAMES[medium], -1, WIRE_MAP);
  wire_batch_end(&pack, WIRE_BATCH_3);
  tell(&play->scene, play->number[player], &pack);
  --*copies_in(&play->truth[player], medium, name, prompt, block);
}

static void play_step(struct play *play, unsigned step) {
  unsigned player = (unsigned)check_below(ENGINES), name = check_below(5) == 0;
  uint32_t prompt = PROMPTS[check_below(OWNERS)], block = (uint32_t)check_below(BLOCKS);
  enum medium medium = check_below(3) == 0 ? ON_CPU : ON_GPU;
  struct cache *cache = &play->truth[player];
  switch (step % 40 == 39 ? 100 + check_below(4) : check_below(10)) {
    case 0:
    case 1:
    case 2:
    case 3: play_store(play, player, prompt, name); break;
    case 4:
      if (*copies_in(cache, ON_GPU, name, prompt, block) > 0)
        play_one(play, player, ON_CPU, name, prompt, block, 1);
      break;
    case 100: /* the pool is reset; the CPU keeps what it has, which the index then doubts */
      say_cleared(&play->scene, play->number[player]);
      memset(cache->copies[ON_GPU], 0, sizeof cache->copies[ON_GPU]);
      break;
    case 101:
      CHECK_EQUAL(kvs_index_clear(play->scene.index, play->number[player], NULL, 0), KVS_OK);
      memset(cache, 0, sizeof *cache);
      break;
    case 102:
      CHECK_EQUAL(kvs_index_restart(play->scene.index, play->number[player]), KVS_OK);
      play->scene.next[play->number[player]] = 0;
      memset(cache, 0, sizeof *cache);
      break;
    case 103:
      if (kvs_index_engine_remove(play->scene.index, play->number[player]) == KVS_ERR_MEMORY)
        CHECK_EQUAL(kvs_index_engine_remove(play->scene.index, play->number[player]), KVS_OK);
      add_player(play, player);
      break;
    default:
      if (*copies_in(cache, medium, name, prompt, block) > 0)
        play_one(play, player, medium, name, prompt, block, 0);
      break;
  }
}

/* Nobody is believed to hold what nobody holds. 0 = some engine was not exact. */
static int answers_are_true(struct play *play) {
  int all_exact = 1;
  for (unsigned player = 0; player < ENGINES; player++) {
    kvs_trust trust = trust_of(&play->scene, play->number[player]);
    all_exact &= trust == KVS_TRUST_EXACT;
    for (unsigned slot = 0; slot < OWNERS; slot++) {
      uint32_t truth = truly_held(&play->truth[player], PROMPTS[slot]);
      uint32_t got = match(&play->scene, play->number[player], PROMPTS[slot], BLOCKS);
      if (trust == KVS_TRUST_EXACT) CHECK_EQUAL(got, truth);
      if (trust == KVS_TRUST_PARTIAL) CHECK(got <= truth);
      if (trust == KVS_TRUST_UNKNOWN) CHECK_EQUAL(got, 0);
    }
  }
  return all_exact;
}

/* What is listed is what is counted. */
static void books_balance(const struct play *play) {
  uint64_t entries = 0;
  for (unsigned player = 0; player < ENGINES; player++) {
    kvs_engine_status status = status_of(&play->scene, play->number[player]);
    const kvs_export *list = NULL;
    uint64_t in_media = 0;
    CHECK_EQUAL(kvs_index_export(play->scene.index, play->number[player], &list), KVS_OK);
    CHECK_EQUAL(list->rows_count, status.entries);
    for (uint64_t i = 0; i < list->rows_count; i++) CHECK(list->rows[i].copies > 0);
    kvs_export_free(list);
    for (uint32_t nth = 0; nth < status.media_count; nth++) {
      kvs_medium_status medium;
      CHECK_EQUAL(kvs_index_medium_status(play->scene.index, play->number[player], nth, &medium), KVS_OK);
      CHECK_EQUAL(medium.trust == KVS_TRUST_STALE, medium.doubtful > 0);
      in_media += medium.entries;
    }
    CHECK_EQUAL(in_media, status.entries);
    entries += status.entries;
  }
  CHECK_EQUAL(stats_of(&play->scene).entries, entries);
}

/* Whose n-th allocation fails: of what the index counts as its own, or of all that the system is asked for. */
enum refuser { BY_INDEX, BY_SYSTEM };

/* The whole script; how many allocations it asked for. */
static uint64_t play_script(enum refuser refuser, uint64_t nth, unsigned *inexact) {
  kvs_options options = {.seed = 42, .fail_allocation = refuser == BY_INDEX ? nth : 0};
  struct play *play = check_alloc(sizeof *play);
  uint64_t asked = 0;
  memset(play, 0, sizeof *play);
  play->scene = scene_begin(&options, 0);
  for (unsigned player = 0; player < ENGINES; player++) add_player(play, player);
  for (unsigned step = 0; step < STEPS && check_state.failures == 0; step++) {
    failing_begin(refuser == BY_SYSTEM && nth > asked ? nth - asked : 0);
    play_step(play, step);
    asked += failing_end();
    *inexact += !answers_are_true(play);
  }
  books_balance(play);
  if (refuser == BY_INDEX) asked = play->scene.index->memory.calls;
  scene_end(&play->scene); /* asserts that all memory came back */
  free(play);
  return asked;
}

static void the_script_alone_is_true(void) {
  unsigned inexact = 0;
  for (unsigned i = 0; i < 50; i++) play_script(BY_INDEX, 0, &inexact);
  CHECK(inexact < 50 * STEPS / 2); /* only a clear, which doubts the CPU, makes an engine less than exact */
}

/* Fail each allocation in turn, until a run needs fewer. */
static void every_allocation_fails(enum refuser refuser) {
  uint64_t n = 0, asked = 1;
  unsigned inexact = 0;
  while (n < asked && check_state.failures == 0) {
    check_state.random = check_state.seed;
    asked = play_script(refuser, ++n, &inexact);
  }
  if (check_state.failures > 0)
    fprintf(stderr, "    with allocation %" PRIu64 " of %" PRIu64 " failing\n", n, asked);
  CHECK(asked > 200);
  CHECK(inexact > 0);
}

static void every_allocation_fails_once(void) { every_allocation_fails(BY_INDEX); }

static void the_system_refuses_each_once(void) { every_allocation_fails(BY_SYSTEM); }

/* An engine calls held hashes by other tokens: whatever fails, the old blocks are not believed any more. */
static void a_later_word_fails_safely(void) {
  uint64_t n = 0, asked = 1;
  while (n < asked && check_state.failures == 0) {
    kvs_options options = {.seed = 42, .fail_allocation = ++n};
    struct scene scene = {0};
    struct telling telling;
    uint32_t number = 0;
    CHECK_EQUAL(kvs_index_create(&options, &scene.index), KVS_OK);
    for (unsigned i = 0; i < 2; i++)
      if (kvs_index_engine_add(scene.index, SCENE_MODEL, 5, &number) != KVS_OK)
        CHECK_EQUAL(kvs_index_engine_add(scene.index, SCENE_MODEL, 5, &number), KVS_OK);
    store(&scene, 1, 1, 0, 3); /* somebody else's holder keeps the sets shared */
    store(&scene, 0, 1, 0, 3);
    telling_begin(&telling, 2, 0, 3);
    for (unsigned i = 0; i < 3; i++) telling.hashes[i] = block_name(1, i);
    tell_stored(&scene, 0, &telling.event, WIRE_MAP);
    if (trust_of(&scene, 0) != KVS_TRUST_STALE) CHECK_EQUAL(match(&scene, 0, 1, 3), 0);
    if (trust_of(&scene, 0) == KVS_TRUST_EXACT) CHECK_EQUAL(match(&scene, 0, 2, 3), 3);
    CHECK_EQUAL(match(&scene, 1, 2, 3), 0);
    asked = scene.index->memory.calls;
    scene_end(&scene);
  }
  CHECK(asked > 10);
}

/* ---- the ceiling ---- */

#define CEILING (UINT64_C(384) << 10)

/* Whoever holds a block of a prompt holds all before it. */
static void prefixes_are_closed(const struct scene *scene, uint32_t engine) {
  static uint8_t held[100][SCENE_BLOCKS_MAX];
  const kvs_export *list = NULL;
  memset(held, 0, sizeof held);
  CHECK_EQUAL(kvs_index_export(scene->index, engine, &list), KVS_OK);
  for (uint64_t i = 0; i < list->rows_count; i++) {
    uint64_t owner = list->rows[i].hash / 100000, block = list->rows[i].hash % 100000 - 1;
    held[owner][block] = 1;
    CHECK(list->rows[i].tied);
  }
  for (uint32_t prompt = 1; prompt < 100; prompt++)
    for (uint32_t block = 1; block < SCENE_BLOCKS_MAX; block++)
      if (held[prompt][block]) CHECK(held[block_owner(prompt, block - 1)][block - 1]);
  kvs_export_free(list);
}

static void the_ceiling_holds(void) {
  kvs_options options = {.seed = 42, .bytes_max = CEILING};
  struct scene scene = scene_begin(&options, 3);
  uint32_t longest[3][100] = {{0}};
  uint64_t counted = 0, lowest = UINT64_MAX;
  for (unsigned i = 0; i < 3000; i++) {
    uint32_t engine = (uint32_t)check_below(3), prompt = 1 + (uint32_t)check_below(99);
    uint32_t have = match(&scene, engine, prompt, SCENE_BLOCKS_MAX);
    uint32_t to = have + 1 + (uint32_t)check_below(40);
    if (to > SCENE_BLOCKS_MAX) continue;
    store(&scene, engine, prompt, have, to);
    if (to > longest[engine][prompt]) longest[engine][prompt] = to;
    if (have < SCENE_SHARED && prompt >= 10 && longest[engine][prompt / 10] < SCENE_SHARED)
      longest[engine][prompt / 10] = SCENE_SHARED;
    CHECK(stats_of(&scene).bytes <= CEILING);
    if (stats_of(&scene).evicted > 0 && stats_of(&scene).entries < lowest) lowest = stats_of(&scene).entries;
    CHECK(match(&scene, engine, prompt, SCENE_BLOCKS_MAX) <=
          (longest[engine][prompt] > SCENE_SHARED ? longest[engine][prompt] : SCENE_SHARED));
    if (i % 100 == 0)
      for (engine = 0; engine < 3; engine++) prefixes_are_closed(&scene, engine);
  }
  CHECK(stats_of(&scene).bytes_peak <= CEILING);
  CHECK_EQUAL(stats_of(&scene).bytes_max, CEILING);
  for (uint32_t engine = 0; engine < 3; engine++) {
    uint64_t evicted = counter(&scene, engine, KVS_COUNTER_EVICTED);
    counted += evicted;
    if (evicted > 0) CHECK_EQUAL(trust_of(&scene, engine), KVS_TRUST_PARTIAL);
    /* Making room can be too little for the event that asked for it. */
    if (evicted > 0 && counter(&scene, engine, KVS_COUNTER_SKIPPED_MEMORY) == 0)
      CHECK_EQUAL(medium_of(&scene, engine, "GPU").reason, KVS_REASON_EVICTED);
  }
  CHECK(counted > 1000);
  CHECK_EQUAL(stats_of(&scene).evicted, counted);
  CHECK(lowest > 1000); /* what is given up is a part, not all */
  scene_end(&scene);
}

/* Prompts of one block: all are of one depth, and yet not all go at once. */
static void shallow_prompts_are_not_all_given_up(void) {
  kvs_options options = {.seed = 42, .bytes_max = 8 * CEILING};
  struct scene scene = scene_begin(&options, 1);
  uint64_t most = 0;
  for (uint32_t prompt = 1000; prompt < 61000; prompt++) {
    uint64_t entries;
    store(&scene, 0, prompt, 0, 1);
    entries = stats_of(&scene).entries;
    if (entries > most) most = entries;
    CHECK(entries >= most / 2);
    CHECK_EQUAL(match(&scene, 0, prompt, 1), 1); /* the newest is there */
  }
  CHECK(stats_of(&scene).evicted > 0);
  CHECK(stats_of(&scene).bytes_peak <= 8 * CEILING);
  scene_end(&scene);
}

/* A prompt longer than all others is the deepest thing there is while it comes, and is stored whole all the same. */
static void making_room_spares_the_event_it_is_for(void) {
  enum { SHORT = 20, LONG = 500 };
  kvs_options options = {.seed = 42, .bytes_max = 4 * CEILING};
  struct scene scene = scene_begin(&options, 2);
  uint64_t evicted = 0;
  uint32_t prompt = 1000;
  while (stats_of(&scene).evicted == 0) store(&scene, 0, prompt++, 0, SHORT);
  for (unsigned i = 0; i < 60; i++) {
    store(&scene, 0, prompt, 0, LONG);
    CHECK_EQUAL(match(&scene, 0, prompt, LONG), LONG);
    prompt++;
    for (unsigned j = 0; j < 5; j++) store(&scene, 0, prompt++, 0, SHORT);
    CHECK(stats_of(&scene).bytes <= 4 * CEILING);
  }
  evicted = counter(&scene, 0, KVS_COUNTER_EVICTED);
  CHECK(evicted > 10 * LONG);
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_SKIPPED_MEMORY), 0);
  CHECK_EQUAL(medium_of(&scene, 0, "GPU").reason, KVS_REASON_EVICTED);
  scene_end(&scene);
}

/* What continues a prompt whose earlier blocks are too deep to stay goes with them: no hole is ever left behind it. */
static void what_follows_an_evicted_block_is_not_spared(void) {
  enum { PART = 40, PARTS = 12 };
  kvs_options options = {.seed = 42, .bytes_max = CEILING};
  struct scene scene = scene_begin(&options, 1);
  for (uint32_t prompt = 1; prompt < 100; prompt++)
    for (uint32_t part = 0; part < PARTS; part++) {
      uint32_t from = part * PART;
      if (match(&scene, 0, prompt, from) == from) store(&scene, 0, prompt, from, from + PART);
      if (part % 4 == 0) prefixes_are_closed(&scene, 0);
    }
  CHECK(stats_of(&scene).evicted > 1000);
  CHECK(counter(&scene, 0, KVS_COUNTER_SKIPPED_MEMORY) > 0);
  scene_end(&scene);
}

/* Resident bytes of this process, 0 where the system does not say. */
static uint64_t resident(void) {
  unsigned long pages = 0, total = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL) return 0;
  if (fscanf(file, "%lu %lu", &total, &pages) != 2) pages = 0;
  fclose(file);
  return (uint64_t)pages * 4096;
}

/* Prompts come for ever, some go by themselves, the rest is evicted at the ceiling: memory stays flat, all that went is
 * counted, and what is left begins where prompts begin. KVSYNC_SOAK_BLOCKS says how many blocks, if more than a few. */
static void churn_stays_flat(void) {
  enum { LENGTH = 500, BEHIND = 40 };
  const char *asked = getenv("KVSYNC_SOAK_BLOCKS");
  uint64_t blocks = asked == NULL ? 600000 : strtoull(asked, NULL, 10), rounds = blocks / LENGTH, middle = 0;
  uint64_t missed = 0, skipped = 0;
  kvs_options options = {.seed = 42, .bytes_max = 16 * CEILING};
  struct scene scene = scene_begin(&options, 2);
  if (asked != NULL) check_takes_its_time();
  for (uint64_t i = 0; i < rounds; i++) {
    uint32_t engine = (uint32_t)(i & 1), prompt = 1000 + (uint32_t)i;
    store(&scene, engine, prompt, 0, LENGTH);
    missed += match(&scene, engine, prompt, LENGTH) < LENGTH;
    if (i % 3 == 0 && i > BEHIND && match(&scene, engine, prompt - BEHIND, LENGTH) == LENGTH)
      drop(&scene, engine, prompt - BEHIND, LENGTH / 2, LENGTH, NULL);
    if (i == rounds / 2) middle = resident();
  }
  CHECK(stats_of(&scene).evicted > blocks / 4);
  CHECK_EQUAL(stats_of(&scene).evicted,
              counter(&scene, 0, KVS_COUNTER_EVICTED) + counter(&scene, 1, KVS_COUNTER_EVICTED));
  for (uint32_t engine = 0; engine < 2; engine++)
    skipped += counter(&scene, engine, KVS_COUNTER_SKIPPED_MEMORY);
  CHECK_EQUAL(skipped, 0);
  CHECK_EQUAL(missed, 0);
  CHECK(stats_of(&scene).bytes_peak <= 16 * CEILING);
  CHECK(stats_of(&scene).entries > 16 * CEILING / 100);
  for (uint32_t engine = 0; engine < 2; engine++) CHECK_EQUAL(trust_of(&scene, engine), KVS_TRUST_PARTIAL);
  if (asked != NULL)
    printf("    %llu blocks, %llu events skipped: resident %.1f MB after half, %.1f MB at the end; %.1f MB by "
           "its own account\n",
           (unsigned long long)blocks, (unsigned long long)skipped, (double)middle / 1e6,
           (double)resident() / 1e6, (double)stats_of(&scene).bytes / 1e6);
  CHECK(resident() <= middle + middle / 10);
  scene_end(&scene);
}

/* However little is allowed: no crash, no more than allowed, nothing untrue. */
/* One that stores without end loses its own, tail first; the others keep all of theirs. */
static void one_record_has_a_limit(void) {
  struct scene scene = scene_begin(&(kvs_options){.seed = 1, .entries_max = 400}, 2);
  store(&scene, 0, 1, 0, 400);
  for (uint32_t prompt = 2; prompt < 10; prompt++) {
    store(&scene, 1, prompt, 0, 300);
    CHECK(status_of(&scene, 1).entries <= 400);
  }
  CHECK_EQUAL(match(&scene, 0, 1, 500), 400);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_EXACT);
  CHECK_EQUAL(trust_of(&scene, 1), KVS_TRUST_PARTIAL);
  CHECK_EQUAL(medium_of(&scene, 1, "GPU").reason, KVS_REASON_EVICTED);
  CHECK_EQUAL(counter(&scene, 0, KVS_COUNTER_EVICTED), 0);
  CHECK_EQUAL(counter(&scene, 1, KVS_COUNTER_EVICTED), 8 * 300 - status_of(&scene, 1).entries);
  for (uint32_t prompt = 2; prompt < 10; prompt++)
    CHECK(match(&scene, 1, prompt, 300) > 0); /* a beginning of each */
  scene_end(&scene);
}

static void tiny_ceilings(void) {
  for (uint64_t bytes = 0; bytes < 40000; bytes += 509) {
    kvs_options options = {.seed = 42, .bytes_max = bytes + 1};
    struct scene scene = {0};
    uint32_t engine = 0;
    uint64_t empty;
    CHECK_EQUAL(kvs_index_create(&options, &scene.index), KVS_OK);
    empty = stats_of(&scene).bytes;
    if (kvs_index_engine_add(scene.index, SCENE_MODEL, 5, &engine) == KVS_OK) {
      for (uint32_t prompt = 1; prompt < 60; prompt++) {
        store(&scene, 0, prompt, 0, 20);
        place(&scene, 0, prompt, 0, 10, "CPU");
        drop(&scene, 0, prompt, 10, 20, "GPU");
        CHECK(match(&scene, 0, prompt, 20) <= 10 || trust_of(&scene, 0) == KVS_TRUST_STALE);
      }
      CHECK(kvs_index_restart(scene.index, 0) == KVS_OK);
    }
    CHECK(stats_of(&scene).bytes_peak <= (empty > bytes + 1 ? empty : bytes + 1));
    scene_end(&scene);
  }
}

/* Half of each engine's prompts are everybody's. When nine entries of ten have gone in any order, at most a quarter of the
 * memory stays, although nearly every shared block has holders of its own by then. */
static void a_tenth_keeps_a_quarter(void) {
  enum { HOLDERS = 16, PROMPTS_EACH = 64, LENGTH = 256 };
  struct scene scene = scene_begin(NULL, HOLDERS);
  uint64_t full = 0, begin = stats_of(&scene).bytes;
  for (unsigned drain = 0; drain < 2; drain++) {
    for (uint32_t engine = 0; engine < HOLDERS; engine++)
      for (uint32_t i = 0; i < PROMPTS_EACH; i++) {
        uint32_t prompt = 1000 + i + (i % 2 == 0 ? 0 : 100 * engine);
        if (!drain) store(&scene, engine, prompt, 0, LENGTH);
        for (uint32_t block = 0; drain && block < LENGTH; block++)
          if (check_below(10) != 0) drop(&scene, engine, prompt, block, block + 1, NULL);
      }
    if (!drain) full = stats_of(&scene).bytes - begin;
  }
  CHECK(stats_of(&scene).bytes - begin < full / 4);
  CHECK(stats_of(&scene).holder_sets > 500);
  for (uint32_t engine = 0; engine < HOLDERS; engine++) CHECK_EQUAL(trust_of(&scene, engine), KVS_TRUST_EXACT);
  scene_end(&scene);
}

/* After everything is removed, next to nothing is kept. */
static void memory_comes_back(void) {
  struct scene scene = scene_begin(NULL, 4);
  uint64_t begin = stats_of(&scene).bytes, full, left;
  for (uint32_t engine = 0; engine < 4; engine++)
    for (uint32_t prompt = 1000; prompt < 1200; prompt++)
      store(&scene, engine, prompt, 0, 1 + (prompt + engine) % 200);
  full = stats_of(&scene).bytes - begin;
  for (uint32_t engine = 0; engine < 4; engine++)
    for (uint32_t prompt = 1000; prompt < 1200; prompt++)
      drop(&scene, engine, prompt, 0, 1 + (prompt + engine) % 200, NULL);
  CHECK_EQUAL(stats_of(&scene).entries, 0);
  CHECK_EQUAL(stats_of(&scene).blocks, 0);
  CHECK_EQUAL(stats_of(&scene).holder_sets, 0);
  for (uint32_t engine = 0; engine < 4; engine++) {
    CHECK_EQUAL(trust_of(&scene, engine), KVS_TRUST_EXACT);
  }
  left = stats_of(&scene).bytes - begin;
  CHECK(left < full / 8);
  for (uint32_t engine = 0; engine < 4; engine++)
    CHECK_EQUAL(kvs_index_engine_remove(scene.index, engine), KVS_OK);
  CHECK(stats_of(&scene).bytes < begin + 4096);
  scene_end(&scene);
}

#define SLABS 300u
/* Spares go when what they are a part of goes, and not only when the next slab is given back. */
static void no_spare_outlives_what_is_used(void) {
  struct kvs__memory memory = {0};
  const size_t bytes = (size_t)SLABS * KVS__SLAB_BYTES;
  void *slabs[SLABS], *other = kvs__alloc(&memory, bytes);
  for (unsigned i = 0; i < SLABS; i++) {
    slabs[i] = kvs__slab_take(&memory);
    CHECK(slabs[i] != NULL);
    memset(slabs[i], (int)i, KVS__SLAB_BYTES);
  }
  for (unsigned i = 0; i < SLABS; i++) {
    CHECK_EQUAL(*(uint8_t *)slabs[i], i & 255);
    kvs__slab_give(&memory, slabs[i]);
  }
  CHECK(memory.spares > 0 && memory.used <= bytes + bytes / 32);
  kvs__free(&memory, other, bytes);
  CHECK_EQUAL(memory.spares, 0);
  CHECK_EQUAL(memory.used, 0);
}

void tests_of_memory(void) {
  RUN("memory: no spare outlives what is used", no_spare_outlives_what_is_used);
  RUN("memory: a tenth of the entries keeps a quarter", a_tenth_keeps_a_quarter);
  RUN("memory: churn at the ceiling stays flat", churn_stays_flat);
  RUN("memory: the script alone is true", the_script_alone_is_true);
  RUN("memory: every allocation fails once, and nothing untrue is said", every_allocation_fails_once);
  RUN("memory: the system refuses each allocation once, and nothing untrue is said",
      the_system_refuses_each_once);
  RUN("memory: a later word about a hash fails safely", a_later_word_fails_safely);
  RUN("memory: the ceiling holds, and prefixes stay closed", the_ceiling_holds);
  RUN("memory: making room spares the event that it is for", making_room_spares_the_event_it_is_for);
  RUN("memory: what follows an evicted block is not spared", what_follows_an_evicted_block_is_not_spared);
  RUN("memory: of shallow prompts some are given up, not all", shallow_prompts_are_not_all_given_up);
  RUN("memory: one record has a limit", one_record_has_a_limit);
  RUN("memory: tiny ceilings", tiny_ceilings);
  RUN("memory: memory comes back", memory_comes_back);
}
