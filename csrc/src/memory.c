#include "memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static int may_grow(struct kvs__memory *memory, size_t bytes) {
  uint64_t limit = memory->limit;
  memory->calls++;
  if (memory->calls == memory->fail_at) return 0;
  if (limit == 0) return 1;
  if (!memory->urgent) limit -= memory->reserve;
  return memory->used + bytes <= limit;
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
}

void *kvs__map_pages(struct kvs__memory *memory, size_t bytes) {
  void *pages;
  if (!may_grow(memory, bytes)) return NULL;
  pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return NULL;
  count(memory, bytes);
  return pages;
}

void kvs__unmap_pages(struct kvs__memory *memory, void *pages, size_t bytes) {
  assert(memory->used >= bytes);
  memory->used -= bytes;
  munmap(pages, bytes);
}
