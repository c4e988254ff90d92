/* Stored events. */
#ifndef KVS_STORE_H
#define KVS_STORE_H

#include "index.h"

/* Hash what a stored event has of tokens, into its scratch: without the readers' lock, because a block may have
 * a million of them. Then enter its blocks. */
enum kvs__fault kvs__store_prepare(const struct kvs__hasher *hasher, struct kvs__event *event,
                                   struct kvs__scratch *scratch);
enum kvs__fault kvs__store(kvs_index *index, struct kvs__engine *engine, const struct kvs__event *event,
                           kvs_applied *applied);

#endif
