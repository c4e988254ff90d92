/* Bring a line that is about to be changed into the cache. */
#ifndef KVS_PREFETCH_H
#define KVS_PREFETCH_H

static inline void kvs__prefetch(const void *at) {
  __builtin_prefetch(at, 1);
  __asm__ volatile(""); /* else GCC takes whoever only prefetches for pure, and leaves out calls of it */
}

#endif
