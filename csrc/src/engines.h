/* The list of engines. */
#ifndef KVS_ENGINES_H
#define KVS_ENGINES_H

#include "index.h"

/* kvs_index_engine_add without locks, and without making room at the ceiling. */
kvs_status kvs__engine_add(kvs_index *index, const char *model, size_t model_bytes, uint32_t *number);

#endif
