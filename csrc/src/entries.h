/* The entries of a record: entered by stores, left by removals, dropped in bulk. */
#ifndef KVS_ENTRIES_H
#define KVS_ENTRIES_H

#include "index.h"

/* Where a block hangs, and so what it is. */
struct kvs__tie {
  int known;       /* then its block hash, and the slot and depth to find it behind */
  uint32_t parent; /* slot, KVS__SLOT_NONE = it begins a prompt */
  uint64_t block;
  uint32_t coming; /* blocks that will follow each other from here on, this one included */
  int orphan; /* else these, where it has tokens */
  uint64_t local;
  struct kvs__key waits_for;
};

enum kvs__entered { KVS__ENTERED_NEW, KVS__ENTERED_COPY, KVS__ENTERED_AGAIN, KVS__ENTERED_FAILED };
/* Enter one hash of a stored event; `again`: a held entry that is not doubtful gets no copy. `value` is its item's. */
enum kvs__entered kvs__enter(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind,
                             const struct kvs__tie *tie, int again, uint32_t *value);
enum kvs__left { KVS__LEFT, KVS__LEFT_UNKNOWN, KVS__LEFT_FAILED };
enum kvs__left kvs__leave(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind);

/* Enter an item that is not there, and count it; if it is tied, its block is held for it by now. bucket NULL = out of
 * memory, nothing changed. */
struct kvs__seat kvs__entry_insert(kvs_index *index, struct kvs__engine *engine, struct kvs__key key,
                                   uint32_t kind, uint32_t value);

/* The slot of a hash that is tied in any kind, or was until this frame: own kind first. KVS__SLOT_NONE = none. */
uint32_t kvs__tied_anywhere(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind);
int kvs__held_anywhere(const struct kvs__engine *engine, struct kvs__key key);

/* Take away all items of a kind that `goes` says yes to (NULL: all), whatever their copies; how many went. Those that
 * no memory was left for stay. */
typedef int (*kvs__goes)(void *context, const kvs_index *index, uint32_t value);
uint64_t kvs__kind_drop(kvs_index *index, struct kvs__engine *engine, uint32_t kind, kvs__goes goes,
                        void *context);

/* Bring the lines of an event's hashes into the cache: of so many, from one on. */
#define KVS__HASHES_AHEAD 32u
void kvs__hashes_prefetch(const struct kvs__engine *engine, const struct kvs__event *event, uint32_t kind,
                          size_t from);

#endif
