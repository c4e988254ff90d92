/* Taking a chunk, and giving one back: the last moves into its place. */
#include "pool.h"

#include <assert.h>
#include <string.h>

#define FIRST_CHUNKS 2u

void kvs__pool_init(struct kvs__pool *pool, uint32_t chunk_bytes, kvs__moved moved, void *table) {
  memset(pool, 0, sizeof *pool);
  pool->chunk_bytes = chunk_bytes;
  pool->slab_chunks = KVS__SLAB_BYTES / chunk_bytes;
  pool->moved = moved;
  pool->table = table;
}

static struct kvs__owner owner_of(const struct kvs__pool *pool, uint32_t number) {
  return (struct kvs__owner){pool->tables == NULL ? pool->table : pool->tables[number], pool->numbers[number]};
}

static uint8_t *address(const struct kvs__pool *pool, uint32_t number) {
  return pool->slabs[number / pool->slab_chunks] + (size_t)(number % pool->slab_chunks) * pool->chunk_bytes;
}

static size_t first_bytes(const struct kvs__pool *pool) {
  return pool->first_chunks == pool->slab_chunks ? KVS__SLAB_BYTES
                                                 : (size_t)pool->first_chunks * pool->chunk_bytes;
}

static uint8_t *slab_take(struct kvs__memory *memory, size_t bytes) {
  return bytes == KVS__SLAB_BYTES ? kvs__slab_take(memory) : kvs__alloc(memory, bytes);
}

static void slab_give(struct kvs__memory *memory, uint8_t *slab, size_t bytes) {
  if (bytes == KVS__SLAB_BYTES)
    kvs__slab_give(memory, slab);
  else
    kvs__free(memory, slab, bytes);
}

static int grow_first(struct kvs__pool *pool, struct kvs__memory *memory) {
  uint32_t chunks = pool->first_chunks == 0 ? FIRST_CHUNKS : pool->first_chunks * 2;
  size_t old_bytes = first_bytes(pool);
  uint32_t old_chunks = pool->first_chunks;
  uint8_t *old = old_chunks == 0 ? NULL : pool->slabs[0], *fresh;
  if (chunks > pool->slab_chunks) chunks = pool->slab_chunks;
  pool->first_chunks = chunks;
  fresh = slab_take(memory, first_bytes(pool));
  if (fresh == NULL) {
    pool->first_chunks = old_chunks;
    return 0;
  }
  pool->slabs[0] = fresh;
  pool->slabs_count = 1;
  if (old == NULL) return 1;
  memcpy(fresh, old, (size_t)pool->count * pool->chunk_bytes);
  for (uint32_t i = 0; i < pool->count; i++) pool->moved(owner_of(pool, i), address(pool, i), i);
  slab_give(memory, old, old_bytes);
  return 1;
}

/* One of the two lists may be longer, where memory ran out between them. */
static uint32_t owners_capacity(const struct kvs__pool *pool) {
  if (pool->table != NULL || pool->numbers_capacity < pool->tables_capacity) return pool->numbers_capacity;
  return pool->tables_capacity;
}

/* The lists of owners with another capacity; 0 = out of memory, nothing lost. */
static int owners_room(struct kvs__pool *pool, struct kvs__memory *memory, uint32_t capacity) {
  uint32_t *numbers;
  void **tables;
  if (pool->table == NULL) {
    tables =
        kvs__resize(memory, pool->tables, pool->tables_capacity * sizeof *tables, capacity * sizeof *tables);
    if (tables == NULL) return 0;
    pool->tables = tables;
    pool->tables_capacity = capacity;
  }
  numbers =
      kvs__resize(memory, pool->numbers, pool->numbers_capacity * sizeof *numbers, capacity * sizeof *numbers);
  if (numbers == NULL) return 0;
  pool->numbers = numbers;
  pool->numbers_capacity = capacity;
  return 1;
}

static int grow_lists(struct kvs__pool *pool, struct kvs__memory *memory) {
  uint32_t room = owners_capacity(pool);
  if (pool->count == room && !owners_room(pool, memory, room == 0 ? 4 : room * 2)) return 0;
  if (pool->slabs_count == pool->slabs_capacity) {
    uint8_t **grown = kvs__list_grow(memory, pool->slabs, &pool->slabs_capacity, 1, sizeof *grown);
    if (grown == NULL) return 0;
    pool->slabs = grown;
  }
  return 1;
}

static int has_room(const struct kvs__pool *pool) {
  if (pool->slabs_count <= 1) return pool->count < pool->first_chunks;
  return pool->count < pool->slabs_count * pool->slab_chunks;
}

void *kvs__pool_take(struct kvs__pool *pool, struct kvs__memory *memory, struct kvs__owner owner,
                     uint32_t *number) {
  if (!grow_lists(pool, memory)) return NULL;
  if (!has_room(pool)) {
    if (pool->first_chunks < pool->slab_chunks) {
      if (!grow_first(pool, memory)) return NULL;
    } else {
      uint8_t *slab = slab_take(memory, KVS__SLAB_BYTES);
      if (slab == NULL) return NULL;
      pool->slabs[pool->slabs_count++] = slab;
    }
  }
  *number = pool->count++;
  pool->numbers[*number] = owner.number;
  if (pool->tables != NULL) pool->tables[*number] = owner.table;
  return address(pool, *number);
}

/* Shrinking only saves memory; without it, all is as well as before. */
static void shrink_owners(struct kvs__pool *pool, struct kvs__memory *memory) {
  uint32_t room = owners_capacity(pool);
  if (room >= 128 && pool->count <= room / 4) (void)owners_room(pool, memory, room / 2);
}

void kvs__pool_give(struct kvs__pool *pool, struct kvs__memory *memory, uint32_t number) {
  uint32_t last = pool->count - 1;
  /* A large pool that breathes at a border does not ask the system with every breath. */
  uint32_t slack = pool->slabs_count > 8 ? pool->slab_chunks / 8 : 0;
  assert(number < pool->count);
  if (number != last) {
    memcpy(address(pool, number), address(pool, last), pool->chunk_bytes);
    pool->numbers[number] = pool->numbers[last];
    if (pool->tables != NULL) pool->tables[number] = pool->tables[last];
    pool->moved(owner_of(pool, number), address(pool, number), number);
  }
  pool->count--;
  if (pool->count == 0) {
    kvs__pool_end(pool, memory);
  } else if (pool->slabs_count > 1 && pool->count + slack <= (pool->slabs_count - 1) * pool->slab_chunks) {
    slab_give(memory, pool->slabs[--pool->slabs_count], KVS__SLAB_BYTES);
  }
  shrink_owners(pool, memory);
}

void kvs__pool_end(struct kvs__pool *pool, struct kvs__memory *memory) {
  for (uint32_t i = 0; i < pool->slabs_count; i++)
    slab_give(memory, pool->slabs[i], i == 0 ? first_bytes(pool) : KVS__SLAB_BYTES);
  kvs__free(memory, pool->slabs, pool->slabs_capacity * sizeof *pool->slabs);
  kvs__free(memory, pool->numbers, pool->numbers_capacity * sizeof *pool->numbers);
  kvs__free(memory, pool->tables, pool->tables_capacity * sizeof *pool->tables);
  kvs__pool_init(pool, pool->chunk_bytes, pool->moved, pool->table);
}
