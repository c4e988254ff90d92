/* Linear probing; what follows a removed item moves up, so there are no tombstones. */
#include "map.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#define CAPACITY_MIN 8u

static uint32_t home(const struct kvs__map *map, uint64_t key) {
  key *= UINT64_C(0x9e3779b97f4a7c15);
  return (uint32_t)(key >> 32) & (map->capacity - 1);
}

static struct kvs__map_slot *find(const struct kvs__map *map, uint64_t key) {
  uint32_t at = home(map, key);
  while (map->slots[at].value != 0 && map->slots[at].key != key) at = (at + 1) & (map->capacity - 1);
  return &map->slots[at];
}

static int rehash(struct kvs__map *map, struct kvs__memory *memory, uint32_t capacity) {
  struct kvs__map fresh = {NULL, capacity, map->count};
  fresh.slots = kvs__alloc_zero(memory, capacity * sizeof *fresh.slots);
  if (fresh.slots == NULL) return 0;
  for (uint32_t i = 0; i < map->capacity; i++)
    if (map->slots[i].value != 0) *find(&fresh, map->slots[i].key) = map->slots[i];
  kvs__free(memory, map->slots, map->capacity * sizeof *map->slots);
  *map = fresh;
  return 1;
}

uint32_t kvs__map_get(const struct kvs__map *map, uint64_t key) {
  return map->count == 0 ? 0 : find(map, key)->value;
}

int kvs__map_set(struct kvs__map *map, struct kvs__memory *memory, uint64_t key, uint32_t value) {
  struct kvs__map_slot *slot;
  assert(value != 0);
  if (map->count >= map->capacity - map->capacity / 4 &&
      !rehash(map, memory, map->capacity == 0 ? CAPACITY_MIN : map->capacity * 2)) {
    /* A full map may still overwrite. */
    if (map->count == 0 || find(map, key)->value == 0) return 0;
  }
  slot = find(map, key);
  if (slot->value == 0) map->count++;
  slot->key = key;
  slot->value = value;
  return 1;
}

void kvs__map_remove(struct kvs__map *map, struct kvs__memory *memory, uint64_t key) {
  struct kvs__map_slot *slot;
  uint32_t hole, at, mask = map->capacity - 1;
  if (map->count == 0) return;
  slot = find(map, key);
  if (slot->value == 0) return;
  hole = at = (uint32_t)(slot - map->slots);
  for (;;) {
    at = (at + 1) & mask;
    if (map->slots[at].value == 0) break;
    if (((at - home(map, map->slots[at].key)) & mask) < ((at - hole) & mask)) continue;
    map->slots[hole] = map->slots[at];
    hole = at;
  }
  memset(&map->slots[hole], 0, sizeof map->slots[hole]);
  map->count--;
  if (map->count == 0)
    kvs__map_end(map, memory);
  else if (map->capacity > CAPACITY_MIN && map->count < map->capacity / 8)
    (void)rehash(map, memory, map->capacity / 2);
}

void kvs__map_end(struct kvs__map *map, struct kvs__memory *memory) {
  kvs__free(memory, map->slots, map->capacity * sizeof *map->slots);
  memset(map, 0, sizeof *map);
}
