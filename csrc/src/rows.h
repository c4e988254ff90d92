/* The rows of an answer, while they are found. */
#ifndef KVS_ROWS_H
#define KVS_ROWS_H

#include "walk.h"

struct kvs__rows {
  kvs_match_row *rows;
  uint32_t rows_count;
  uint32_t rows_capacity;
  kvs_match_medium *media;
  uint32_t media_count;
  uint32_t media_capacity;
};

/* One engine's row, with where its blocks lie; none for no blocks. 0 = out of memory. */
int kvs__rows_add(const struct kvs__asking *asking, const struct kvs__walk *walk,
                  const struct kvs__engine *engine, uint32_t blocks, struct kvs__rows *rows);
/* One allocation that holds the answer: header, rows, media. NULL = out of memory. */
const kvs_matches *kvs__rows_pack(const struct kvs__rows *rows);

#endif
