/* Frames as they might come over the wire, into a few engines: whatever the bytes, the index stays sound.
 *
 *     payload  mark order payload  mark order payload ...
 *
 * The mark is three bytes that begin no msgpack value, so a payload as an engine sent it is an input as it is. The order says
 * for which engine the payload behind it is, how it is numbered, and what is done to the index before. The first payload
 * is for engine 0. */
#include "books.h"
#include "fuzz.h"

#define ENGINES 3u
#define TWIN ENGINES /* hears what engine 0 hears, and nobody else */
#define FRAMES_MAX 64u
#define MODEL "model"

static const uint8_t MARK[3] = {0xc1, 'K', 'V'};

struct run {
  kvs_index *index;
  int ceiling;
  int64_t last[ENGINES];
};

/* Where the next mark is, or the end. */
static size_t mark_from(const uint8_t *data, size_t from, size_t bytes) {
  for (size_t at = from; at + sizeof MARK <= bytes; at++)
    if (memcmp(data + at, MARK, sizeof MARK) == 0) return at;
  return bytes;
}

static uint64_t skipped_of(const kvs_engine_status *status) {
  uint64_t skipped = 0;
  for (unsigned i = KVS_COUNTER_SKIPPED_TYPE; i <= KVS_COUNTER_SKIPPED_MEMORY; i++)
    skipped += status->counters[i];
  return skipped;
}

static kvs_engine_status status_of(const struct run *run, uint32_t engine) {
  kvs_engine_status status = {0};
  CHECK_EQUAL(kvs_index_engine_status(run->index, engine, &status), KVS_OK);
  return status;
}

/* Apply, and see that the engine's counters grew by what the answer says. */
static void apply(const struct run *run, uint32_t engine, const uint8_t *payload, size_t bytes,
                  int64_t sequence) {
  kvs_engine_status before = status_of(run, engine), after;
  kvs_applied applied;
  CHECK_EQUAL(kvs_index_apply(run->index, engine, payload, bytes, sequence, &applied), KVS_OK);
  after = status_of(run, engine);
  CHECK_EQUAL(skipped_of(&after) - skipped_of(&before), applied.skipped);
#define GREW(counter) (after.counters[counter] - before.counters[counter])
  CHECK_EQUAL(GREW(KVS_COUNTER_STORED), applied.stored);
  CHECK_EQUAL(GREW(KVS_COUNTER_REMOVED), applied.removed);
  CHECK_EQUAL(GREW(KVS_COUNTER_CLEARED), applied.cleared);
  CHECK_EQUAL(GREW(KVS_COUNTER_REANNOUNCED), applied.reannounced);
  CHECK_EQUAL(GREW(KVS_COUNTER_FRAMES) + GREW(KVS_COUNTER_DUPLICATE), 1);
#undef GREW
}

/* To an engine, and to its twin if it has one. */
static void to_engine(const struct run *run, uint32_t engine, unsigned what) {
  for (int twin = 0; twin <= (engine == 0); twin++) {
    uint32_t number = twin ? TWIN : engine;
    switch (what) {
      case 0: CHECK_EQUAL(kvs_index_clear(run->index, number, NULL, 0), KVS_OK); break;
      case 1: CHECK_EQUAL(kvs_index_restart(run->index, number), KVS_OK); break;
      default: CHECK_EQUAL(kvs_index_doubt(run->index, number, NULL, 0), KVS_OK); break;
    }
  }
}

/* Order: engine in two bits, numbering in two, and 1 of 8 in the upper four does something first. */
static void one_frame(struct run *run, unsigned order, const uint8_t *data, size_t bytes) {
  uint32_t engine = (order & 3) % ENGINES;
  unsigned numbering = order >> 2 & 3, before = order >> 4;
  int64_t sequence = numbering == 3 ? -1 : run->last[engine] + (numbering == 0 ? 1 : numbering == 1 ? 0 : 3);
  /* In an allocation of its own, so that a sanitizer sees a read behind it. */
  uint8_t *payload = check_alloc(bytes);
  memcpy(payload, data, bytes);
  if (before >= 13) {
    to_engine(run, engine, before - 13);
    if (before <= 14) run->last[engine] = -1;
    if (numbering != 3) sequence = before <= 14 ? 0 : sequence;
  }
  apply(run, engine, payload, bytes, sequence);
  if (engine == 0) apply(run, TWIN, payload, bytes, sequence);
  if (sequence > run->last[engine]) run->last[engine] = sequence;
  free(payload);
}

