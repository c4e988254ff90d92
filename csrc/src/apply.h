/* One frame into the index. */
#ifndef KVS_APPLY_H
#define KVS_APPLY_H

#include "kvsync.h"

/* Under `writing`, after which kvs__ahead_trim is due. 0 = there is no such engine. */
int kvs__apply_frame(kvs_index *index, uint32_t number, const uint8_t *payload, size_t payload_bytes,
                     int64_t sequence, kvs_applied *applied);

#endif
