/* kvsync: which engine holds which prefix block.
 *
 * One index follows any number of engines. Event payloads go in as the bytes the engine sent; the
 * question "how many leading blocks of this prompt does each engine hold" comes out.
 *
 * This header says how to call. How the index is made, and in which order to read it, is in csrc/src/index.h; what an event
 * means, rule by rule, in docs/design/index.md.
 *
 *     engine    who publishes events: in frames, each a number and a batch of events (its payload)
 *     life      of an engine: from its start, with number 0, to the next
 *     block     so many tokens of a prompt; an engine calls one by its engine hash, we by our block hash
 *     medium    where an engine keeps a copy: GPU, CPU, a disk. Group: a model may keep several KV caches side by side
 *     record    what the index knows of one engine: entries, each a hash that it holds in a medium and group
 *     copies    of an entry: how often it was stored and not removed; with the last copy it goes
 *     doubtful  an entry that may be gone; trust is said of a medium, and of a record as the worst of its media
 *
 * Threads. Any function may be called from any thread at any time on a live index, except kvs_index_destroy, which nobody
 * else may be beside or after, and the loading of a snapshot, which wants the index for itself.
 *     writers   apply, apply_many, follow, clear, restart, doubt, confirm, engine_add, engine_remove    take turns, with each other
 *     audits    engine_status, medium_status, export, engine_save, stats                          and with the writers
 *     readers   match, match_hashes, trust, medium_name,                    run together, beside audits, and beside a
 *               adapter, adapter_engines, adapter_stores                      writer, which lets them in after at most
 *               KVS_SLICE_BLOCKS blocks: they may see half of an event, never half of a block
 *     receive   the thread that the socket belongs to; needs no index. follow: the same thread, for the lane is part of it;
 *               lane_close from any thread, beside both
 *     the rest  block_hashes, seed, tokens_read, names and texts, frees       touch nothing that changes: no locks
 *
 * Failure. Every function that can fail returns a kvs_status. A status other than KVS_OK means that nothing changed and no
 * output was written; engine_remove, apply_many and the loading of snapshots are the exceptions, and say what is left. What an
 * engine sends is never an error: it is applied, or skipped and counted, and trust in the record is lowered
 * (kvs_index_apply). Where memory runs out in the middle of a change, the index knows less than before or doubts more, and
 * trust says so; it never says `exact` of something untrue (csrc/src/index.h: step by step). A broken invariant of our own
 * stops the process: an index that might lie is worth nothing.
 *
 * Memory. Pointers passed in are borrowed for the call, and must not be NULL where that is not said to mean something;
 * KVS_ERR_ARGUMENT answers it only where a comment says so. What a function hands out names its free function. Text is UTF-8
 * with an explicit length and is not NUL-terminated, unless it is said to be. */
#ifndef KVSYNC_H
#define KVSYNC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KVS_VERSION "0.1.0"

/* A writer lets waiting readers in after this many blocks. */
#define KVS_SLICE_BLOCKS 64
/* Limits on what a stranger controls. Beyond them an event is skipped, unless it is said what happens. */
#define KVS_HASH_BYTES_MAX 64     /* of an engine hash that is bytes */
#define KVS_TEXT_BYTES_MAX 4096   /* of another text in an event; of a question's: KVS_ERR_ARGUMENT */
#define KVS_MEDIUM_BYTES_MAX 64   /* of a medium's name */
#define KVS_ADAPTER_BYTES_MAX 256 /* of a LoRA adapter's name that is listed; longer ones are not listed */
#define KVS_DEPTH_MAX 32          /* values of a payload inside each other */
#define KVS_MEDIA_MAX 8           /* of one engine in one life */
#define KVS_ADAPTERS_MAX 256      /* listed of one engine: the latest */
#define KVS_KINDS_MAX 32          /* (medium, group) of one engine in one life */
#define KVS_ORPHANS_MAX 16384     /* of one engine: further ones are held, but never match */
#define KVS_ENGINES_MAX 16777215  /* ever added: KVS_ERR_CAPACITY */

