/* The LoRA adapters whose blocks an engine stored in its present life: the last KVS_ADAPTERS_MAX of them.
 *
 * Changed under `writing` and `state`, as a record's kinds are. An adapter that there is no memory for is not noted:
 * nothing that is said of blocks depends on it. */
#ifndef KVS_ADAPTERS_H
#define KVS_ADAPTERS_H

#include "index.h"

/* An event with this name was applied. Names of no or more than KVS_ADAPTER_BYTES_MAX bytes are not noted. */
void kvs__adapter_note(kvs_index *index, struct kvs__engine *engine, const struct kvs__text *name);
void kvs__adapters_end(kvs_index *index, struct kvs__engine *engine);

#endif
