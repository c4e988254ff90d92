/* The index inside: what is stored where, and who may touch it.
 *
 *                      +-- models: name, the chains its engines need hashed
 *   kvs_index ---------+-- blocks: block hash -> holder set, depth          (table.h)
 *                      +-- sets: interned holder sets                       (sets.h)
 *                      +-- engines[] -> record
 *                                         |-- kinds: (medium, group)
 *                                         |-- media: trust, epoch of doubt
 *                                         |-- groups: what was learned of each
 *                                         |-- entries: (kind, engine hash) -> block, copies  (table.h)
 *                                         |-- names: byte hashes, interned to numbers
 *                                         |-- ghosts: a ring of the latest removals
 *                                         |-- orphans: blocks that wait for a predecessor
 *                                         `-- aliases: blocks held under several engine hashes
 *
 * What one step touches:
 *   store    one line of entries (24 B items), one of blocks (16 B items), one of the holder set
 *   removal  the same
 *   walk     one line of blocks a block; a holder set only where it differs from the block before
 *
 * Locks. `writing` is held by one writer for a whole call. `state` is a read-write lock over all that
 * readers see: blocks, sets, models, the list of engines, and of each record its groups, dialect and trust.
 * A writer holds it while it changes anything, and lets go for an instant every KVS_SLICE_BLOCKS blocks.
 * Entries, names, ghosts, orphans and aliases belong to `writing` alone. */
#ifndef KVS_INDEX_H
#define KVS_INDEX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "decode.h"
#include "hash.h"
#include "kvsync.h"
#include "map.h"
#include "media.h"
#include "memory.h"
#include "sets.h"

/* ---- blocks ---- */

struct kvs__block {
  uint64_t hash;
  uint32_t set;   /* never 0 in a used slot */
  uint32_t depth; /* blocks before it in its prompt */
};

_Static_assert(sizeof(struct kvs__block) == 16, "four blocks a cache line");

#define TABLE kvs__blocks
#define TABLE_ITEM struct kvs__block
#define TABLE_EMPTY(item) ((item)->set == 0)
#define TABLE_PLACE(context, item) ((void)(context), (item)->hash)
#include "table.h"

/* ---- entries ---- */

enum {
  KVS__ENTRY_USED = 1,
  KVS__ENTRY_BYTES = 2,  /* key is a number of names */
  KVS__ENTRY_TIED = 4,   /* block is known */
  KVS__ENTRY_GHOST = 8,  /* not held any more; copies is its place in the ring */
  KVS__ENTRY_ORPHAN = 16 /* not tied; block is its number among the orphans */
};

#define KVS__COPIES_MAX ((1u << 20) - 1)
#define KVS__DEPTH_MAX ((1u << 24) - 1)
#define KVS__EPOCH_MAX 127

struct kvs__entry {
  uint64_t key;
  uint64_t block;
  uint32_t copies : 20;
  uint32_t kind : 5;
  uint32_t epoch : 7;
  uint32_t depth : 24;
  uint32_t flags : 8;
};

_Static_assert(sizeof(struct kvs__entry) == 24, "entries are 24 bytes");
_Static_assert(KVS_KINDS_MAX <= 32, "a kind has 5 bits");
_Static_assert(KVS_GHOSTS_MAX <= KVS__COPIES_MAX, "a ghost keeps its ring place in copies");

/* An engine hash as a key of one record. */
struct kvs__key {
  uint64_t value;
  uint8_t flags; /* KVS__ENTRY_BYTES or 0 */
};

static inline uint64_t kvs__entry_place(const struct kvs__hasher *hasher, uint64_t value, uint32_t kind,
                                        uint32_t flags) {
  /* Engines choose their hashes, so the place is mixed with our seed. */
  uint64_t x = value ^ hasher->seed;
  x += ((uint64_t)kind << 1 | (flags & KVS__ENTRY_BYTES ? 1 : 0)) * UINT64_C(0x9e3779b97f4a7c15);
  x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
  x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
  return x ^ (x >> 32);
}

#define TABLE kvs__entries
#define TABLE_ITEM struct kvs__entry
#define TABLE_EMPTY(item) ((item)->flags == 0)
#define TABLE_PLACE(context, item) kvs__entry_place((context), (item)->key, (item)->kind, (item)->flags)
#include "table.h"

/* ---- a record ---- */

struct kvs__name {
  uint64_t hash;
  uint32_t references;
  uint32_t next; /* same hash, other bytes */
  uint32_t length;
  uint8_t bytes[];
};

struct kvs__kind {
  uint8_t medium; /* among the record's media */
  uint8_t group;  /* among the record's groups */
};

