/* What an index tells of itself. */
#ifndef KVS_STATS_H
#define KVS_STATS_H

#include "index.h"

/* What can be seen of a record. */
void kvs__engine_status(const struct kvs__engine *engine, kvs_engine_status *status);

#endif
