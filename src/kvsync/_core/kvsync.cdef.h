/* csrc/include/kvsync.h as cffi reads it: declarations only, constants left to the compiler. */

#define KVS_HASH_BYTES_MAX ...
#define KVS_TEXT_BYTES_MAX ...
#define KVS_ADAPTER_BYTES_MAX ...
#define KVS_ADAPTERS_MAX ...
#define KVS_ENGINES_MAX ...
#define KVS_LAG_COUNTS ...

typedef enum kvs_status {
  KVS_OK = ...,
  KVS_ERR_ARGUMENT = ...,
  KVS_ERR_MEMORY = ...,
  KVS_ERR_ENGINE = ...,
  KVS_ERR_CAPACITY = ...,
  KVS_ERR_SNAPSHOT = ...,
  ...
} kvs_status;

typedef enum kvs_trust {
  KVS_TRUST_EXACT = ...,
  KVS_TRUST_PARTIAL = ...,
  KVS_TRUST_STALE = ...,
  KVS_TRUST_UNKNOWN = ...,
  ...
} kvs_trust;

typedef enum kvs_reason { KVS_REASON_NONE = ..., KVS_REASON_TOLD = ..., KVS_REASON_LOADED = ..., ... } kvs_reason;

typedef enum kvs_dialect {
  KVS_DIALECT_NONE = ...,
  KVS_DIALECT_ABSENT = ...,
  KVS_DIALECT_UNTAGGED = ...,
  KVS_DIALECT_TAGGED = ...,
  ...
} kvs_dialect;

typedef enum kvs_counter { KVS_COUNTERS_COUNT = ..., ... } kvs_counter;

typedef struct kvs_index kvs_index;
typedef struct kvs_loading kvs_loading;

typedef struct kvs_options {
  uint64_t seed;
  uint64_t bytes_max;
  uint64_t entries_max;
  uint64_t fail_allocation;
} kvs_options;

typedef struct kvs_applied {
  uint64_t stored;
  uint64_t removed;
  uint64_t cleared;
  uint64_t skipped;
  uint64_t reannounced;
} kvs_applied;

typedef struct kvs_extra_key {
  const char *identifier;
  size_t identifier_bytes;
  uint64_t offset;
  uint64_t length;
} kvs_extra_key;

typedef struct kvs_query {
  const uint32_t *tokens;
  size_t tokens_count;
  const char *model;
  size_t model_bytes;
  const char *lora;
  size_t lora_bytes;
  const char *cache_salt;
  size_t cache_salt_bytes;
  const kvs_extra_key *extra_keys;
  size_t extra_keys_count;
  const uint32_t *engines;
  size_t engines_count;
} kvs_query;

typedef struct kvs_match_row {
  uint32_t engine;
  uint32_t blocks;
  uint64_t tokens;
  uint32_t media_at;
  uint8_t media_count;
  uint8_t certain;
  uint8_t trust;
} kvs_match_row;

typedef struct kvs_match_medium {
  uint32_t medium;
  uint32_t blocks;
  uint8_t trust;
} kvs_match_medium;

typedef struct kvs_matches {
  uint32_t rows_count;
  const kvs_match_row *rows;
  const kvs_match_medium *media;
} kvs_matches;

typedef struct kvs_lag {
  uint64_t counts[...];
  uint64_t ahead;
  double seconds;
  double last;
} kvs_lag;

typedef struct kvs_engine_status {
  int64_t sequence;
  uint64_t lives;
  uint64_t entries;
  uint64_t orphans;
  uint32_t block_size;
  uint32_t media_count;
  uint32_t groups_count;
  uint8_t dialect;
  uint8_t trust;
  uint64_t counters[...];
  kvs_lag lag;
} kvs_engine_status;

typedef struct kvs_medium_status {
  uint32_t medium;
  uint8_t trust;
  uint8_t reason;
  uint64_t entries;
  uint64_t doubtful;
  double since;
} kvs_medium_status;

typedef struct kvs_export_row {
  uint64_t hash;
  uint64_t block;
  uint32_t hash_bytes;
  uint32_t medium;
  uint32_t group;
  uint32_t copies;
  uint8_t tied;
  uint8_t doubtful;
} kvs_export_row;

typedef struct kvs_export {
  uint64_t rows_count;
  const kvs_export_row *rows;
  const uint8_t *bytes;
} kvs_export;

typedef struct kvs_stats {
  uint64_t bytes;
  uint64_t bytes_peak;
  uint64_t bytes_max;
  uint64_t engines;
  uint64_t models;
  uint64_t blocks;
  uint64_t entries;
  uint64_t holder_sets;
  uint64_t evicted;
} kvs_stats;

const char *kvs_version(void);
const char *kvs_status_name(kvs_status status);
const char *kvs_status_text(kvs_status status);
const char *kvs_reason_text(kvs_reason reason);
const char *kvs_counter_name(unsigned counter);
double kvs_lag_bound(unsigned bound);