struct kvs__medium {
  uint32_t name; /* among the index's medium names */
  uint8_t trust;
  uint8_t reason;
  uint8_t epoch; /* entries of another epoch are doubtful */
  uint64_t entries;
  uint64_t doubtful;
};

enum kvs__spec { KVS__SPEC_FULL, KVS__SPEC_WINDOW, KVS__SPEC_STATE };

struct kvs__group {
  uint32_t number;
  uint32_t block_size; /* usual; 0 = nothing with tokens yet, the group does not count */
  uint8_t told;        /* enum kvs__spec, as the engine named it */
  uint8_t spec;        /* the same, but a window without a size counts as full attention */
  uint8_t on_gpu;      /* named by a GPU store in this life */
  int64_t window;      /* tokens, -1 = none given */
};

struct kvs__ghost {
  uint64_t key;
  uint8_t kind;
  uint8_t flags;
  uint8_t used;
};

struct kvs__orphan {
  uint64_t key; /* the block that waits */
  uint64_t parent;
  uint64_t local; /* its local hash; once joined, its block */
  uint32_t next;  /* waiting for the same parent; or next free; or next to be joined */
  uint32_t previous;
  uint32_t depth;
  uint8_t kind;
  uint8_t key_flags;
  uint8_t parent_flags;
  uint8_t used;
};

enum kvs__beginning { KVS__EXPECT_ZERO, KVS__EXPECT_ANY, KVS__BEGUN };

struct kvs__engine {
  uint32_t number;
  uint32_t model;
  uint8_t heard;
  uint8_t complete;  /* beginning seen, and no hole, fault or evidence of loss since */
  uint8_t beginning; /* enum kvs__beginning */
  uint8_t dialect;
  uint8_t kinds_count;
  uint8_t media_count;
  uint8_t groups_count;
  uint8_t media_made; /* names that nobody had used before */
  struct kvs__kind kinds[KVS_KINDS_MAX];
  struct kvs__medium media[KVS_MEDIA_MAX];
  struct kvs__group groups[KVS_KINDS_MAX];
  int64_t sequence;
  uint64_t lives;
  uint64_t held;    /* entries with copies */
  uint64_t untied;  /* held and not tied */
  uint64_t ghosts_live;
  uint64_t counters[KVS_COUNTERS_COUNT];
  struct kvs__entries_table entries;
  struct kvs__name **names; /* 0 stays unused */
  uint32_t names_count;
  uint32_t names_capacity;
  uint32_t names_free; /* head of a chain of free numbers, kept in names_next */
  uint32_t *names_next;
  struct kvs__map names_by_hash;
  struct kvs__ghost *ghosts;
  uint32_t ghosts_capacity;
  uint32_t ghosts_at; /* where the next goes */
  struct kvs__orphan *orphans; /* 0 stays unused */
  uint32_t orphans_count;      /* slots in use at some time */
  uint32_t orphans_capacity;
  uint32_t orphans_free;
  uint32_t orphans_live;
  struct kvs__map orphans_by_parent;
  struct kvs__map aliases; /* mix(block, kind) -> engine hashes beyond the first */
};

/* ---- the index ---- */

/* What must be hashed and walked for a model: one chain for each way its engines see a prompt. */
struct kvs__chain {
  uint32_t block_size;
  uint8_t dialect;
  uint8_t endless; /* some engine can match beyond a hole here */
};

struct kvs__model {
  char *name;
  size_t name_bytes;
  struct kvs__chain *chains;
  uint32_t chains_count;
  uint32_t chains_capacity;
};

struct kvs_index {
  pthread_mutex_t writing;
  pthread_rwlock_t state;
  unsigned slice; /* blocks changed since readers were let in */
  struct kvs__memory memory;
  struct kvs__hasher hasher;
  struct kvs__blocks_table blocks;
  struct kvs__sets sets;
  struct kvs__engine **engines;
  uint32_t engines_count;
  uint32_t engines_capacity;
  uint32_t engines_live;
  struct kvs__model *models;
  uint32_t models_count;
  struct kvs__media media;
  uint64_t entries_held;
  uint64_t evicted;
  struct kvs__scratch scratch;
};

/* New medium names one engine may bring, over all its lives. */
#define KVS__MEDIA_MADE_MAX 64

/* index.c */
void kvs__state_begin(kvs_index *index);
void kvs__state_end(kvs_index *index);
/* Count `blocks` of work and let readers in if a slice is full. */
void kvs__breathe(kvs_index *index, unsigned blocks);
struct kvs__engine *kvs__engine_get(const kvs_index *index, uint32_t engine);
/* Recompute a model's chains after an engine's facts changed; 0 = out of memory, some are missing. */
int kvs__model_refresh(kvs_index *index, uint32_t model);

