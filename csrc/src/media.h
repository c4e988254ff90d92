/* Names of media, each with a number for the life of the index; number 0 is GPU.
 *
 * Engines choose these names, so an index takes a bounded number of them, and record.c few from each engine. */
#ifndef KVS_MEDIA_H
#define KVS_MEDIA_H

#include <stddef.h>
#include <stdint.h>

#include "map.h"
#include "memory.h"

#define KVS__MEDIUM_GPU 0u
#define KVS__MEDIA_PAGE 64u
#define KVS__MEDIA_PAGES 1024u

struct kvs__medium_name {
  char *text; /* upper case, NUL-terminated */
  uint8_t bytes;
  uint8_t speed; /* class: 0 is fastest */
};

/* Readers keep pointers to names, so pages stay where they are. */
struct kvs__media {
  struct kvs__medium_name *pages[KVS__MEDIA_PAGES];
  uint32_t count;
  struct kvs__map by_hash;
};

/* 0 = out of memory. */
int kvs__media_init(struct kvs__media *media, struct kvs__memory *memory);
void kvs__media_end(struct kvs__media *media, struct kvs__memory *memory);

/* The number of a name, in any case; -1 = not there, or, where it was to be made, no room. */
int kvs__media_find(struct kvs__media *media, struct kvs__memory *memory, const char *text, size_t bytes,
                    int make);

static inline const struct kvs__medium_name *kvs__media_name(const struct kvs__media *media, uint32_t number) {
  return &media->pages[number / KVS__MEDIA_PAGE][number % KVS__MEDIA_PAGE];
}

#endif