kvs_status kvs_index_create(const kvs_options *options, kvs_index **index);
void kvs_index_destroy(kvs_index *index);
kvs_status kvs_index_engine_add(kvs_index *index, const char *model, size_t model_bytes, uint32_t *engine);
kvs_status kvs_index_engine_remove(kvs_index *index, uint32_t engine);
kvs_status kvs_index_apply(kvs_index *index, uint32_t engine, const uint8_t *payload, size_t payload_bytes,
                           int64_t sequence, kvs_applied *applied);
kvs_status kvs_index_apply_many(kvs_index *index, size_t count, const uint32_t *engines,
                                const uint8_t *const *payloads, const size_t *payload_bytes,
                                const int64_t *sequences, kvs_applied *applied, size_t *done);
kvs_status kvs_index_clear(kvs_index *index, uint32_t engine, const char *medium, size_t medium_bytes);
kvs_status kvs_index_restart(kvs_index *index, uint32_t engine);
kvs_status kvs_index_doubt(kvs_index *index, uint32_t engine, const char *medium, size_t medium_bytes);
kvs_status kvs_index_confirm(kvs_index *index, uint32_t engine);
kvs_status kvs_index_match(kvs_index *index, const kvs_query *query, const kvs_matches **matches);
kvs_status kvs_index_match_tokens(kvs_index *index, const kvs_query *query, const uint32_t *tokens,
                                  size_t tokens_count, const kvs_matches **matches);
kvs_status kvs_index_match_hashes(kvs_index *index, const uint64_t *hashes, size_t hashes_count,
                                  const uint32_t *engines, size_t engines_count, const kvs_matches **matches);
void kvs_matches_free(const kvs_matches *matches);
kvs_status kvs_index_block_hashes(const kvs_index *index, const kvs_query *query, uint32_t block_size,
                                  uint64_t *hashes);
kvs_status kvs_index_engine_status(kvs_index *index, uint32_t engine, kvs_engine_status *status);
kvs_status kvs_index_medium_status(kvs_index *index, uint32_t engine, uint32_t nth, kvs_medium_status *status);
const char *kvs_index_medium_name(kvs_index *index, uint32_t medium);
kvs_status kvs_index_adapter(kvs_index *index, uint32_t engine, uint32_t nth, char *name, size_t *bytes,
                             uint64_t *stored_at);
size_t kvs_index_adapter_engines(kvs_index *index, const char *name, size_t bytes, uint32_t *engines,
                                 uint64_t *stored_at, size_t capacity);
uint64_t kvs_index_adapter_stores(kvs_index *index);
kvs_status kvs_index_trust(kvs_index *index, uint32_t engine, uint8_t *trust);
kvs_status kvs_index_export(kvs_index *index, uint32_t engine, const kvs_export **list);
void kvs_export_free(const kvs_export *list);
void kvs_index_stats(kvs_index *index, kvs_stats *stats);
kvs_status kvs_index_engine_save(kvs_index *index, uint32_t engine, kvs_engine_status *status, uint8_t **bytes,
                                 size_t *count);
void kvs_bytes_free(uint8_t *bytes);
uint64_t kvs_index_seed(const kvs_index *index);
size_t kvs_tokens_read(const char *text, size_t text_bytes, uint32_t *tokens, size_t capacity, size_t *count);
kvs_status kvs_loading_begin(kvs_index *index, kvs_loading **loading);
kvs_status kvs_loading_starts(kvs_loading *loading, const uint8_t *bytes, size_t count);
kvs_status kvs_loading_engine(kvs_loading *loading, const char *model, size_t model_bytes, const uint8_t *bytes,
                              size_t count, uint32_t *engine);
void kvs_loading_end(kvs_loading *loading);
typedef struct kvs_zmq {
  int (*init)(void *message);
  int (*receive)(void *message, void *socket, int flags);
  void *(*data)(void *message);
  size_t (*size)(const void *message);
  int (*more)(const void *message);
  int (*close)(void *message);
  int (*error)(void);
} kvs_zmq;
typedef struct kvs_lane {
  void *socket;
  size_t messages_max;
  size_t largest_max;
  size_t messages;
  size_t followed;
  size_t largest;
  size_t bytes_end;
  size_t table_end;
  int error;
  struct kvs__lane *own;
} kvs_lane;
typedef struct kvs_followed {
  size_t messages;
  size_t bytes;
  double at;
  const char *payload;
  size_t payload_bytes;
} kvs_followed;
typedef struct kvs_burst {
  char *bytes;
  size_t bytes_count;
  size_t bytes_room;
  uint64_t *table;
  size_t table_count;
  size_t table_room;
} kvs_burst;
kvs_status kvs_zmq_find(const char *path, kvs_zmq *zmq);
kvs_status kvs_lane_create(kvs_lane **lane);
void kvs_lane_destroy(kvs_lane *lane);
void kvs_lane_open(kvs_lane *lane, uint32_t engine, int64_t number);
void kvs_lane_close(kvs_lane *lane, kvs_followed *followed);
size_t kvs_receive(const kvs_zmq *zmq, kvs_lane *const *lanes, size_t count, size_t bytes_max, kvs_burst *burst);
size_t kvs_index_follow(kvs_index *index, kvs_lane *const *lanes, size_t count, const kvs_burst *burst, double now,
                        uint32_t *look);
void kvs_burst_free(kvs_burst *burst);