#define KVS_STATUS_MAP(X)                                     \
  X(OK, 0, "done")                                            \
  X(ERR_ARGUMENT, 1, "an argument is out of its range")       \
  X(ERR_MEMORY, 2, "memory could not be allocated")           \
  X(ERR_ENGINE, 3, "no engine has this number")               \
  X(ERR_CAPACITY, 4, "a fixed limit of the index is reached") \
  X(ERR_SNAPSHOT, 5, "these bytes are no snapshot of this version")

typedef enum kvs_status {
#define X(name, code, text) KVS_##name = code,
  KVS_STATUS_MAP(X)
#undef X
} kvs_status;

/* How far the record of an engine may be believed; the larger, the less. */
typedef enum kvs_trust {
  KVS_TRUST_EXACT = 0,   /* the engine holds what it says, and nothing else */
  KVS_TRUST_PARTIAL = 1, /* the engine holds what it says, and may hold more */
  KVS_TRUST_STALE = 2,   /* some of what it says may be gone: the doubtful entries */
  KVS_TRUST_UNKNOWN = 3  /* nothing was heard of the engine yet */
} kvs_trust;

/* Why a medium is not exact. */
#define KVS_REASON_MAP(X)                              \
  X(NONE, 0, "none")                                   \
  X(BEGINNING, 1, "beginning unseen")                  \
  X(GAP, 2, "gap")                                     \
  X(UNDECODABLE, 3, "undecodable event")               \
  X(REMOVED_UNKNOWN, 4, "removal of a block not held") \
  X(PARENT_MISSING, 5, "parent never stored")          \
  X(CLEARED_ABOVE, 6, "a faster medium was cleared")   \
  X(EVICTED, 7, "evicted to keep within memory")       \
  X(MEMORY, 8, "out of memory")                        \
  X(TOLD, 9, "told")                                   \
  X(LOADED, 10, "loaded and not compared with the engine yet")

typedef enum kvs_reason {
#define X(name, code, text) KVS_REASON_##name = code,
  KVS_REASON_MAP(X)
#undef X
} kvs_reason;

/* What an engine's events show of extra keys: what a block depends on beside its tokens (salts, images). */
typedef enum kvs_dialect {
  KVS_DIALECT_NONE = 0,     /* nothing stored with tokens yet */
  KVS_DIALECT_ABSENT = 1,   /* nothing */
  KVS_DIALECT_UNTAGGED = 2, /* which, but not at which token */
  KVS_DIALECT_TAGGED = 3    /* which, and at which token of the block */
} kvs_dialect;

/* What is counted for each engine, in this order; kvs_counter_name gives the names. */
#define KVS_COUNTER_MAP(X)                                                               \
  X(FRAMES, frames)                       /* applied */                                  \
  X(DUPLICATE, duplicate)                 /* frames of a number that had been applied */ \
  X(GAPS, gaps)                           /* holes in the numbers */                     \
  X(STORED, stored)                       /* hashes, as in kvs_applied */                \
  X(REMOVED, removed)                     /* the same */                                 \
  X(CLEARED, cleared)                     /* the same */                                 \
  X(REANNOUNCED, reannounced)             /* the same */                                 \
  X(SKIPPED_TYPE, skipped_type)           /* events: a field of another type */          \
  X(SKIPPED_RANGE, skipped_range)         /* a number out of its range */                \
  X(SKIPPED_HASH, skipped_hash)           /* a hash that is none */                      \
  X(SKIPPED_DEPTH, skipped_depth)         /* nested too deep */                          \
  X(SKIPPED_TRUNCATED, skipped_truncated) /* the payload ends inside */                  \
  X(SKIPPED_LIMIT, skipped_limit)         /* beyond another limit */                     \
  X(SKIPPED_BATCH, skipped_batch)         /* payloads that are no batch */               \
  X(SKIPPED_MEMORY, skipped_memory)       /* events there was no memory for */           \
  X(UNKNOWN_TAG, unknown_tag)             /* events of another tag: ignored */           \
  X(UNKNOWN_FIELD, unknown_field)         /* the same of fields */                       \
  X(TRAILING, trailing)                   /* payloads with bytes behind the batch */     \
  X(REMOVED_UNKNOWN, removed_unknown)     /* hashes removed that were not held */        \
  X(PARENT_MISSING, parent_missing)       /* events whose parent was never stored */     \
  X(PLACEHOLDERS, placeholders)           /* hashes stored without tokens */             \
  X(MASKED, masked)                       /* with tokens that no block can be given */   \
  X(RETIED, retied)                       /* hashes told to be another block now */      \
  X(ORPHANS_JOINED, orphans_joined)       /* blocks whose predecessor came */            \
  X(ORPHANS_DROPPED, orphans_dropped)     /* and those it will not help */               \
  X(EVICTED, evicted)                     /* entries given up for want of room */

