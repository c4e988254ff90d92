#include "failing.h"

static _Thread_local uint64_t asked, refused_at, let_in;

static int refused(void) { return ++asked == refused_at; }

void failing_begin(uint64_t nth) {
  asked = 0;
  refused_at = nth;
}

uint64_t failing_end(void) {
  refused_at = 0;
  return asked;
}

void *failing_malloc(size_t bytes) { return refused() ? NULL : malloc(bytes); }

void *failing_calloc(size_t count, size_t bytes) { return refused() ? NULL : calloc(count, bytes); }

void *failing_realloc(void *old, size_t bytes) { return refused() ? NULL : realloc(old, bytes); }

void *failing_mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset) {
  return refused() ? MAP_FAILED : mmap(at, bytes, protection, flags, file, offset);
}

uint64_t failing_let_in(void) { return let_in; }

int failing_unlock(pthread_rwlock_t *lock) {
  let_in++;
  return pthread_rwlock_unlock(lock);
}
