/* Who holds a block. */
#ifndef KVS_HOLDERS_H
#define KVS_HOLDERS_H

#include "index.h"

/* A kind of an engine holds a block under one engine hash more, or less; without a holder the block goes. 0 = out of memory,
 * nothing changed. */
int kvs__hold(kvs_index *index, struct kvs__engine *engine, uint32_t kind, uint32_t slot);
int kvs__unhold(kvs_index *index, struct kvs__engine *engine, uint32_t kind, uint32_t slot);
/* Make the block that a tie describes, and hold it. KVS__SLOT_NONE = out of memory, nothing changed. */
uint32_t kvs__hold_child(kvs_index *index, struct kvs__engine *engine, uint32_t kind, uint32_t parent,
                         uint64_t block, uint32_t coming);

#endif
