/* What holds of every index between two calls, whatever it was told. */
#ifndef BOOKS_H
#define BOOKS_H

#include "check.h"
#include "kvsync.h"

/* What one engine's record says of itself adds up; its entries. */
static inline uint64_t books_of(kvs_index *index, uint32_t engine) {
  kvs_engine_status status;
  const kvs_export *list = NULL;
  uint64_t in_media = 0, doubtful = 0, listed_doubtful = 0;
  if (!CHECK_EQUAL(kvs_index_engine_status(index, engine, &status), KVS_OK)) return 0;
  if (!CHECK_EQUAL(kvs_index_export(index, engine, &list), KVS_OK)) return 0;
  CHECK_EQUAL(list->rows_count, status.entries);
  for (uint64_t i = 0; i < list->rows_count; i++) {
    CHECK(list->rows[i].copies > 0);
    listed_doubtful += list->rows[i].doubtful;
  }
  kvs_export_free(list);
  for (uint32_t nth = 0; nth < status.media_count; nth++) {
    kvs_medium_status medium;
    if (!CHECK_EQUAL(kvs_index_medium_status(index, engine, nth, &medium), KVS_OK)) continue;
    CHECK_EQUAL(medium.trust == KVS_TRUST_STALE, medium.doubtful > 0);
    in_media += medium.entries;
    doubtful += medium.doubtful;
  }
  CHECK_EQUAL(in_media, status.entries);
  CHECK_EQUAL(doubtful, listed_doubtful);
  CHECK(status.orphans <= KVS_ORPHANS_MAX);
  return status.entries;
}

/* The same of all engines, which are numbered from 0, and of their sum. */
static inline void books_balance(kvs_index *index, unsigned engines) {
  uint64_t entries = 0;
  kvs_stats stats;
  for (uint32_t engine = 0; engine < engines; engine++) entries += books_of(index, engine);
  kvs_index_stats(index, &stats);
  CHECK_EQUAL(stats.entries, entries);
}

#endif
