/* What engines and callers do, byte after byte, to the index and to a plain model of it (plain.h); after each step both must
 * say the same: every copy, doubt and tie, every trust, every match.
 *
 * The numbers are small, so that random bytes meet what matters: copies, orphans, prompts that part inside and at the end of
 * a run of blocks, prefixes told again, blocks that move between media inside one frame. */
#include "books.h"
#include "fuzz.h"
#include "plain.h"
#include "wire.h"

#define ENGINES 4u
#define STEPS_MAX 200u
#define BLOCK_TOKENS 4u
#define MODEL "model"

static const char *const MEDIA[PLAIN_MEDIA] = {"GPU", "CPU", "DISK"};

struct input {
  const uint8_t *at, *end;
};

struct pair {
  kvs_index *index;
  uint32_t numbers[ENGINES]; /* of the index's engines */
  struct plain plain[ENGINES];
};

/* Zero when there is no more. */
static unsigned take(struct input *input) { return input->at < input->end ? *input->at++ : 0; }

/* ---- blocks ---- */

/* Engine 1 has hashes that fill 64 bits, engine 3 such of 32 bytes. */
static unsigned hash_bytes_of(unsigned engine) { return engine == 3 ? 32 : 0; }

static uint64_t hash_of(unsigned engine, int block) {
  uint64_t name = (uint64_t)block + 1;
  return engine == 1 ? name * UINT64_C(0x9e3779b97f4a7c15) : name;
}

static int block_of(unsigned engine, uint64_t hash) {
  uint64_t name = engine == 1 ? hash * UINT64_C(0xf1de83e19937733d) : hash; /* its inverse */
  if (CHECK(name >= 1 && name <= PLAIN_BLOCKS)) return (int)name - 1;
  return 0;
}

static void tokens_of(const int *blocks, int count, uint32_t *tokens) {
  for (int i = 0; i < count; i++)
    for (uint32_t t = 0; t < BLOCK_TOKENS; t++)
      tokens[(uint32_t)i * BLOCK_TOKENS + t] = (uint32_t)blocks[i] * BLOCK_TOKENS + t;
}

/* The last `most` blocks of the prompt that ends with `last`, in its order; how many there are. */
static int path_to(int last, int most, int *blocks) {
  int count = 0;
  for (int block = last; block >= 0 && count < most; block = plain_parent(block)) blocks[count++] = block;
  for (int i = 0; i < count / 2; i++) {
    int other = blocks[i];
    blocks[i] = blocks[count - 1 - i];
    blocks[count - 1 - i] = other;
  }
  return count;
}

/* ---- telling ---- */

static void say_stored(struct pack *pack, unsigned engine, int m, const int *blocks, int count, int tokens,
                       unsigned form) {
  uint64_t hashes[PLAIN_BLOCKS];
  uint32_t ids[PLAIN_BLOCKS * BLOCK_TOKENS];
  int parent = plain_parent(blocks[0]);
  struct wire_stored event = {WIRE_NIL};
  for (int i = 0; i < count; i++) hashes[i] = hash_of(engine, blocks[i]);
  tokens_of(blocks, count, ids);
  event.hashes = hashes;
  event.hashes_count = (size_t)count;
  event.hash_bytes = hash_bytes_of(engine);
  event.has_parent = tokens && parent >= 0;
  event.parent = event.has_parent ? hash_of(engine, parent) : 0;
  event.tokens = ids;
  event.tokens_count = tokens ? (size_t)count * BLOCK_TOKENS : 0;
  event.block_size = tokens ? BLOCK_TOKENS : 0;
  event.medium = MEDIA[m];
  wire_stored(pack, &event, form);
}

