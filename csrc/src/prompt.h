/* A prompt's block hashes, one after the other, as a caller asks for them. */
#ifndef KVS_PROMPT_H
#define KVS_PROMPT_H

#include "index.h"

struct kvs__prompt {
  const kvs_index *index;
  const kvs_query *query;
  const kvs_extra_key **extras;
  uint32_t block_size;
  uint8_t dialect;
  uint64_t previous;
  uint64_t at;          /* next block */
  size_t extras_passed; /* items that end before the next block */
};

/* Are all pointers and sizes of a question what the header asks for? */
int kvs__query_is_sound(const kvs_query *query);
int kvs__query_has_extras(const kvs_query *query);

/* The query's extra keys by offset, NULL if it has none; free() it. 0 = out of memory. */
int kvs__prompt_sort(const kvs_query *query, const kvs_extra_key ***sorted);

void kvs__prompt_begin(struct kvs__prompt *prompt, const kvs_index *index, const kvs_query *query,
                       const kvs_extra_key **extras, uint32_t block_size, uint8_t dialect);
/* The hashes of the next whole blocks; the caller counts them. */
void kvs__prompt_next(struct kvs__prompt *prompt, uint64_t *blocks, size_t count);

#endif
