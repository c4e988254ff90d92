/* A small map from a 64-bit key to a non-zero 32-bit value: open addressing, doubling.
 *
 * For side tables of one engine or of the holder sets, where a rare pause of a rehash is bearable. A key's place is a mere
 * multiplication: one that a stranger chooses must come mixed with the index's seed (kvs__side_key), or many can be made to
 * meet. */
#ifndef KVS_MAP_H
#define KVS_MAP_H

#include <stdint.h>

#include "memory.h"

/* Packed: a key may lie across two cache lines, and a third of the table is saved. */
struct __attribute__((packed, aligned(4))) kvs__map_slot {
  uint64_t key;
  uint32_t value; /* 0 = free */
};

_Static_assert(sizeof(struct kvs__map_slot) == 12, "no byte is lost");

struct kvs__map {
  struct kvs__map_slot *slots;
  uint32_t capacity; /* 0 or a power of two */
  uint32_t count;
};

/* 0 = absent. */
uint32_t kvs__map_get(const struct kvs__map *map, uint64_t key);
/* Insert or overwrite; 0 = out of memory, nothing changed. To overwrite never fails. */
int kvs__map_set(struct kvs__map *map, struct kvs__memory *memory, uint64_t key, uint32_t value);
void kvs__map_remove(struct kvs__map *map, struct kvs__memory *memory, uint64_t key);
void kvs__map_end(struct kvs__map *map, struct kvs__memory *memory);

#endif
