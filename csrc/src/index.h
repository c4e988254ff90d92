/* The index inside: what is stored where, and who may touch it.
 *
 *                      +-- models: name, the chains its engines need hashed
 *   kvs_index ---------+-- runs: blocks in the order of prompts, with their holder sets   (runs.h)
 *                      +-- sets: interned holder sets                                     (sets.h)
 *                      +-- media: their names                                             (media.h)
 *                      +-- engines[] -> record
 *                                         |-- kinds: (medium, group), each with
 *                                         |     held: engine hash -> slot of its block    (keys.h)
 *                                         |     copies beyond the first, and aliases
 *                                         |-- media: trust
 *                                         |-- groups: what was learned of each
 *                                         |-- names: byte hashes, interned to numbers
 *                                         |-- adapters: LoRA names that it stored blocks for
 *                                         |-- gone: removals of the frame under way
 *                                         `-- orphans: blocks that wait for a predecessor
 *
 *     engine hash   what an engine calls a block: an integer, or bytes
 *     block hash    what we call it: made of its tokens and all before it (hash.h), so that all engines' blocks compare
 *     kind          where in an engine: a medium, and a group of its KV caches
 *     entry         an engine hash held in a kind. Tied: its block is known. Untied: it is not, so it matches nothing. An
 *                   orphan: untied until its predecessor is told
 *     slot          a block's number for as long as anybody holds it
 *
 * A held block is in three places, each of which names the next. What is shared by all engines is told once:
 *
 *     engine hash, as      held: one for each             runs: one for all                  sets: one for all
 *     the wire has it      engine and kind
 *          |               [ bucket ]                     [ run | hashes | holder sets ]     [ holders ]
 *          +-------------> engine hash -> slot ---------> slot -> block hash, set ---------> set -> (engine, kind)s
 *                                                           ^
 *     block hash of a      heads: one for all               |
 *     prompt (hash.h) ---> block hash -> slot --------------+   only where the block before does not lead there
 *
 * Cache lines of 64 bytes that a step touches, in an index much larger than the caches. What is small or was touched by
 * the step before is in the cache and not counted: directories, segments, steps from set to set, the record itself.
 *
 *                        store, one behind        removal           lookup: an engine    a step
 *                        the other                                  hash's block         of a walk
 *     bucket of `held`   2.7 found free,          1.3, written      1.3                  -
 *                        one written
 *     run                1/64                     1                 1                    1/64
 *     block hash         1/8, written             1                 1                    1/8
 *     holder set         1/16, written            1, written        -                    1/16
 *     bucket of `heads`  1/24, one written        0 to 1.3          -                    1/48
 *     the set's holders  where they differ from   where the step    -                    where they differ from
 *                        the block before         is not known                           the block before
 *     `gone`             -                        1/4, written      -                    -
 *     in all, about      3                        4.5               3.3                  1/4
 *
 * Why so. Engine hashes are random, so finding one is a line of its own whatever the table; all that is known of the item,
 * but for copies beyond the first, is in that line. Nothing after it is a search: a slot is an address. Blocks of a prompt lie side by side, so what
 * follows the block before is in the same lines. A removal lets go of its block at the end of the frame (gone.h), in the
 * order told, which is mostly a prompt's from its end: then runs, hashes and sets are shared as by a store, and what is left
 * is the bucket. Stores and removals ask for lines before they need them, so that most of the misses overlap.
 * How each of the three is laid out, and its arithmetic: segments.h, runs.h, sets.h; what was measured, and the layouts
 * given up for it: docs/design/core.md.
 *
 * Files, from below; none calls what stands after it:
 *     memory, pool, map; segments, keys; runs, sets, media; hash, clock
 *     msgpack; values, tokens; event, batch, extras (decode.h)
 *     index.h, locks; trust, names, adapters; holders; gone, orphans; entries; record, models; evict; store; apply
 *     engines, stats, export, life; snapshot_items, snapshot, loading_items, loading     prompt, walk, groups, rows, match
 *
 * Locks. `writing` is held by one writer for a whole call. `state` is a read-write lock over all that
 * readers see: runs, sets, models, the list of engines, and of each record its kinds, groups, dialect and trust.
 * A writer holds it while it changes anything, and lets go for an instant every KVS_SLICE_BLOCKS blocks. What one block
 * costs meanwhile is bounded by construction: a stranger's bytes are decoded and hashed outside, but for names of 4 KB at
 * most; tables move 288 items at most; only a directory, a list of numbers or a side map is ever doubled in one piece.
 * Held keys, names, gone and orphans belong to `writing` alone. */
