/* Entries whose block is not known yet, because its predecessor is not. */
#ifndef KVS_ORPHANS_H
#define KVS_ORPHANS_H

#include "index.h"

/* A held, untied entry waits for its parent. Its number; 0 = no room. */
uint32_t kvs__orphan_add(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind,
                         struct kvs__key parent, uint64_t local);
void kvs__orphan_remove(kvs_index *index, struct kvs__engine *engine, uint32_t orphan);
/* A hash has just been tied: whoever waited for it follows. */
void kvs__join(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t slot);
void kvs__orphans_end(kvs_index *index, struct kvs__engine *engine);

#endif