typedef enum kvs_counter {
#define X(name, text) KVS_COUNTER_##name,
  KVS_COUNTER_MAP(X)
#undef X
      KVS_COUNTERS_COUNT
} kvs_counter;

typedef struct kvs_index kvs_index;
typedef struct kvs_loading kvs_loading;

typedef struct kvs_options {
  uint64_t seed;           /* of every block hash; keep it secret */
  /* Ceiling of everything the index allocates, beyond an empty one; 0 = none. Outside of it: what answers and exports take
   * while they are made and until they are freed; and, while a frame is applied, at most 36 bytes for each of its own: the
   * caller's limit on frames bounds that. Of those 1.7 MB are kept for the next frame. */
  uint64_t bytes_max;
  uint64_t entries_max; /* that one engine may hold; beyond it gives up its deepest blocks; 0 = no limit */
  uint64_t fail_allocation; /* for tests: the n-th allocation from here on fails once; 0 = none */
} kvs_options;

typedef struct kvs_applied {
  uint64_t stored; /* hashes that gained a copy or came to be held */
  uint64_t removed; /* hashes that lost a copy or were dropped */
  uint64_t cleared; /* entries that clears took away */
  uint64_t skipped; /* events that could not be applied */
  uint64_t reannounced; /* hashes told again without a new copy */
} kvs_applied;

typedef struct kvs_extra_key {
  const char *identifier;
  size_t identifier_bytes;
  uint64_t offset; /* first token */
  uint64_t length; /* tokens */
} kvs_extra_key;

typedef struct kvs_query {
  const uint32_t *tokens; /* host byte order */
  size_t tokens_count;
  const char *model;
  size_t model_bytes;
  const char *lora; /* NULL = none */
  size_t lora_bytes;
  const char *cache_salt; /* NULL = none */
  size_t cache_salt_bytes;
  const kvs_extra_key *extra_keys; /* in any order */
  size_t extra_keys_count;
  const uint32_t *engines; /* ask only these; NULL = all */
  size_t engines_count;
} kvs_query;

typedef struct kvs_match_row {
  uint32_t engine;
  uint32_t blocks; /* leading blocks without a hole, 1 or more */
  uint64_t tokens; /* in those blocks */
  uint32_t media_at; /* first of this row's places in kvs_matches.media */
  uint8_t media_count;
  uint8_t certain; /* 0: the engine's dialect cannot tell apart what was asked */
  uint8_t trust; /* kvs_trust, worst over the engine's media */
} kvs_match_row;

typedef struct kvs_match_medium {
  uint32_t medium; /* kvs_index_medium_name */
  uint32_t blocks; /* leading blocks whose fastest copy lies there */
  uint8_t trust; /* kvs_trust of the engine's record on that medium */
} kvs_match_medium;

/* One allocation: free it with kvs_matches_free. One without rows needs no freeing. Rows in no particular order. */
typedef struct kvs_matches {
  uint32_t rows_count;
  const kvs_match_row *rows;
  const kvs_match_medium *media;
} kvs_matches;

/* How long after the time that a batch is stamped with it had been applied, over all batches that bear a time and all
 * lives. Two clocks are compared: the engine's and ours. */
#define KVS_LAG_COUNTS 16
typedef struct kvs_lag {
  uint64_t counts[KVS_LAG_COUNTS]; /* by the first kvs_lag_bound not exceeded; the last: beyond all */
  uint64_t ahead; /* of these, stamped in our future: counted as no time */
  double seconds; /* sum */
  double last; /* of the latest batch, negative where it was ahead */
} kvs_lag;