/* record.c: one record's parts. All under `writing`, and `state` where readers can see. */
int kvs__record_medium(kvs_index *index, struct kvs__engine *engine, const char *text, size_t bytes, int make);
int kvs__record_kind(struct kvs__engine *engine, int medium, uint32_t group, int make);
void kvs__record_doubt(kvs_index *index, struct kvs__engine *engine, int medium, enum kvs_reason reason);
void kvs__record_doubt_all(kvs_index *index, struct kvs__engine *engine, enum kvs_reason reason);
void kvs__record_lower(struct kvs__engine *engine, int medium, enum kvs_reason reason); /* exact -> partial */
uint8_t kvs__record_trust(const struct kvs__engine *engine);
/* Drop every entry of a medium (-1: of all) and its ghosts and orphans; counts what was held. */
uint64_t kvs__record_drop(kvs_index *index, struct kvs__engine *engine, int medium);
void kvs__record_init(struct kvs__engine *engine);
void kvs__record_reset(kvs_index *index, struct kvs__engine *engine); /* a new life */
/* Drop all and free it; 0 = out of memory: part of it is left, and doubted. */
int kvs__record_end(kvs_index *index, struct kvs__engine *engine);
/* Free a record of an index that ends, whatever others know of it. Cannot fail. */
void kvs__record_discard(kvs_index *index, struct kvs__engine *engine);

/* names: `make` takes a reference, which kvs__key_release gives back. 0 = absent, or no memory. */
int kvs__key_find(kvs_index *index, struct kvs__engine *engine, const struct kvs__sent_hash *hash,
                  struct kvs__key *key);
int kvs__key_make(kvs_index *index, struct kvs__engine *engine, const struct kvs__sent_hash *hash,
                  struct kvs__key *key);
void kvs__key_hold(struct kvs__engine *engine, struct kvs__key key);
void kvs__key_release(kvs_index *index, struct kvs__engine *engine, struct kvs__key key);

struct kvs__entry *kvs__entry_find(const kvs_index *index, const struct kvs__engine *engine,
                                   struct kvs__key key, uint32_t kind);
static inline int kvs__entry_held(const struct kvs__entry *entry) {
  return entry != NULL && !(entry->flags & KVS__ENTRY_GHOST);
}
int kvs__entry_doubtful(const struct kvs__engine *engine, const struct kvs__entry *entry);

/* holders.c: the common ground of records. 0 = out of memory, nothing changed. */
int kvs__hold(kvs_index *index, struct kvs__engine *engine, uint32_t kind, uint64_t block, uint32_t depth);
int kvs__unhold(kvs_index *index, struct kvs__engine *engine, uint32_t kind, uint64_t block);

/* entries.c: storing and removing one hash. */
struct kvs__tie {
  int known; /* block and depth are */
  uint64_t block;
  uint32_t depth;
  int orphan; /* not known, but these are: */
  uint64_t local;
  struct kvs__key parent;
};

enum kvs__entered { KVS__ENTERED_NEW, KVS__ENTERED_COPY, KVS__ENTERED_AGAIN, KVS__ENTERED_FAILED };
/* Enter one hash of a stored event; `again`: a held entry that is not doubtful gets no copy. */
enum kvs__entered kvs__enter(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind,
                             const struct kvs__tie *tie, int again);
enum kvs__left { KVS__LEFT, KVS__LEFT_UNKNOWN, KVS__LEFT_FAILED };
enum kvs__left kvs__leave(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind);
/* Undo all that an entry or a ghost means elsewhere; its slot and its reference to a name are the caller's to take
 * away. 0 = out of memory, nothing changed. */
int kvs__entry_drop(kvs_index *index, struct kvs__engine *engine, struct kvs__entry *entry);
/* Any tied entry of this hash, held or ghost: own kind first. */
const struct kvs__entry *kvs__tied_anywhere(const kvs_index *index, const struct kvs__engine *engine,
                                            struct kvs__key key, uint32_t kind);
int kvs__held_anywhere(const kvs_index *index, const struct kvs__engine *engine, struct kvs__key key);

/* orphans.c */
uint32_t kvs__orphan_add(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind,
                         struct kvs__key parent, uint64_t local); /* 0 = no room */
void kvs__orphan_remove(kvs_index *index, struct kvs__engine *engine, uint32_t orphan);
/* A hash has just been tied: whoever waited for it follows. */
void kvs__join(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind, uint64_t block,
               uint32_t depth);
void kvs__orphans_end(kvs_index *index, struct kvs__engine *engine);

/* evict.c: give up the deepest blocks of the largest record. 0 = there was nothing to give. */
int kvs__evict(kvs_index *index);

#endif
