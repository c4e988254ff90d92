/* The index inside: what is stored where, which lines a step touches, who may touch them, what holds after a failure.
 *
 *                      +-- models: name, the chains its engines need hashed
 *   kvs_index ---------+-- runs: blocks in the order of prompts, with their holder sets   (runs.h)
 *                      +-- sets: interned holder sets                                     (sets.h)
 *                      +-- media: their names                                             (media.h)
 *                      +-- memory: counts what all of this takes                          (memory.h)
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
 * Terms, beside those of kvsync.h:
 *
 *     engine hash   what an engine calls a block: an integer, or bytes
 *     block hash    what we call it: made of its tokens and all before it (hash.h), so that all engines' blocks compare
 *     kind          where in an engine: a medium, and a group of its KV caches
 *     entry         an engine hash held in a kind. Tied: its block is known. Untied: it is not, so it matches nothing. An
 *                   orphan: untied until its predecessor is told
 *     slot          a block's number for as long as anybody holds it
 *     depth         of a block: how many lie before it in its prompt
 *     chain         a prompt's block hashes under one block size and dialect: what one walk follows
 *
 * To read it, begin here; then go the way of a frame (apply.c, ahead.c, store.c, entries.c, holders.c) and of a question
 * (match.c, walk.c). The ground they stand on is drawn in segments.h, runs.h and sets.h.
 *
 * ---- the layout
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
 *     bucket of `held`   2.9 found free,          1.3, written      1.3                  -
 *                        one written
 *     run                1/64                     1                 1                    1/64
 *     block hash         1/8, written             1                 1                    1/8
 *     holder set         1/16, written            1, written        -                    1/16
 *     bucket of `heads`  1/22, one written        0 to 1.3          -                    1/48
 *     the set's holders  where they differ from   where the step    -                    where they differ from
 *                        the block before         is not known                           the block before
 *     `gone`             -                        1/4, written      -                    -
 *     in all, about      3                        4.5 to 6          3.3                  1/4
 *
 * Why so. Engine hashes are random, so finding one is a line of its own whatever the table; all that is known of the item, but
 * for copies beyond the first, is in that line. Nothing after it is a search: a slot is an address. Blocks of a prompt lie
 * side by side, so what follows the block before is in the same lines. A removal lets go of its block at the end of the frame
 * (gone.h), in the order told, which is mostly a prompt's from its end: then runs, hashes and sets are shared as by a store,
 * and what is left is the bucket. Stores and removals ask for lines before they need them, so that most of the misses overlap.
 * How each of the three is laid out, and its arithmetic: segments.h, runs.h, sets.h; what was measured, and the layouts
 * given up for it: docs/design/core.md.
 *
 * ---- threads
 *
 * `writing` is held by one writer or audit for a whole call. `state` is a read-write lock over all that readers see: runs,
 * sets, models, the list of engines, the names of media, and of each record all but held keys, names, gone, orphans and
 * what is counted. A writer changes anything, seen or not, under both, and looks under `writing` alone; readers have `state`.
 * Unseen things too, because a held key that comes or goes can move a bucket of `heads`: their segments share pools.
 * Only what decodes and hashes (ahead.c, prepare.c) runs outside of `state`, and counting in apply.c.
 *
 * A writer lets go of `state` for an instant every KVS_SLICE_BLOCKS blocks (kvs__breathe), wherever what readers see is whole;
 * as nobody else writes, no pointer of the writer's dies by it. What one block costs meanwhile is bounded by construction: a
 * stranger's bytes are decoded and hashed outside, but for names of 4 KB at most; tables move 288 items at most; whatever goes
 * over many entries breathes as it goes. In one piece go only: a directory, a list of numbers or a side map that doubles or
 * halves; what is gathered over all engines (a model's chains, who holds most); and one doubt in 255 (kvs__keys_doubt).
 *
 * ---- failure
 *
 * What can fail for memory says so (0, or the NONE of its type) and has then changed nothing. To take away can need memory,
 * too: for the set without that holder (sets.h), or to file what lay behind a block among the heads (runs.h). Work that
 * lowers what is held is `urgent`: it may use a reserve below the ceiling (life.c), so the ceiling alone hardly stops it.
 * Where memory runs out in the middle, an order of steps in which every one leaves something true does the rest:
 *
 *     while                              what stays                                          trust, at most
 *     decoding or hashing an event       it is skipped, the others apply                     stale, all media
 *     learning, or naming the parent     it is skipped                                       partial
 *     entering a block                   room is made up to three times; else the blocks     partial
 *                                        before it stay, those after it are left out
 *     filing an orphan                   the entry, untied for good; counted                 as it was
 *     joining an orphan                  the same                                            partial
 *     re-tying to another block          the entry, untied; the event ends there             partial or stale
 *     removing                           the entry and the rest of the event's               stale
 *     letting go at a frame's end        the block is held until a later frame's end         stale
 *     looking for a removed block        it is not found: who follows it is an orphan        as for an orphan
 *     clear, restart, the end of one     the entries it could not take away                  stale
 *     a LoRA name, a table that shrinks  it is not noted, the table stays as large           as it was
 *     a question, an export, a save      nothing: KVS_ERR_MEMORY                             as it was
 *
 * ---- hostile input
 *
 * Engines choose every byte of a payload, and users what is asked for.
 *
 *     counts and lengths that lie        held against the bytes that are there; nothing recurses (msgpack.h)
 *     hashes that meet in a table        all that a stranger chooses is mixed with the index's secret seed before it is a
 *                                        place (kvs__place_of, kvs__side_key, hash.h); media names alone are not, and are few
 *     prompts that pass for others       block hashes are chained under that seed
 *     more and more of anything          limits of kvsync.h; KVS__MEDIA_MADE_MAX; and the ceiling, at which the largest
 *                                        record gives up its deepest blocks first (evict.c)
 *     bytes of a snapshot                each number is checked before it is believed (reader.h)
 *
 * ---- files
 *
 * From below; none calls what stands after it:
 *     memory, pool, map; segments, keys; runs, sets, media; hash; msgpack, clock
 *     values, tokens; event, batch, extras (decode.h)
 *     index.h, locks; trust, names, adapters; holders; gone, orphans; entries; record, models; evict; prepare, store
 *     ahead; apply; follow
 *     engines, stats, export, life; snapshot_items, snapshot, loading_items, loading     prompt, walk, groups, rows, match
 *     and by themselves: status, numbers, receive */
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
#define KVS__UNTIED UINT32_MAX /* KVS__SLOT_NONE as well: no slot */
#define KVS__ORPHAN(number) (KVS__SLOT_END + (number))

