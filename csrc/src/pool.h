/* Chunks of one size, packed without holes, in slabs that go back to the system when they empty.
 *
 *     slab 0            slab 1            slab 2
 *     [c][c][c][c][c]   [c][c][c][c][c]   [c][c][ ][ ][ ]
 *                                             ^ the last chunk
 *
 * A freed chunk is filled with the last one, so all slabs but the last are full whatever the churn was. For that every
 * chunk has an owner, who is told where it moved. The first slab of a pool begins small and doubles, so that an index with
 * little in it is little; chunks begin at cache lines from the first whole slab on (memory.h). */
#ifndef KVS_POOL_H
#define KVS_POOL_H

#include <stdint.h>

#include "memory.h"

struct kvs__owner {
  void *table;
  uint32_t number;
};

/* The chunk that `owner` has is now at `chunk`, number `number` of its pool. */
typedef void (*kvs__moved)(struct kvs__owner owner, void *chunk, uint32_t number);

struct kvs__pool {
  uint32_t chunk_bytes;
  uint32_t slab_chunks; /* in a whole slab */
  kvs__moved moved;
  void *table; /* that owns all chunks, or NULL: then each chunk names its own */
  uint8_t **slabs;
  uint32_t *numbers; /* by chunk number: its owner's */
  void **tables;     /* and its table, where they differ */
  uint32_t slabs_count;
  uint32_t slabs_capacity;
  uint32_t first_chunks; /* room in slab 0 while it is the only one */
  uint32_t numbers_capacity;
  uint32_t tables_capacity;
  uint32_t count; /* chunks in use: their numbers are 0 .. count-1 */
};

/* `table`: the one that all owners will be of; NULL = they are of several. */
void kvs__pool_init(struct kvs__pool *pool, uint32_t chunk_bytes, kvs__moved moved, void *table);

/* A chunk with unspecified content; NULL = out of memory. Others may move, and are told. */
void *kvs__pool_take(struct kvs__pool *pool, struct kvs__memory *memory, struct kvs__owner owner,
                     uint32_t *number);
void kvs__pool_give(struct kvs__pool *pool, struct kvs__memory *memory, uint32_t number);
void kvs__pool_end(struct kvs__pool *pool, struct kvs__memory *memory);

#endif
