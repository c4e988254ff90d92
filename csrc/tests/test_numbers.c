/* numbers.c: every text that is an array of token ids, and none that is not. */
#include "check.h"
#include "kvsync.h"

#define CAPACITY 4u

struct reading {
  const char *text;
  size_t used; /* 0 = refused */
  size_t count;
  uint32_t tokens[CAPACITY];
};

static const struct reading readings[] = {
    {"]", 1, 0, {0}},
    {" \t\r\n] rest", 5, 0, {0}},
    {"0]", 2, 1, {0}},
    {"1,22, 333 ,4294967295]}", 22, 4, {1, 22, 333, UINT32_MAX}},
    {"4294967296]", 0, 0, {0}},
    {"42949672950]", 0, 0, {0}},
    {"00]", 0, 0, {0}},
    {"01]", 0, 0, {0}},
    {"-1]", 0, 0, {0}},
    {"+1]", 0, 0, {0}},
    {"1.0]", 0, 0, {0}},
    {"1e1]", 0, 0, {0}},
    {"true]", 0, 0, {0}},
    {"\"1\"]", 0, 0, {0}},
    {"[1]]", 0, 0, {0}},
    {",1]", 0, 0, {0}},
    {"1,]", 0, 0, {0}},
    {"1,,2]", 0, 0, {0}},
    {"1 2]", 0, 0, {0}},
    {"1;2]", 0, 0, {0}},
    {"1", 0, 0, {0}},
    {"1,", 0, 0, {0}},
    {"", 0, 0, {0}},
    {"1,2,3,4,5]", 0, 0, {0}}, /* one more than there is room for */
};

static void texts(void) {
  for (size_t i = 0; i < sizeof readings / sizeof readings[0]; i++) {
    const struct reading *expected = &readings[i];
    size_t bytes = strlen(expected->text), count = 0;
    uint32_t tokens[CAPACITY] = {0};
    /* A copy without the NUL: to read beyond the end is found by the sanitizers. */
    char *text = malloc(bytes + (bytes == 0));
    CHECK(text != NULL);
    memcpy(text, expected->text, bytes);
    CHECK_EQUAL(kvs_tokens_read(text, bytes, tokens, CAPACITY, &count), expected->used);
    CHECK_EQUAL(count, expected->count);
    for (size_t at = 0; at < expected->count; at++) CHECK_EQUAL(tokens[at], expected->tokens[at]);
    for (size_t cut = 0; cut < expected->used && expected->used > 1; cut++)
      CHECK_EQUAL(kvs_tokens_read(text, cut, tokens, CAPACITY, &count), 0);
    free(text);
  }
}

void tests_of_numbers(void) { check_run("numbers: arrays of token ids, and what is none", texts); }