/* Kind in two bits, medium in two, form in four; then the last block, and how many. */
static void one_event(struct pair *pair, unsigned engine, struct input *input, struct pack *pack, int fresh) {
  unsigned what = take(input), kind = what & 3, form = what >> 4;
  int m = (int)(what >> 2 & 3) % PLAIN_MEDIA, blocks[PLAIN_BLOCKS];
  int last = (int)take(input) % PLAIN_BLOCKS, count;
  struct plain *plain = &pair->plain[engine];
  /* Arrays of 7 elements and more name the medium. */
  form = form < 7 || form > WIRE_STORED_MAX ? WIRE_MAP : form;
  if (kind == 3 && last % 8 == 0) {
    wire_cleared(pack, form == WIRE_MAP ? WIRE_MAP : 1);
    if (fresh) plain_cleared(plain);
    return;
  }
  count = path_to(last, 1 + (int)take(input) % PLAIN_BLOCKS, blocks);
  if (kind >= 2) {
    uint64_t hashes[PLAIN_BLOCKS];
    for (int i = 0; i < count; i++) hashes[i] = hash_of(engine, blocks[i]);
    wire_removed(pack, hashes, (size_t)count, hash_bytes_of(engine), MEDIA[m], -1,
                 form == WIRE_MAP ? WIRE_MAP : 3);
    if (fresh) plain_removed(plain, m, blocks, count);
  } else {
    int dialect = form == WIRE_MAP ? KVS_DIALECT_TAGGED
                  : form <= 8      ? KVS_DIALECT_ABSENT
                  : form == 9      ? KVS_DIALECT_UNTAGGED
                                   : KVS_DIALECT_TAGGED;
    say_stored(pack, engine, m, blocks, count, kind == 0, form);
    if (fresh) plain_stored(plain, m, blocks, count, kind == 0, dialect);
  }
}

/* Number in two bits: the next, none, the last again, one that leaves a hole. */
static int64_t number_of(const struct plain *plain, unsigned how) {
  switch (how) {
    case 1: return -1;
    case 2: return plain->sequence;
    case 3: return plain->sequence + 2;
    default: return plain->sequence + 1;
  }
}

static void one_frame(struct pair *pair, unsigned engine, unsigned how, struct input *input) {
  struct plain *plain = &pair->plain[engine];
  int64_t sequence = number_of(plain, how & 3);
  int events = 1 + (int)(how >> 2 & 3), fresh = plain_frame_begin(plain, sequence);
  struct pack pack = {0};
  kvs_applied applied;
  wire_batch_begin(&pack, WIRE_BATCH_3, (size_t)events);
  for (int i = 0; i < events; i++) one_event(pair, engine, input, &pack, fresh);
  wire_batch_end(&pack, WIRE_BATCH_3);
  if (fresh) plain_frame_end(plain);
  CHECK_EQUAL(kvs_index_apply(pair->index, pair->numbers[engine], pack.at, pack.bytes, sequence, &applied),
              KVS_OK);
  pack_end(&pack);
  CHECK_EQUAL(applied.stored, plain->applied.stored);
  CHECK_EQUAL(applied.removed, plain->applied.removed);
  CHECK_EQUAL(applied.cleared, plain->applied.cleared);
  CHECK_EQUAL(applied.reannounced, plain->applied.reannounced);
  CHECK_EQUAL(applied.skipped, 0);
}

static void engine_begins(struct pair *pair, unsigned engine) {
  CHECK_EQUAL(kvs_index_engine_add(pair->index, MODEL, strlen(MODEL), &pair->numbers[engine]), KVS_OK);
  plain_begin(&pair->plain[engine]);
}

/* What a caller does to one engine. */
static void one_call(struct pair *pair, unsigned engine, unsigned what) {
  struct plain *plain = &pair->plain[engine];
  uint32_t number = pair->numbers[engine];
  int m = (int)(what >> 3) % PLAIN_MEDIA, named = plain->media[m].named;
  kvs_status wanted = named ? KVS_OK : KVS_ERR_ARGUMENT;
  switch (what & 7) {
    case 0:
      CHECK_EQUAL(kvs_index_clear(pair->index, number, NULL, 0), KVS_OK);
      plain_clear_all(plain);
      break;
    case 1:
      CHECK_EQUAL(kvs_index_clear(pair->index, number, MEDIA[m], strlen(MEDIA[m])), wanted);
      if (named) plain_drop(plain, m);
      break;
    case 2:
    case 3:
      CHECK_EQUAL(kvs_index_restart(pair->index, number), KVS_OK);
      plain_restart(plain);
      break;
    case 4:
      CHECK_EQUAL(kvs_index_doubt(pair->index, number, NULL, 0), KVS_OK);
      plain_doubt_all(plain);
      break;
    case 5:
      CHECK_EQUAL(kvs_index_doubt(pair->index, number, MEDIA[m], strlen(MEDIA[m])), wanted);
      if (named) plain->complete = 0;
      plain_doubt(&plain->media[m]);
      break;
    default:
      CHECK_EQUAL(kvs_index_engine_remove(pair->index, number), KVS_OK);
      CHECK_EQUAL(kvs_index_clear(pair->index, number, NULL, 0), KVS_ERR_ENGINE);
      engine_begins(pair, engine);
      break;
  }
}