#ifndef KVS_INDEX_H
#define KVS_INDEX_H

#include <pthread.h>
#include <stdint.h>

#include "decode.h"
#include "hash.h"
#include "keys.h"
#include "kvsync.h"
#include "map.h"
#include "media.h"
#include "memory.h"
#include "runs.h"
#include "sets.h"

/* ---- entries: the items of a kind's `held` ---- */

/* An item's value is the slot of its block, or one of these. Its mark: it has copies beyond the first. */
#define KVS__UNTIED UINT32_MAX
#define KVS__ORPHAN(number) (KVS__SLOT_END + (number))

static inline int kvs__is_tied(uint32_t value) { return value < KVS__SLOT_END; }
static inline int kvs__is_orphan(uint32_t value) { return value >= KVS__SLOT_END && value != KVS__UNTIED; }

_Static_assert(KVS_ORPHANS_MAX < UINT32_MAX - KVS__SLOT_END - 1, "every orphan has a value");

/* An engine hash as a key of one record. */
enum { KVS__INTEGERS = 0, KVS__NAMES = 1 };

struct kvs__key {
  uint64_t value; /* the integer, or the number of the name */
  uint8_t form;   /* KVS__INTEGERS or KVS__NAMES */
};

/* ---- a record ---- */

struct kvs__name {
  uint64_t hash;
  uint32_t references;
  uint32_t next; /* same hash, other bytes */
  uint32_t length;
  uint8_t bytes[];
};

struct kvs__adapter;

struct kvs__kind {
  uint8_t medium; /* among the record's media */
  uint8_t group;  /* among the record's groups */
  struct kvs__keys held[2];
  struct kvs__map copies[2]; /* of the marked, by side key: how many */
  struct kvs__map aliases;   /* slot -> engine hashes beyond the first */
  struct kvs__map gone[2];   /* what the frame removed: side key -> 1 + its place in the record's list */
};

