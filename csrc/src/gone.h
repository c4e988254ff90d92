/* What the frame under way removed: held until it ends, so that what hangs on it later in the frame still finds it. */
#ifndef KVS_GONE_H
#define KVS_GONE_H

#include "index.h"

/* Note a removal: the block stays held by this kind until the flush. 0 = out of memory, nothing changed. */
int kvs__gone_add(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind,
                  uint32_t slot, int hidden);
/* The slot that a removed hash had in this kind; KVS__SLOT_NONE = it was not removed. */
uint32_t kvs__gone_slot(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind);
/* Let go of what the frame removed. */
void kvs__gone_flush(kvs_index *index, struct kvs__engine *engine);

#endif