typedef struct kvs_engine_status {
  int64_t sequence; /* last number applied, -1 = none */
  uint64_t lives; /* 1 + restarts */
  uint64_t entries; /* (kind, hash) pairs held */
  uint64_t orphans;
  uint32_t block_size; /* usual size, 0 = not learned */
  uint32_t media_count;
  uint32_t groups_count; /* KV groups named in this life */
  uint8_t dialect; /* kvs_dialect */
  uint8_t trust; /* kvs_trust, worst over media */
  uint64_t counters[KVS_COUNTERS_COUNT];
  kvs_lag lag;
} kvs_engine_status;

typedef struct kvs_medium_status {
  uint32_t medium;
  uint8_t trust; /* kvs_trust */
  uint8_t reason; /* kvs_reason */
  uint64_t entries;
  uint64_t doubtful;
  double
      since; /* when trust became what it is: seconds of the wall clock; of a loaded record, when it was loaded */
} kvs_medium_status;

/* One held (kind, hash). */
typedef struct kvs_export_row {
  uint64_t hash; /* an integer hash, or where its bytes begin in kvs_export.bytes */
  uint64_t block; /* our block hash, if tied */
  uint32_t hash_bytes; /* 0 = integer hash */
  uint32_t medium;
  uint32_t group;
  uint32_t copies;
  uint8_t tied;
  uint8_t doubtful;
} kvs_export_row;

/* One allocation: free it with kvs_export_free. */
typedef struct kvs_export {
  uint64_t rows_count;
  const kvs_export_row *rows;
  const uint8_t *bytes;
} kvs_export;

typedef struct kvs_stats {
  uint64_t bytes; /* allocated now */
  uint64_t bytes_peak;
  uint64_t bytes_max; /* 0 = none */
  uint64_t engines;
  uint64_t models;
  uint64_t blocks; /* distinct block hashes held by anybody */
  uint64_t entries; /* (engine, kind, hash) held */
  uint64_t holder_sets; /* distinct sets of holders */
  uint64_t evicted;
} kvs_stats;

/* NUL-terminated, static. kvs_counter_name is NULL beyond the last. */
const char *kvs_version(void);
const char *kvs_status_name(kvs_status status);
const char *kvs_status_text(kvs_status status);
const char *kvs_reason_text(kvs_reason reason);
const char *kvs_counter_name(unsigned counter);
/* The upper bounds of kvs_lag.counts in seconds, rising; beyond the last: infinity. */
double kvs_lag_bound(unsigned bound);

/* Make an empty index.
 * KVS_ERR_ARGUMENT  a pointer is NULL.
 * KVS_ERR_MEMORY    not enough of it. */
kvs_status kvs_index_create(const kvs_options *options, kvs_index **index);

/* End it and free all it holds; NULL is allowed. Results handed out earlier stay valid. */
void kvs_index_destroy(kvs_index *index);

/* Begin a record for one engine that serves `model`; `engine` is its number from now on, never reused.
 * Its trust is unknown until something is applied.
 * KVS_ERR_CAPACITY  KVS_ENGINES_MAX numbers are used up.
 * KVS_ERR_MEMORY, KVS_ERR_ARGUMENT (a text longer than KVS_TEXT_BYTES_MAX). */
kvs_status kvs_index_engine_add(kvs_index *index, const char *model, size_t model_bytes, uint32_t *engine);

/* End a record and forget all of it. Cost: O(its own entries), in slices.
 * KVS_ERR_ENGINE.
 * KVS_ERR_MEMORY  to take a holder away can need memory: part of the record is left, and doubted; call again. */
kvs_status kvs_index_engine_remove(kvs_index *index, uint32_t engine);

/* Apply one event batch. Whatever the bytes are, the answer is KVS_OK and `applied` says what happened:
 * undecodable events are skipped one by one, counted by reason, and doubted (docs/design/index.md).
 * `sequence` is the frame's number, or -1 for none.
 * Each event applies whole, or not at all; the one exception is memory: when it runs out in the middle
 * of a stored event, the blocks entered so far, all of them held by the engine, stay, the event counts as skipped
 * and the medium is at best partial; in the middle of a removed event, the medium becomes stale.
 * KVS_ERR_ENGINE.
 * Cost: one pass over the bytes; three to six cache lines a hash (csrc/src/index.h draws which). */
