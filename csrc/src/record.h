/* One record's parts and its lives. Under both locks; to look only (`make` 0), `writing` is enough. */
#ifndef KVS_RECORD_H
#define KVS_RECORD_H

#include "index.h"

/* Where a medium, or a kind, is among the record's; made if it is new and `make` says so. -1 = it is not there, or beyond a
 * limit, or no memory. A medium of no name is GPU. */
int kvs__record_medium(kvs_index *index, struct kvs__engine *engine, const char *text, size_t bytes, int make);
int kvs__record_gpu(kvs_index *index, struct kvs__engine *engine); /* made if it is new: it always can */
int kvs__record_kind(kvs_index *index, struct kvs__engine *engine, int medium, uint32_t group, int make);
/* An event's medium and kind, made if they are new: both, or neither. -1 = beyond a limit. */
int kvs__event_place(kvs_index *index, struct kvs__engine *engine, const struct kvs__event *event, int *medium);
/* The engine holds nothing on a medium: drop its entries and orphans, how many; the medium becomes exact. Where memory runs
 * out, part is left and doubted. */
uint64_t kvs__record_clear(kvs_index *index, struct kvs__engine *engine, int medium);
void kvs__record_init(struct kvs__engine *engine);
void kvs__record_reset(kvs_index *index, struct kvs__engine *engine); /* a new life */
/* Drop all and free it; 0 = out of memory: part of it is left, and doubted. */
int kvs__record_end(kvs_index *index, struct kvs__engine *engine);
/* Free a record of an index that ends, whatever others know of it. Cannot fail. */
void kvs__record_discard(kvs_index *index, struct kvs__engine *engine);

#endif
