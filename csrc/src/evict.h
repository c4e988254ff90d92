/* Giving up entries for want of room. */
#ifndef KVS_EVICT_H
#define KVS_EVICT_H

#include "index.h"

/* Give up the deepest blocks of the largest record. 0 = there was nothing to give. */
int kvs__evict(kvs_index *index);
/* The same of one record, when it is beyond its limit. */
void kvs__evict_beyond(kvs_index *index, struct kvs__engine *engine);

#endif