kvs_status kvs_index_apply(kvs_index *index, uint32_t engine, const uint8_t *payload, size_t payload_bytes,
                           int64_t sequence, kvs_applied *applied);

/* Apply `count` frames of one engine or several, in their order, in one turn: the same as kvs_index_apply for each of
 * them, and `applied` has room for all. Other writers and the audits wait until all are applied; readers do not.
 * KVS_ERR_ENGINE  one frame's engine is not there: those before it are applied, `done` says how many.
 * KVS_OK          `done` is `count`. */
kvs_status kvs_index_apply_many(kvs_index *index, size_t count, const uint32_t *engines,
                                const uint8_t *const *payloads, const size_t *payload_bytes,
                                const int64_t *sequences, kvs_applied *applied, size_t *done);

/* The caller knows that the engine holds nothing on `medium` (NULL: on all, and then any next number
 * continues). Drops the entries; trust becomes exact. To take a holder away can need memory: without it part of the entries is
 * left, and doubted (the status is KVS_OK all the same; kvs_index_medium_status tells).
 * KVS_ERR_ENGINE, KVS_ERR_ARGUMENT (the engine never named this medium). */
kvs_status kvs_index_clear(kvs_index *index, uint32_t engine, const char *medium, size_t medium_bytes);

/* The engine began a new life: everything learned of the old one is dropped, number 0 is expected.
 * Trust is partial until number 0 has been applied. What is left for want of memory is doubted, as by a clear.
 * KVS_ERR_ENGINE. */
kvs_status kvs_index_restart(kvs_index *index, uint32_t engine);

/* Doubt all that is held on `medium` (NULL: on every medium): trust becomes stale, or partial where nothing is held.
 * O(1), but for one time in 255, which goes over the tables in one piece: some 2 ms a million entries.
 * KVS_ERR_ENGINE, KVS_ERR_ARGUMENT (the engine never named this medium). */
kvs_status kvs_index_doubt(kvs_index *index, uint32_t engine, const char *medium, size_t medium_bytes);

/* A loaded record was found to be of the life that goes on: it reads as what it was saved as from here on, no longer as
 * stale. Does nothing for another.  KVS_ERR_ENGINE. */
kvs_status kvs_index_confirm(kvs_index *index, uint32_t engine);

/* Count the leading blocks of a prompt that each engine holds; engines that hold none get no row.
 * Reads only.
 * KVS_ERR_ARGUMENT  a pointer is NULL while its count is not 0, or a text is too long.
 * KVS_ERR_MEMORY    no room for scratch or result.
 * Cost: hashing, and a comparison a block (a probe every 64, and where prompts part), for each distinct (block size,
 * dialect) among the model's engines, up to the first block that no asked engine can match. */
kvs_status kvs_index_match(kvs_index *index, const kvs_query *query, const kvs_matches **matches);

/* The same with these tokens instead of the query's, so that one query serves for many prompts, at the same time too. */
kvs_status kvs_index_match_tokens(kvs_index *index, const kvs_query *query, const uint32_t *tokens,
                                  size_t tokens_count, const kvs_matches **matches);

/* The same for block hashes made by kvs_index_block_hashes, over all models. */
kvs_status kvs_index_match_hashes(kvs_index *index, const uint64_t *hashes, size_t hashes_count,
                                  const uint32_t *engines, size_t engines_count, const kvs_matches **matches);

void kvs_matches_free(const kvs_matches *matches);

/* Write the block hashes of a prompt's whole blocks (tagged dialect) to `hashes`, which has room for
 * tokens_count / block_size of them.  KVS_ERR_ARGUMENT (block_size 0 or beyond 2^20, ...), KVS_ERR_MEMORY. */
kvs_status kvs_index_block_hashes(const kvs_index *index, const kvs_query *query, uint32_t block_size,
                                  uint64_t *hashes);

/* KVS_ERR_ENGINE. */
kvs_status kvs_index_engine_status(kvs_index *index, uint32_t engine, kvs_engine_status *status);