/* What one engine is told changes nothing for another: the twin is as engine 0 is, whatever the others heard. */
static void twins_agree(const struct run *run) {
  kvs_engine_status engine = status_of(run, 0), twin = status_of(run, TWIN);
  CHECK_EQUAL(engine.entries, twin.entries);
  CHECK_EQUAL(engine.orphans, twin.orphans);
  CHECK_EQUAL(engine.trust, twin.trust);
  CHECK_EQUAL(engine.sequence, twin.sequence);
  CHECK_EQUAL(engine.block_size, twin.block_size);
  CHECK_EQUAL(engine.dialect, twin.dialect);
  for (unsigned i = 0; i < KVS_COUNTERS_COUNT; i++) CHECK_EQUAL(engine.counters[i], twin.counters[i]);
}

/* Any question has an answer, and the twins have the same. */
static void asking(const struct run *run) {
  static const uint32_t tokens[64] = {1, 2, 3, 4, 5, 6, 7, 8};
  kvs_query query = {.tokens = tokens, .tokens_count = 64, .model = MODEL, .model_bytes = strlen(MODEL)};
  const kvs_matches *matches = NULL;
  uint32_t blocks[ENGINES + 1] = {0};
  if (!CHECK_EQUAL(kvs_index_match(run->index, &query, &matches), KVS_OK)) return;
  for (uint32_t i = 0; i < matches->rows_count; i++) {
    CHECK(matches->rows[i].blocks > 0);
    blocks[matches->rows[i].engine] = matches->rows[i].blocks;
  }
  if (!run->ceiling) CHECK_EQUAL(blocks[0], blocks[TWIN]);
  kvs_matches_free(matches);
}

static void all_go(const struct run *run) {
  kvs_stats stats;
  for (uint32_t engine = 0; engine <= TWIN; engine++) {
    kvs_status status = kvs_index_engine_remove(run->index, engine);
    if (run->ceiling && status == KVS_ERR_MEMORY) return; /* as the header says */
    CHECK_EQUAL(status, KVS_OK);
  }
  kvs_index_stats(run->index, &stats);
  CHECK_EQUAL(stats.entries, 0);
  CHECK_EQUAL(stats.blocks, 0);
}

void fuzz_payload(const uint8_t *data, size_t bytes) {
  /* The length decides, so that a payload alone meets no ceiling unless it is of some lengths. */
  kvs_options options = {.seed = 42, .bytes_max = bytes % 16 == 7 ? 60000 : 0};
  struct run run = {.ceiling = options.bytes_max > 0, .last = {-1, -1, -1}};
  unsigned order = 0;
  size_t from = 0;
  if (!CHECK_EQUAL(kvs_index_create(&options, &run.index), KVS_OK)) return;
  for (uint32_t i = 0; i <= TWIN; i++) {
    uint32_t engine;
    CHECK_EQUAL(kvs_index_engine_add(run.index, MODEL, strlen(MODEL), &engine), KVS_OK);
  }
  for (unsigned frames = 0; from <= bytes && frames < FRAMES_MAX; frames++) {
    size_t end = mark_from(data, from, bytes);
    one_frame(&run, order, data + from, end - from);
    if (end + sizeof MARK >= bytes) break;
    order = data[end + sizeof MARK];
    from = end + sizeof MARK + 1;
  }
  books_balance(run.index, ENGINES + 1);
  if (!run.ceiling) twins_agree(&run);
  asking(&run);
  if (run.ceiling) {
    kvs_stats stats;
    kvs_index_stats(run.index, &stats);
    CHECK(stats.bytes_peak <= stats.bytes_max);
  }
  all_go(&run);
  kvs_index_destroy(run.index);
}
