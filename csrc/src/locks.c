/* The locks of index.h, taken and given back. */
#include "index.h"

void kvs__state_begin(kvs_index *index) {
  pthread_rwlock_wrlock(&index->state);
  index->slice = 0;
}

void kvs__state_end(kvs_index *index) { pthread_rwlock_unlock(&index->state); }

void kvs__state_yield(kvs_index *index) {
  pthread_rwlock_unlock(&index->state);
  pthread_rwlock_wrlock(&index->state);
  index->slice = 0;
}

void kvs__write_begin(kvs_index *index) {
  pthread_mutex_lock(&index->writing);
  kvs__state_begin(index);
}

void kvs__write_end(kvs_index *index) {
  kvs__state_end(index);
  pthread_mutex_unlock(&index->writing);
}