struct kvs__medium {
  uint32_t name; /* among the index's medium names */
  uint8_t trust;
  uint8_t reason;
  uint64_t entries;
  uint64_t doubtful;
  double since; /* of its trust */
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

/* A removal of the frame under way: its block is let go when the frame ends. */
struct kvs__gone {
  uint64_t key;
  uint32_t slot;
  uint8_t kind;
  uint8_t form;
  uint8_t hidden; /* the hash means another block now: only to be let go of */
};

_Static_assert(sizeof(struct kvs__gone) == 16, "four removals share a cache line");

struct kvs__orphan {
  uint64_t key; /* the block that waits */
  uint64_t parent;
  uint64_t local; /* its local hash */
  uint32_t next;  /* waiting for the same parent; or next free; or next to be joined */
  uint32_t previous;
  uint32_t slot; /* its predecessor's, once that is known */
  uint8_t kind;
  uint8_t key_form;
  uint8_t parent_form;
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
  uint8_t unproven;   /* loaded, and nothing has shown yet that this life goes on: reads as stale */
  struct kvs__kind *kinds[KVS_KINDS_MAX];
  struct kvs__medium media[KVS_MEDIA_MAX];
  struct kvs__group groups[KVS_KINDS_MAX];
  int64_t sequence;
  uint64_t lives;
  uint64_t held;    /* entries with copies */
  uint64_t untied;  /* held and not tied */
  uint64_t counters[KVS_COUNTERS_COUNT];
  kvs_lag lag;
  struct kvs__name **names; /* 0 stays unused */
  uint32_t names_count;
  uint32_t names_capacity;
  uint32_t names_free; /* head of a chain of free numbers, kept in names_next */
  uint32_t *names_next;
  struct kvs__map names_by_hash;
  struct kvs__adapter **adapters; /* the latest first; NULL until there is one */
  uint32_t adapters_count;
  struct kvs__gone *gone;
  uint32_t gone_count;
  uint32_t gone_capacity;
  uint32_t gone_mapped; /* so many are in the kinds' maps */
  struct kvs__orphan *orphans; /* 0 stays unused */
  uint32_t orphans_count;      /* slots in use at some time */
  uint32_t orphans_capacity;
  uint32_t orphans_free;
  uint32_t orphans_live;
  struct kvs__map orphans_by_parent;
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

/* An event that was decoded before those before it are applied (ahead.h). */
#define KVS__AHEAD 16u

struct kvs__decoded {
  enum kvs__fault fault;
  struct kvs__event event;
  struct kvs__scratch scratch;
};

struct kvs_index {
  pthread_mutex_t writing;
  pthread_rwlock_t state;
  unsigned slice; /* blocks changed since readers were let in */
  struct kvs__memory memory;
  struct kvs__hasher hasher;
  struct kvs__segments segments;
  struct kvs__runs runs;
  struct kvs__sets sets;
  struct kvs__engine **engines;
  uint32_t engines_count;
  uint32_t engines_capacity;
  uint32_t engines_live;
  struct kvs__model *models;
  uint32_t models_count;
  struct kvs__media media;
  uint64_t entries_held;
  uint64_t entries_max; /* of one engine; 0 = no limit */
  uint64_t evicted;
  uint64_t adapter_stores; /* events that named an adapter, of all engines */
  struct kvs__decoded ahead[KVS__AHEAD];
};

/* New medium names one engine may bring, over all its lives. */
#define KVS__MEDIA_MADE_MAX 64

/* ---- locks.c ---- */

/* For the whole of a call that changes something. */
void kvs__write_begin(kvs_index *index);
void kvs__write_end(kvs_index *index);

/* The same in parts, by one who has `writing`: what readers see may change in between. */
void kvs__state_begin(kvs_index *index);
void kvs__state_end(kvs_index *index);
void kvs__state_yield(kvs_index *index);

/* Count `blocks` of work and let readers in if a slice is full. */
static inline void kvs__breathe(kvs_index *index, unsigned blocks) {
  index->slice += blocks;
  if (index->slice >= KVS_SLICE_BLOCKS) kvs__state_yield(index);
}

/* ---- looking up ---- */

/* An engine's own number as a key of a side map: mixed with our seed like the keys of `held`, so that an engine cannot craft
 * hashes that meet. Different numbers stay different. */
static inline uint64_t kvs__side_key(const struct kvs__kind *kind, uint64_t number) {
  return kvs__place_of(&kind->held[KVS__INTEGERS], number);
}

static inline uint32_t kvs__copies_of(const struct kvs__kind *kind, struct kvs__key key,
                                      struct kvs__seat seat) {
  if (!kvs__seat_marked(seat)) return 1;
  return kvs__map_get(&kind->copies[key.form], kvs__side_key(kind, key.value));
}

static inline struct kvs__engine *kvs__engine_get(const kvs_index *index, uint32_t engine) {
  return engine < index->engines_count ? index->engines[engine] : NULL;
}

static inline struct kvs__seat kvs__entry_find(const struct kvs__engine *engine, struct kvs__key key,
                                               uint32_t kind) {
  return kvs__keys_find(&engine->kinds[kind]->held[key.form], key.value);
}

#endif
