/* Stored events. */
#ifndef KVS_STORE_H
#define KVS_STORE_H

#include "index.h"

/* Hash what a stored event has of tokens, into the scratch: without the readers' lock, because a block may have
 * a million of them. Then enter its blocks. */
enum kvs__fault kvs__store_prepare(kvs_index *index, const struct kvs__event *event);
enum kvs__fault kvs__store(kvs_index *index, struct kvs__engine *engine, const struct kvs__event *event,
                           kvs_applied *applied);

#endif
