/* Stored events: prepared without the readers' lock, and then entered. */
#ifndef KVS_STORE_H
#define KVS_STORE_H

#include "index.h"

/* What a stored event shows of its blocks: all their tokens; none, but that they are held; or something that cannot be
 * shared out among them. */
enum kvs__shape { KVS__WITH_TOKENS, KVS__PLACEHOLDER, KVS__MASKED };

/* prepare.c: hash what a stored event has of tokens, into its scratch. Without the readers' lock, because a block may have a
 * million of them. */
enum kvs__shape kvs__store_shape(const struct kvs__event *event);
enum kvs__fault kvs__store_prepare(const struct kvs__hasher *hasher, struct kvs__event *event,
                                   struct kvs__scratch *scratch);

/* Then enter its blocks. */
enum kvs__fault kvs__store(kvs_index *index, struct kvs__engine *engine, const struct kvs__event *event,
                           kvs_applied *applied);

#endif