/* The `nth` medium the engine named; KVS_ERR_ARGUMENT beyond the last, KVS_ERR_ENGINE. */
kvs_status kvs_index_medium_status(kvs_index *index, uint32_t engine, uint32_t nth, kvs_medium_status *status);

/* The name of a medium number: NUL-terminated, upper case, lives as long as the index; NULL if unknown. */
const char *kvs_index_medium_name(kvs_index *index, uint32_t medium);

/* The `nth` LoRA adapter that the engine stored blocks for in this life, the latest first: its name, for which there is
 * room for KVS_ADAPTER_BYTES_MAX bytes, and the number of the last such event, see kvs_index_adapter_stores. A snapshot
 * does not keep them.  KVS_ERR_ARGUMENT beyond the last, KVS_ERR_ENGINE. */
kvs_status kvs_index_adapter(kvs_index *index, uint32_t engine, uint32_t nth, char *name, size_t *bytes,
                             uint64_t *stored_at);

/* The engines that stored blocks for an adapter in their present life, and when; `capacity` of them at most. How many they
 * are.  Cost: a comparison of names for each adapter of each engine, where lengths agree. */
size_t kvs_index_adapter_engines(kvs_index *index, const char *name, size_t bytes, uint32_t *engines,
                                 uint64_t *stored_at, size_t capacity);

/* How many events that named an adapter have been applied: what is noted from now on has a higher number. */
uint64_t kvs_index_adapter_stores(kvs_index *index);

/* Worst trust over the engine's media, kvs_trust; KVS_ERR_ENGINE. O(1). */
kvs_status kvs_index_trust(kvs_index *index, uint32_t engine, uint8_t *trust);

/* List all that the engine holds, as of one moment.  KVS_ERR_ENGINE, KVS_ERR_MEMORY. */
kvs_status kvs_index_export(kvs_index *index, uint32_t engine, const kvs_export **list);
void kvs_export_free(const kvs_export *list);

void kvs_index_stats(kvs_index *index, kvs_stats *stats);

/* Read the token ids of a JSON array, of which `text` is what stands behind its '['; `tokens` has room for `capacity`.
 * Any thread; needs no index. The bytes used up, with the ']'; 0 if this is anything but an array of at most `capacity`
 * integers from 0 to 2^32 - 1, and then `count` is as it was.  Cost: one pass over the bytes. */
size_t kvs_tokens_read(const char *text, size_t text_bytes, uint32_t *tokens, size_t capacity, size_t *count);

/* ---- receiving: messages off sockets of libzmq, many in one call ---- */

#define KVS_BURST_KEPT_BYTES ((size_t)1 << 20) /* room above it is given back with the next call */

/* The functions of libzmq that are called, zmq_msg_* and zmq_errno; a message is a zmq_msg_t. */
typedef struct kvs_zmq {
  int (*init)(void *message);
  int (*receive)(void *message, void *socket, int flags);
  void *(*data)(void *message);
  size_t (*size)(const void *message);
  int (*more)(const void *message);
  int (*close)(void *message);
  int (*error)(void);
} kvs_zmq;

/* One socket that is read, and followed while that is simple. The thread that the socket belongs to sets the first three,
 * which begin as zero, and reads the others after a call of kvs_receive. */
typedef struct kvs_lane {
  void *socket;
  size_t messages_max; /* how many are taken in one call */
  size_t largest_max; /* a message with more bytes is to be told of */
  size_t messages;
  size_t followed; /* how many of them, from the first on, kvs_index_follow has applied */
  size_t largest; /* bytes of the largest */
  size_t bytes_end; /* where they end in `bytes` and `table` of the burst: those of the next lane begin there */
  size_t table_end;
  int error; /* what ended it, as errno has it: EAGAIN = no more is there, ENOMEM = the next one found no room and is lost,
                else libzmq's; 0 = nothing, there may be more */
  struct kvs__lane *own;
} kvs_lane;

/* What was applied between kvs_lane_open and kvs_lane_close. */
typedef struct kvs_followed {
  size_t messages;
  size_t bytes; /* of all parts of all of them */
  double at; /* when the last of them came, as kvs_index_follow was told */
  const char *payload; /* of the last, until the lane is opened again */
  size_t payload_bytes;
} kvs_followed;

