/* Plays a script against the core, so that its instructions can be counted without Python's.
 *
 *   driver SCRIPT
 *
 * A script is made of steps: kind (1 byte), engine (4), length in bytes (4), then so many bytes; numbers are in host
 * order. The kinds:
 *
 *   p  apply the payload, not counted          m  apply the payload, counted
 *   q  match the tokens (uint32), counted      e  the index must hold so many entries (8 bytes)
 *
 * What is counted runs inside `measured`, which is what valgrind is told to look at:
 *
 *   valgrind --tool=callgrind --toggle-collect=measured driver SCRIPT
 *
 * Prints the number of engines that matched the last question. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvsync.h"

#define MODEL "bench"
#define ENGINES_MAX 1024
#define STEP_BYTES 9

static void fail(const char *why) {
  fprintf(stderr, "driver: %s\n", why);
  exit(1);
}

static void must(kvs_status status) {
  if (status != KVS_OK) fail(kvs_status_text(status));
}

static void apply(kvs_index *index, uint32_t engine, const uint8_t *payload, size_t bytes) {
  kvs_applied applied;
  must(kvs_index_apply(index, engine, payload, bytes, -1, &applied));
}

static uint32_t match(kvs_index *index, const uint8_t *tokens, size_t bytes) {
  kvs_query query = {
      .tokens = (const void *)tokens, .tokens_count = bytes / 4, .model = MODEL, .model_bytes = strlen(MODEL)};
  const kvs_matches *matches;
  must(kvs_index_match(index, &query, &matches));
  uint32_t rows = (uint32_t)matches->rows_count;
  kvs_matches_free(matches);
  return rows;
}

uint32_t measured(kvs_index *index, char kind, uint32_t engine, const uint8_t *data, size_t bytes);

__attribute__((noinline)) uint32_t measured(kvs_index *index, char kind, uint32_t engine, const uint8_t *data,
                                            size_t bytes) {
  if (kind == 'q') return match(index, data, bytes);
  apply(index, engine, data, bytes);
  return 0;
}

static void expect(kvs_index *index, const uint8_t *data) {
  uint64_t expected;
  kvs_stats stats;
  memcpy(&expected, data, sizeof expected);
  kvs_index_stats(index, &stats);
  if (stats.entries != expected) fail("the index holds another number of entries than the script says");
}

int main(int count, char **arguments) {
  if (count != 2) fail("usage: driver SCRIPT");
  FILE *script = fopen(arguments[1], "rb");
  if (script == NULL) fail("the script cannot be opened");
  kvs_options options = {.seed = 1};
  kvs_index *index;
  must(kvs_index_create(&options, &index));
  uint32_t engines = 0, matched = 0;
  uint8_t head[STEP_BYTES];
  while (fread(head, 1, sizeof head, script) == sizeof head) {
    uint32_t engine, bytes;
    memcpy(&engine, head + 1, 4);
    memcpy(&bytes, head + 5, 4);
    if (engine >= ENGINES_MAX) fail("the script names too many engines");
    /* The core numbers engines as they come: 0, 1, 2 ... */
    for (; engines <= engine; engines++) {
      uint32_t made;
      must(kvs_index_engine_add(index, MODEL, strlen(MODEL), &made));
    }
    uint8_t *data = malloc(bytes + 8);
    if (data == NULL) fail("out of memory");
    if (fread(data, 1, bytes, script) != bytes) fail("the script ends inside a step");
    char kind = (char)head[0];
    if (kind == 'p')
      apply(index, engine, data, bytes);
    else if (kind == 'e')
      expect(index, data);
    else
      matched = measured(index, kind, engine, data, bytes);
    free(data);
  }
  printf("%u\n", matched);
  fclose(script);
  kvs_index_destroy(index);
  return 0;
}