static inline int kvs__is_tied(uint32_t value) { return value < KVS__SLOT_END; }
static inline int kvs__is_orphan(uint32_t value) { return value >= KVS__SLOT_END && value != KVS__UNTIED; }

_Static_assert(KVS_ORPHANS_MAX < UINT32_MAX - KVS__SLOT_END - 1, "every orphan has a value");

/* An engine hash as a key of one record. */
enum { KVS__INTEGERS = 0, KVS__NAMES = 1 };

struct kvs__key {
  uint64_t value; /* the integer, or the number of the name */
  uint8_t form; /* KVS__INTEGERS or KVS__NAMES */
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
  uint8_t group; /* among the record's groups */
  struct kvs__keys held[2];
  struct kvs__map copies[2]; /* of the marked, by side key: how many */
  struct kvs__map aliases; /* slot -> engine hashes beyond the first */
  struct kvs__map gone[2]; /* what the frame removed: side key -> 1 + its place in the record's list */
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
  uint8_t told; /* enum kvs__spec, as the engine named it */
  uint8_t spec; /* the same, but a window without a size counts as full attention */
  uint8_t on_gpu; /* a GPU store has named it in this life */
  int64_t window; /* tokens, -1 = none given */
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
  uint32_t next; /* waiting for the same parent; or next free; or next to be joined */
  uint32_t previous;
  uint32_t slot; /* its predecessor's, once that is known */
  uint8_t kind;
  uint8_t key_form;
  uint8_t parent_form;
  uint8_t used;
};

_Static_assert(sizeof(struct kvs__orphan) == 40, "without holes: snapshots have it as it lies here");

enum kvs__beginning { KVS__EXPECT_ZERO, KVS__EXPECT_ANY, KVS__BEGUN };

struct kvs__engine {
  uint32_t number;
  uint32_t model;
  uint8_t heard; /* something was applied, or the caller said what it holds */
  uint8_t complete; /* beginning seen, and no hole, fault or evidence of loss since */
  uint8_t beginning; /* enum kvs__beginning */
  uint8_t dialect;
  uint8_t kinds_count;
  uint8_t media_count;
  uint8_t groups_count;
  uint8_t media_made; /* names that nobody had used before */
  uint8_t unproven; /* loaded, and nothing has shown yet that this life goes on: reads as stale */
  struct kvs__kind *kinds[KVS_KINDS_MAX];
  struct kvs__medium media[KVS_MEDIA_MAX];
  struct kvs__group groups[KVS_KINDS_MAX];
  int64_t sequence; /* of the last frame applied, -1 = none */
  uint64_t lives;
  uint64_t held; /* entries with copies */
  uint64_t untied; /* held and not tied */
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
  uint32_t orphans_count; /* slots in use at some time */
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
  struct kvs__segments segments; /* the pools that all tables of keys take theirs from */
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

/* Both locks, for the whole of a call that changes something. */
void kvs__write_begin(kvs_index *index);
void kvs__write_end(kvs_index *index);

/* `state` alone, by one who has `writing`; yield lets readers in for an instant. */
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
