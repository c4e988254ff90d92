/* What both drivers are told, step by step: kind (1 byte), engine (4), length in bytes (4), then so many bytes;
 * numbers are in host order. */
#ifndef KVSYNC_BENCHMARKS_SCRIPT_H
#define KVSYNC_BENCHMARKS_SCRIPT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvsync.h"

#define MODEL "bench"
#define ENGINES_MAX 1024
#define STEP_BYTES 9

struct step {
  char kind;
  uint32_t engine;
  uint32_t bytes;
  uint8_t *data; /* to be freed by whoever took the step */
};

static inline void fail(const char *why) {
  fprintf(stderr, "driver: %s\n", why);
  exit(1);
}

static inline void must(kvs_status status) {
  if (status != KVS_OK) fail(kvs_status_text(status));
}

static inline FILE *open_script(const char *path) {
  FILE *script = fopen(path, "rb");
  if (script == NULL) fail("the script cannot be opened");
  return script;
}

static inline kvs_index *make_index(void) {
  kvs_options options = {.seed = 1};
  kvs_index *index;
  must(kvs_index_create(&options, &index));
  return index;
}

/* The next step; 0 behind the last. The core numbers engines as they come: all up to this step's are added first. */
static inline int take_step(FILE *script, kvs_index *index, uint32_t *engines, struct step *step) {
  uint8_t head[STEP_BYTES];
  if (fread(head, 1, sizeof head, script) != sizeof head) return 0;
  step->kind = (char)head[0];
  memcpy(&step->engine, head + 1, 4);
  memcpy(&step->bytes, head + 5, 4);
  if (step->engine >= ENGINES_MAX) fail("the script names too many engines");
  for (; *engines <= step->engine; ++*engines) {
    uint32_t made;
    must(kvs_index_engine_add(index, MODEL, strlen(MODEL), &made));
  }
  step->data = malloc(step->bytes + 8);
  if (step->data == NULL) fail("out of memory");
  if (fread(step->data, 1, step->bytes, script) != step->bytes) fail("the script ends inside a step");
  return 1;
}

static inline void apply(kvs_index *index, const struct step *step) {
  kvs_applied applied;
  must(kvs_index_apply(index, step->engine, step->data, step->bytes, -1, &applied));
}

/* How many engines hold something of the step's tokens. */
static inline uint32_t match(kvs_index *index, const struct step *step) {
  kvs_query query = {.tokens = (const void *)step->data,
                     .tokens_count = step->bytes / 4,
                     .model = MODEL,
                     .model_bytes = strlen(MODEL)};
  const kvs_matches *matches;
  must(kvs_index_match(index, &query, &matches));
  uint32_t rows = (uint32_t)matches->rows_count;
  kvs_matches_free(matches);
  return rows;
}

#endif
