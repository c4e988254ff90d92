/* Models by name, what their engines need hashed, and what is learned of that. */
#ifndef KVS_MODELS_H
#define KVS_MODELS_H

#include "index.h"

/* The number of a model's name, made if it is new; 0 = out of memory. */
int kvs__model_number(kvs_index *index, const char *name, size_t bytes, uint32_t *number);
/* Recompute a model's chains after an engine's facts changed; 0 = out of memory, some are missing. */
int kvs__model_refresh(kvs_index *index, uint32_t model);
/* Note what a store with tokens tells of its engine and of one of its groups. 0 = out of memory, nothing learned. */
int kvs__model_learn(kvs_index *index, struct kvs__engine *engine, struct kvs__group *group,
                     const struct kvs__event *event);

#endif
