/* Allocations of the library that fail when a test says so, and how often it lets readers in.
 *
 * Every source of the library is compiled with this before it when it is built for tests (Makefile): what it asks the
 * system for is counted by failing.c, and one of a thread's requests can be refused. The requests of tests are not. */
#ifndef FAILING_H
#define FAILING_H

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

void *failing_malloc(size_t bytes);
void *failing_calloc(size_t count, size_t bytes);
void *failing_realloc(void *old, size_t bytes);
void *failing_mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset);

/* From here on this thread's n-th request is refused, once; 0 = none. */
void failing_begin(uint64_t nth);
/* Again none; how many there were since. */
uint64_t failing_end(void);

/* How often this thread let go of an index's readers' lock, ever. */
uint64_t failing_let_in(void);
int failing_unlock(pthread_rwlock_t *lock);

#ifdef FAILING
#define malloc(bytes) failing_malloc(bytes)
#define calloc(count, bytes) failing_calloc(count, bytes)
#define realloc(old, bytes) failing_realloc(old, bytes)
#define mmap(at, bytes, protection, flags, file, offset) \
  failing_mmap(at, bytes, protection, flags, file, offset)
#define pthread_rwlock_unlock(lock) failing_unlock(lock)
#endif

#endif