/* ---- comparing ---- */

static int medium_of(kvs_index *index, uint32_t number) {
  const char *name = kvs_index_medium_name(index, number);
  for (int m = 0; m < PLAIN_MEDIA; m++)
    if (name != NULL && strcmp(name, MEDIA[m]) == 0) return m;
  CHECK(!"the index names a medium that nobody told it");
  return 0;
}

/* Every row is in the model, and there are as many. */
static void same_entries(const struct pair *pair, unsigned engine) {
  const struct plain *plain = &pair->plain[engine];
  const kvs_export *list = NULL;
  uint64_t entries = 0;
  for (int m = 0; m < PLAIN_MEDIA; m++)
    for (int block = 0; block < PLAIN_BLOCKS; block++) entries += plain->media[m].copies[block] > 0;
  if (!CHECK_EQUAL(kvs_index_export(pair->index, pair->numbers[engine], &list), KVS_OK)) return;
  CHECK_EQUAL(list->rows_count, entries);
  for (uint64_t i = 0; i < list->rows_count; i++) {
    const kvs_export_row *row = &list->rows[i];
    const struct plain_medium *medium = &plain->media[medium_of(pair->index, row->medium)];
    uint64_t hash = row->hash;
    int block;
    CHECK_EQUAL(row->hash_bytes, hash_bytes_of(engine));
    if (row->hash_bytes > 0)
      for (int byte = 7; byte >= 0; byte--) hash = hash << 8 | list->bytes[row->hash + (unsigned)byte];
    block = block_of(engine, hash);
    CHECK_EQUAL(row->copies, medium->copies[block]);
    CHECK_EQUAL(row->doubtful, medium->doubtful[block]);
    CHECK_EQUAL(row->tied, plain->known[block]);
    CHECK_EQUAL(row->group, 0);
  }
  kvs_export_free(list);
}

static void same_record(const struct pair *pair, unsigned engine) {
  const struct plain *plain = &pair->plain[engine];
  kvs_engine_status status;
  kvs_medium_status medium;
  uint32_t named = 0;
  uint64_t orphans = 0;
  uint8_t trust = 255;
  for (int m = 0; m < PLAIN_MEDIA; m++) {
    named += (uint32_t)plain->media[m].named;
    for (int block = 0; block < PLAIN_BLOCKS; block++) orphans += plain->media[m].orphan[block];
  }
  if (!CHECK_EQUAL(kvs_index_engine_status(pair->index, pair->numbers[engine], &status), KVS_OK)) return;
  CHECK_EQUAL(status.sequence, plain->sequence);
  CHECK_EQUAL(status.lives, plain->lives);
  CHECK_EQUAL(status.orphans, orphans);
  CHECK_EQUAL(status.dialect, plain->dialect);
  CHECK_EQUAL(status.trust, plain_trust(plain));
  CHECK_EQUAL(kvs_index_trust(pair->index, pair->numbers[engine], &trust), KVS_OK);
  CHECK_EQUAL(trust, plain_trust(plain));
  CHECK_EQUAL(status.media_count, named);
  for (uint32_t nth = 0; kvs_index_medium_status(pair->index, pair->numbers[engine], nth, &medium) == KVS_OK;
       nth++)
    CHECK_EQUAL(medium.trust, plain->media[medium_of(pair->index, medium.medium)].trust);
}

