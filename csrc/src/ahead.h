/* The next few events of a frame: decoded, hashed, and what they will touch asked for, before the first is applied. */
#ifndef KVS_AHEAD_H
#define KVS_AHEAD_H

#include "index.h"

/* Decode and hash the next events of a batch into index->ahead; how many. `*lost` says that nothing after them can be
 * read. Without the readers' lock. */
unsigned kvs__ahead_take(kvs_index *index, struct kvs__engine *engine, struct kvs__batch *batch, int *lost);
/* Give back what only unusually large events needed. */
void kvs__ahead_trim(kvs_index *index);

#endif