/* What came off all sockets, until the next call. All zero before the first; end with kvs_burst_free. */
typedef struct kvs_burst {
  char *bytes; /* all parts of all messages, one behind the other */
  size_t bytes_count;
  size_t bytes_room;
  uint64_t *table; /* of each message: how many parts, then where each of them ends in `bytes` */
  size_t table_count;
  size_t table_room;
} kvs_burst;

/* Find libzmq in a library that this process has loaded, or among those that it was linked with. The path is
 * NUL-terminated.  KVS_ERR_ARGUMENT if it is not loaded, or a function is not found. */
kvs_status kvs_zmq_find(const char *path, kvs_zmq *zmq);

/* A lane that is closed.  KVS_ERR_MEMORY. */
kvs_status kvs_lane_create(kvs_lane **lane);
void kvs_lane_destroy(kvs_lane *lane);

/* Follow the live stream of an engine from here on, whose next message has this number, 0 or above. A message of it is
 * topic | number, 8 bytes big-endian | payload. Only the lane's thread may call it. */
void kvs_lane_open(kvs_lane *lane, uint32_t engine, int64_t number);

/* Follow nothing any longer; when it returns nothing is being applied, and what was is told. Any thread may call it, but
 * no two at once, and none beside kvs_lane_open. */
void kvs_lane_close(kvs_lane *lane, kvs_followed *followed);

/* Take whole messages that are there off one socket after the other: of each `messages_max` at most, and none at all
 * once there are `bytes_max` bytes. Gives how many lanes were read before the bytes had come together; always the first.
 * Only the thread that the sockets belong to may call it. */
size_t kvs_receive(const kvs_zmq *zmq, kvs_lane *const *lanes, size_t count, size_t bytes_max,
                   kvs_burst *burst);

/* Apply what kvs_receive gave of these lanes, as far as they are open and the numbers follow. Gives how many want a look,
 * and which: all that are not open, or had other messages as well, or may have more, or had one above `largest_max`, or
 * an error. `look` has room for all lanes. Other writers wait for 16 messages at most.
 * Only the lanes' thread may call it, at the time `now`. */
size_t kvs_index_follow(kvs_index *index, kvs_lane *const *lanes, size_t count, const kvs_burst *burst,
                        double now, uint32_t *look);
void kvs_burst_free(kvs_burst *burst);

/* ---- snapshots: docs/design/snapshot.md ---- */

/* One engine's record as bytes, and its status, both as of one moment; free the bytes with kvs_bytes_free. Readers go on
 * meanwhile, other writers wait. The bytes depend on the index's seed, and have no checksum.
 * KVS_ERR_ENGINE, KVS_ERR_MEMORY.
 * Cost: O(its own entries), some 50 ns each. */
kvs_status kvs_index_engine_save(kvs_index *index, uint32_t engine, kvs_engine_status *status, uint8_t **bytes,
                                 size_t *count);
void kvs_bytes_free(uint8_t *bytes);

/* What kvs_options had: who keeps snapshots keeps it with them, as the secret it is. */
uint64_t kvs_index_seed(const kvs_index *index);

/* Load engines into an index that has none and the seed they were saved with: tell kvs_loading_starts of the bytes of
 * each, then give each to kvs_loading_engine, then end it. Nobody else may use the index meanwhile.
 * kvs_loading_engine reads as stale until kvs_index_confirm or whatever else settles its trust.
 * KVS_ERR_ARGUMENT  the index is not empty.
 * KVS_ERR_SNAPSHOT  the bytes are no record of this version and byte order, or contradict themselves or what was told.
 * KVS_ERR_MEMORY    not enough of it, or more than options->bytes_max.
 * After any of them the index is good for kvs_index_destroy only. */
kvs_status kvs_loading_begin(kvs_index *index, kvs_loading **loading);
kvs_status kvs_loading_starts(kvs_loading *loading, const uint8_t *bytes, size_t count);
kvs_status kvs_loading_engine(kvs_loading *loading, const char *model, size_t model_bytes, const uint8_t *bytes,
                              size_t count, uint32_t *engine);
void kvs_loading_end(kvs_loading *loading); /* NULL is allowed */

#ifdef __cplusplus
}
#endif
#endif
