/* What is allocated, counted; and slabs. */
#include "memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define REGION_SLABS 64u
#define REGION_BYTES ((size_t)REGION_SLABS * KVS__SLAB_BYTES)
#define SPARE_PART 64u /* of what is used, that may be spares */

/* 0 = this is the one that is to fail. */
static int is_to_go_well(struct kvs__memory *memory) { return ++memory->calls != memory->fail_at; }

static int fits(const struct kvs__memory *memory, size_t bytes) {
  uint64_t limit = memory->limit;
  if (limit == 0) return 1;
  if (!memory->urgent) limit -= memory->reserve;
  return memory->used + bytes <= limit;
}

static void end_empty_list(struct kvs__memory *memory) {
  if (memory->regions_count > 0) return;
  memory->used -= memory->regions_capacity * sizeof *memory->regions;
  free(memory->regions);
  memory->regions = NULL;
  memory->regions_capacity = 0;
}

static void forget_region(struct kvs__memory *memory, uint32_t number) {
  munmap(memory->regions[number].slabs, REGION_BYTES);
  memory->regions[number] = memory->regions[--memory->regions_count];
  end_empty_list(memory);
}

/* Give a spare's pages back to the system, of the last region that has any: the first are filled first. */
static void drop_spare(struct kvs__memory *memory) {
  uint32_t number = memory->regions_count - 1;
  struct kvs__region *region;
  unsigned slab;
  while (memory->regions[number].spares == 0) number--;
  region = &memory->regions[number];
  slab = 63u - (unsigned)__builtin_clzll(region->spares);
  region->spares &= ~(UINT64_C(1) << slab);
  memory->spares--;
  memory->used -= KVS__SLAB_BYTES;
  if ((region->given | region->spares) == 0)
    forget_region(memory, number);
  else
    (void)madvise(region->slabs + (size_t)slab * KVS__SLAB_BYTES, KVS__SLAB_BYTES, MADV_DONTNEED);
}

/* The fewer bytes are used, the fewer may be spare; with nothing used there is none. */
static void drop_surplus(struct kvs__memory *memory) {
  while (memory->spares > 0 && (uint64_t)memory->spares * SPARE_PART * KVS__SLAB_BYTES > memory->used)
    drop_spare(memory);
}

static int may_grow(struct kvs__memory *memory, size_t bytes) {
  if (!is_to_go_well(memory)) return 0;
  while (!fits(memory, bytes) && memory->spares > 0) drop_spare(memory);
  return fits(memory, bytes);
}

static void count(struct kvs__memory *memory, size_t bytes) {
  memory->used += bytes;
  if (memory->used > memory->peak) memory->peak = memory->used;
}

void *kvs__alloc(struct kvs__memory *memory, size_t bytes) {
  void *pointer;
  assert(bytes > 0);
  if (!may_grow(memory, bytes)) return NULL;
  pointer = malloc(bytes);
  if (pointer != NULL) count(memory, bytes);
  return pointer;
}

void *kvs__alloc_zero(struct kvs__memory *memory, size_t bytes) {
  void *pointer = kvs__alloc(memory, bytes);
  if (pointer != NULL) memset(pointer, 0, bytes);
  return pointer;
}

void *kvs__resize(struct kvs__memory *memory, void *old, size_t bytes_old, size_t bytes_new) {
  void *pointer;
  assert(bytes_new > 0);
  if (!may_grow(memory, bytes_new > bytes_old ? bytes_new - bytes_old : 0)) return NULL;
  pointer = realloc(old, bytes_new);
  if (pointer == NULL) return NULL;
  memory->used -= bytes_old;
  count(memory, bytes_new);
  return pointer;
}

void kvs__free(struct kvs__memory *memory, void *pointer, size_t bytes) {
  if (pointer == NULL) return;
  assert(memory->used >= bytes);
  memory->used -= bytes;
  free(pointer);
  drop_surplus(memory);
}

void *kvs__list_grow(struct kvs__memory *memory, void *list, uint32_t *capacity, uint32_t first,
                     size_t item_bytes) {
  uint32_t wanted = *capacity == 0 ? first : *capacity * 2;
  void *grown = kvs__resize(memory, list, *capacity * item_bytes, wanted * item_bytes);
  if (grown != NULL) *capacity = wanted;
  return grown;
}

/* ---- slabs ---- */

static void *take_from(struct kvs__region *region, uint64_t which) {
  unsigned slab = (unsigned)__builtin_ctzll(which);
  region->given |= UINT64_C(1) << slab;
  region->spares &= ~(UINT64_C(1) << slab);
  return region->slabs + (size_t)slab * KVS__SLAB_BYTES;
}

static void *take_spare(struct kvs__memory *memory) {
  struct kvs__region *region = memory->regions;
  while (region->spares == 0) region++;
  memory->spares--;
  return take_from(region, region->spares);
}

static struct kvs__region *roomy_region(struct kvs__memory *memory) {
  for (uint32_t i = 0; i < memory->regions_count; i++)
    if (memory->regions[i].given != UINT64_MAX) return &memory->regions[i];
  return NULL;
}

static int list_room(struct kvs__memory *memory) {
  struct kvs__region *grown;
  if (memory->regions_count < memory->regions_capacity) return 1;
  grown = kvs__list_grow(memory, memory->regions, &memory->regions_capacity, 1, sizeof *grown);
  if (grown == NULL) return 0;
  memory->regions = grown;
  return 1;
}

static struct kvs__region *fresh_region(struct kvs__memory *memory) {
  struct kvs__region *region = &memory->regions[memory->regions_count];
  void *slabs = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (slabs == MAP_FAILED) return NULL;
  *region = (struct kvs__region){slabs, 0, 0};
  memory->regions_count++;
  return region;
}

void *kvs__slab_take(struct kvs__memory *memory) {
  struct kvs__region *region;
  if (memory->spares > 0) return is_to_go_well(memory) ? take_spare(memory) : NULL;
  region = roomy_region(memory);
  if (region == NULL && !list_room(memory)) return NULL;
  if (may_grow(memory, KVS__SLAB_BYTES)) {
    if (region == NULL) region = fresh_region(memory);
    if (region != NULL) {
      count(memory, KVS__SLAB_BYTES);
      return take_from(region, ~region->given);
    }
  }
  end_empty_list(memory);
  return NULL;
}

void kvs__slab_give(struct kvs__memory *memory, void *slab) {
  uint8_t *at = slab;
  struct kvs__region *region = memory->regions;
  uint64_t bit;
  while (at < region->slabs || at >= region->slabs + REGION_BYTES) region++;
  bit = UINT64_C(1) << (size_t)(at - region->slabs) / KVS__SLAB_BYTES;
  assert(region->given & bit);
  region->given &= ~bit;
  region->spares |= bit;
  memory->spares++;
  drop_surplus(memory);
}