/* Rows in any order, one for each engine that holds something. */
static void same_rows(const struct pair *pair, const kvs_matches *matches, const int *prompt, int count,
                      int hashes) {
  uint32_t rows = 0;
  for (unsigned engine = 0; engine < ENGINES; engine++) {
    const struct plain *plain = &pair->plain[engine];
    uint32_t fastest[PLAIN_MEDIA], blocks = plain_match(plain, prompt, count, fastest);
    rows += blocks > 0;
    for (uint32_t i = 0; i < matches->rows_count; i++) {
      const kvs_match_row *row = &matches->rows[i];
      if (row->engine != pair->numbers[engine]) continue;
      CHECK_EQUAL(row->blocks, blocks);
      CHECK_EQUAL(row->tokens, (uint64_t)blocks * BLOCK_TOKENS);
      CHECK_EQUAL(row->trust, plain_trust(plain));
      if (!hashes) CHECK_EQUAL(row->certain, plain->dialect != KVS_DIALECT_ABSENT);
      for (uint32_t n = 0; n < row->media_count; n++) {
        const kvs_match_medium *medium = &matches->media[row->media_at + n];
        int m = medium_of(pair->index, medium->medium);
        CHECK_EQUAL(medium->blocks, fastest[m]);
        fastest[m] = 0;
      }
      for (int m = 0; m < PLAIN_MEDIA; m++) CHECK_EQUAL(fastest[m], 0);
    }
  }
  CHECK_EQUAL(matches->rows_count, rows);
}

/* By tokens, and by block hashes. */
static void same_match(const struct pair *pair, int last) {
  int prompt[PLAIN_BLOCKS], count = path_to(last, PLAIN_BLOCKS, prompt);
  uint32_t tokens[PLAIN_BLOCKS * BLOCK_TOKENS];
  uint64_t hashes[PLAIN_BLOCKS];
  const kvs_matches *matches = NULL;
  kvs_query query = {.tokens = tokens, .tokens_count = (size_t)count * BLOCK_TOKENS};
  query.model = MODEL;
  query.model_bytes = strlen(MODEL);
  tokens_of(prompt, count, tokens);
  if (!CHECK_EQUAL(kvs_index_match(pair->index, &query, &matches), KVS_OK)) return;
  same_rows(pair, matches, prompt, count, 0);
  kvs_matches_free(matches);
  CHECK_EQUAL(kvs_index_block_hashes(pair->index, &query, BLOCK_TOKENS, hashes), KVS_OK);
  if (!CHECK_EQUAL(kvs_index_match_hashes(pair->index, hashes, (size_t)count, NULL, 0, &matches), KVS_OK))
    return;
  same_rows(pair, matches, prompt, count, 1);
  kvs_matches_free(matches);
}

static void same_blocks(const struct pair *pair) {
  uint64_t blocks = 0;
  kvs_stats stats;
  for (int block = 0; block < PLAIN_BLOCKS; block++) {
    int known = 0;
    for (unsigned engine = 0; engine < ENGINES; engine++) known |= pair->plain[engine].known[block];
    blocks += (uint64_t)known;
  }
  kvs_index_stats(pair->index, &stats);
  CHECK_EQUAL(stats.blocks, blocks);
}

/* ---- all of it ---- */

/* Engine in two bits; two bits that say whether a caller or the engine acts; the rest says how. */
static void one_step(struct pair *pair, struct input *input) {
  unsigned what = take(input), engine = what & 3;
  if ((what >> 2 & 3) == 3)
    one_call(pair, engine, take(input));
  else
    one_frame(pair, engine, what >> 4, input);
  same_entries(pair, engine);
  same_record(pair, engine);
  same_blocks(pair);
  same_match(pair, (int)take(input) % PLAIN_BLOCKS);
}

static void all_the_same(const struct pair *pair) {
  static const int ends[] = {79, 95, 111, 127};
  for (unsigned engine = 0; engine < ENGINES; engine++) {
    same_entries(pair, engine);
    same_record(pair, engine);
    (void)books_of(pair->index, pair->numbers[engine]);
  }
  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) same_match(pair, ends[i]);
}

void fuzz_operations(const uint8_t *data, size_t bytes) {
  static const kvs_options options = {.seed = 42};
  struct input input = {data, data + bytes};
  struct pair pair;
  if (!CHECK_EQUAL(kvs_index_create(&options, &pair.index), KVS_OK)) return;
  for (unsigned engine = 0; engine < ENGINES; engine++) engine_begins(&pair, engine);
  for (unsigned steps = 0; input.at < input.end && steps < STEPS_MAX && check_state.failures == 0; steps++)
    one_step(&pair, &input);
  all_the_same(&pair);
  kvs_index_destroy(pair.index);
}
