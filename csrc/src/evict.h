/* Giving up entries for want of room. */
#ifndef KVS_EVICT_H
#define KVS_EVICT_H

#include "index.h"

/* Consecutive blocks of a prompt that an engine is just told to hold: block i has this slot, and lies so deep plus i. */
struct kvs__spare {
  const struct kvs__engine *engine;
  uint32_t depth;
  uint32_t count;
  const uint64_t *slots;
};

/* Give up the deepest blocks of the largest record, but not those of `spare` (NULL: any) where what they follow stays.
 * 0 = there was nothing to give. */
int kvs__evict(kvs_index *index, const struct kvs__spare *spare);
/* The same of one record, when it is beyond its limit. */
void kvs__evict_beyond(kvs_index *index, struct kvs__engine *engine);

#endif
