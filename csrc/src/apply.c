/* One frame: numbers, then events in order, each decoded outside the readers' lock and applied inside it.
 *
 * The rules, with their reasons, are in docs/design/index.md. */
#include <string.h>

#include "index.h"

#define PREFETCH 32u

enum shape { WITH_TOKENS, PLACEHOLDER, MASKED };

static enum shape shape_of(const struct kvs__event *event) {
  if (event->tokens_count == 0) return PLACEHOLDER;
  if (event->block_size == 0) return MASKED;
  if (event->tokens_count % event->block_size != 0) return MASKED;
  if (event->tokens_count / event->block_size != event->hashes_count) return MASKED;
  if (event->has_extras && event->extras_count != event->hashes_count) return MASKED;
  return WITH_TOKENS;
}

static int text_is(const struct kvs__text *text, const char *word) {
  return text->at != NULL && text->bytes == strlen(word) && memcmp(text->at, word, text->bytes) == 0;
}

static uint8_t spec_told(const struct kvs__text *text) {
  if (text_is(text, "mamba")) return KVS__SPEC_STATE;
  if (text_is(text, "sliding_window") || text_is(text, "sliding_window_mla")) return KVS__SPEC_WINDOW;
  return KVS__SPEC_FULL;
}

/* What a store with tokens teaches about its engine. 0 = out of memory, nothing learned. */
static int learn(kvs_index *index, struct kvs__engine *engine, struct kvs__group *group,
                 const struct kvs__event *event) {
  struct kvs__group before = *group;
  uint8_t dialect = engine->dialect;
  if (event->block_size > group->block_size) group->block_size = event->block_size;
  if (event->window >= 0) group->window = event->window;
  if (event->spec_kind.at != NULL) group->told = spec_told(&event->spec_kind);
  group->spec = group->told == KVS__SPEC_WINDOW && group->window < 0 ? KVS__SPEC_FULL : group->told;
  engine->dialect = event->dialect;
  if (dialect == engine->dialect && before.block_size == group->block_size && before.spec == group->spec)
    return 1;
  if (kvs__model_refresh(index, engine->model)) return 1;
  /* No query would walk the new chain, so its blocks must not be there. The old chains need no memory again. */
  *group = before;
  engine->dialect = dialect;
  (void)kvs__model_refresh(index, engine->model);
  return 0;
}

static uint64_t root_of(const kvs_index *index, const struct kvs__engine *engine,
                        const struct kvs__event *event) {
  const struct kvs__model *model = &index->models[engine->model];
  enum kvs__lora how = KVS__LORA_NONE;
  const struct kvs__text *lora = &event->lora_name;
  if (event->lora_name.at != NULL) {
    how = KVS__LORA_NAME;
  } else if (event->lora_id.at != NULL) {
    /* Only a number is known: no query can name it, and no other adapter is taken for it. */
    how = KVS__LORA_NUMBER;
    lora = &event->lora_id;
  }
  return kvs__hash_root(&index->hasher, model->name, model->name_bytes, how, lora->at, lora->bytes,
                        event->block_size);
}

static int all_held(kvs_index *index, struct kvs__engine *engine, const struct kvs__event *event,
                    uint32_t kind) {
  for (size_t i = 0; i < event->hashes_count; i++) {
    struct kvs__key key;
    kvs__breathe(index, 1);
    if (!kvs__key_find(index, engine, &index->scratch.hashes[i], &key)) return 0;
    if (kvs__entry_find(engine, key, kind).bucket == NULL) return 0;
  }
  return 1;
}

static int gpu_groups(const struct kvs__engine *engine) {
  int count = 0;
  for (int i = 0; i < engine->groups_count; i++) count += engine->groups[i].on_gpu;
  return count;
}

/* Is this the cached prefix told once more, with no new copy? An inference: nothing on the wire says so. */
static int reannouncement(kvs_index *index, struct kvs__engine *engine, const struct kvs__event *event,
                          uint32_t kind, int gpu) {
  const struct kvs__medium *medium = &engine->media[engine->kinds[kind]->medium];
  if (!gpu || event->has_parent || event->hashes_count < 2 || gpu_groups(engine) != 1) return 0;
  return medium->trust != KVS_TRUST_EXACT || all_held(index, engine, event, kind);
}

/* What the next block of an event hangs on. */
struct hook {
  int known;
  uint32_t slot; /* KVS__SLOT_NONE = a prompt begins */
  uint64_t hash; /* the predecessor's block hash, or the root's */
  struct kvs__key key; /* what the engine calls the predecessor, where it is not known */
};

struct storing {
  struct kvs__engine *engine;
  const struct kvs__event *event;
  uint32_t kind;
  enum shape shape;
  int again;
  struct kvs__cursor extras;
  struct hook hook;
};

/* Where the first block hangs. */
static void find_parent(kvs_index *index, struct storing *storing, int gpu) {
  struct kvs__engine *engine = storing->engine;
  struct hook *hook = &storing->hook;
  int named, medium = engine->kinds[storing->kind]->medium;
  hook->known = 1;
  hook->slot = KVS__SLOT_NONE;
  if (!storing->event->has_parent) {
    hook->hash = root_of(index, engine, storing->event);
    return;
  }
  named = kvs__key_find(index, engine, &storing->event->parent, &hook->key);
  if (named) hook->slot = kvs__tied_anywhere(index, engine, hook->key, storing->kind);
  if (hook->slot != KVS__SLOT_NONE) {
    hook->hash = kvs__slot_hash(&index->runs, hook->slot);
    return;
  }
  hook->known = 0;
  if (named && kvs__held_anywhere(engine, hook->key)) return;
  engine->counters[KVS_COUNTER_PARENT_MISSING]++;
  if (gpu && engine->media[medium].trust == KVS_TRUST_EXACT) {
    engine->complete = 0;
    kvs__record_doubt(engine, medium, KVS_REASON_PARENT_MISSING);
  }
}

static uint64_t local_of(kvs_index *index, struct storing *storing, size_t at) {
  const struct kvs__event *event = storing->event;
  uint64_t local =
      kvs__hash_tokens(&index->hasher, index->scratch.tokens + at * event->block_size, event->block_size);
  if (event->has_extras)
    return kvs__extras_fold(&index->hasher, local, kvs__extras_next(&index->hasher, event, &storing->extras));
  if (at == 0 && !event->has_parent && event->cache_salt.at != NULL)
    return kvs__extras_fold(&index->hasher, local,
                            kvs__extras_add(&index->hasher, KVS__NO_EXTRAS, KVS__EXTRA_TEXT,
                                            event->cache_salt.at, event->cache_salt.bytes));
  return local;
}

/* Is the block before the i-th still there? Making room may have taken it, and then nothing may follow it. */
static int predecessor_held(kvs_index *index, const struct storing *storing, size_t at) {
  const struct kvs__sent_hash *sent = at == 0 ? &storing->event->parent : &index->scratch.hashes[at - 1];
  struct kvs__key key;
  if (at == 0 && !storing->event->has_parent) return 1;
  return kvs__key_find(index, storing->engine, sent, &key) && kvs__held_anywhere(storing->engine, key);
}

/* Enter the i-th hash; when the ceiling stops it, make room once. The next one hangs on it. */
static enum kvs__entered enter(kvs_index *index, struct storing *storing, size_t at,
                               const struct kvs__tie *tie) {
  const struct kvs__sent_hash *sent = &index->scratch.hashes[at];
  enum kvs__entered entered = KVS__ENTERED_FAILED;
  for (int pass = 0; pass < 2 && entered == KVS__ENTERED_FAILED; pass++) {
    struct kvs__key key;
    uint32_t value;
    if (pass == 1 &&
        !(kvs__evict(index) && (storing->shape != WITH_TOKENS || predecessor_held(index, storing, at))))
      break;
    if (!kvs__key_make(index, storing->engine, sent, &key)) continue;
    entered = kvs__enter(index, storing->engine, key, storing->kind, tie, storing->again, &value);
    if (entered != KVS__ENTERED_FAILED) {
      storing->hook.known = kvs__is_tied(value);
      storing->hook.slot = value;
      storing->hook.key = key;
      if (storing->hook.known)
        storing->hook.hash = tie->known ? tie->block : kvs__slot_hash(&index->runs, value);
    }
    kvs__key_release(index, storing->engine, key);
  }
  return entered;
}

/* Bring the lines that an event will touch into the cache. */
static void prefetch(const kvs_index *index, const struct kvs__engine *engine, const struct kvs__event *event,
                     uint32_t kind, size_t from) {
  const struct kvs__keys *held = &engine->kinds[kind]->held[KVS__INTEGERS];
  for (size_t i = from; i < event->hashes_count && i < from + PREFETCH; i++)
    if (index->scratch.hashes[i].bytes == NULL) kvs__keys_prefetch(held, index->scratch.hashes[i].value);
}

/* Enter the blocks in order. 0 = out of memory. */
static int store_blocks(kvs_index *index, struct storing *storing, kvs_applied *applied) {
  for (size_t i = 0; i < storing->event->hashes_count; i++) {
    struct kvs__tie tie = {0};
    enum kvs__entered entered;
    if (i % PREFETCH == 0) prefetch(index, storing->engine, storing->event, storing->kind, i);
    if (storing->shape == WITH_TOKENS) {
      tie.known = storing->hook.known;
      tie.orphan = !tie.known;
      tie.parent = storing->hook.slot;
      tie.local = local_of(index, storing, i);
      tie.block = tie.known ? kvs__mix(&index->hasher, storing->hook.hash, tie.local) : 0;
      tie.waits_for = storing->hook.key;
    }
    entered = enter(index, storing, i, &tie);
    if (entered == KVS__ENTERED_FAILED) return 0;
    if (entered == KVS__ENTERED_AGAIN)
      applied->reannounced++;
    else
      applied->stored++;
    kvs__breathe(index, 1);
  }
  return 1;
}

/* The event's medium and kind, made if they are new: both, or neither. -1 = beyond a limit. */
static int place_of(kvs_index *index, struct kvs__engine *engine, const struct kvs__event *event, int *medium) {
  *medium = kvs__record_medium(index, engine, event->medium.at, event->medium.bytes, 0);
  if (engine->kinds_count == KVS_KINDS_MAX)
    return *medium < 0 ? -1 : kvs__record_kind(index, engine, *medium, event->group, 0);
  if (*medium < 0) *medium = kvs__record_medium(index, engine, event->medium.at, event->medium.bytes, 1);
  return *medium < 0 ? -1 : kvs__record_kind(index, engine, *medium, event->group, 1);
}

static enum kvs__fault apply_stored(kvs_index *index, struct kvs__engine *engine,
                                    const struct kvs__event *event, kvs_applied *applied) {
  struct storing storing = {
      .engine = engine, .event = event, .shape = shape_of(event), .extras = event->extras};
  struct kvs__key parent_key = {0, KVS__INTEGERS};
  int medium, kind, gpu, whole;
  if (event->hashes_count == 0) return KVS__FINE;
  kind = place_of(index, engine, event, &medium);
  if (kind < 0) return KVS__FAULT_LIMIT;
  gpu = engine->media[medium].name == KVS__MEDIUM_GPU;
  storing.kind = (uint32_t)kind;
  if (gpu) engine->groups[engine->kinds[kind]->group].on_gpu = 1;
  if (storing.shape == WITH_TOKENS) {
    if (!learn(index, engine, &engine->groups[engine->kinds[kind]->group], event)) {
      kvs__record_lower(engine, medium, KVS_REASON_MEMORY);
      return KVS__FAULT_MEMORY;
    }
    find_parent(index, &storing, gpu);
    if (!storing.hook.known) {
      /* The name must outlive the blocks that wait for it. */
      if (!kvs__key_make(index, engine, &event->parent, &storing.hook.key)) {
        kvs__record_lower(engine, medium, KVS_REASON_MEMORY);
        return KVS__FAULT_MEMORY;
      }
      parent_key = storing.hook.key;
    }
    storing.again = reannouncement(index, engine, event, storing.kind, gpu);
  } else {
    engine->counters[storing.shape == PLACEHOLDER ? KVS_COUNTER_PLACEHOLDERS : KVS_COUNTER_MASKED] +=
        event->hashes_count;
  }
  whole = store_blocks(index, &storing, applied);
  kvs__key_release(index, engine, parent_key);
  if (whole) return KVS__FINE;
  kvs__record_lower(engine, medium, KVS_REASON_MEMORY);
  return KVS__FAULT_MEMORY;
}

static void not_held(struct kvs__engine *engine, int medium) {
  engine->counters[KVS_COUNTER_REMOVED_UNKNOWN]++;
  if (engine->media[medium].trust != KVS_TRUST_EXACT) return;
  engine->complete = 0;
  kvs__record_doubt(engine, medium, KVS_REASON_REMOVED_UNKNOWN);
}

static enum kvs__fault apply_removed(kvs_index *index, struct kvs__engine *engine,
                                     const struct kvs__event *event, kvs_applied *applied) {
  int medium, kind;
  enum kvs__fault fault = KVS__FINE;
  if (event->hashes_count == 0) return KVS__FINE;
  kind = place_of(index, engine, event, &medium);
  if (kind < 0) return KVS__FAULT_LIMIT;
  index->memory.urgent++;
  for (size_t i = 0; fault == KVS__FINE && i < event->hashes_count; i++) {
    struct kvs__key key;
    enum kvs__left left = KVS__LEFT_UNKNOWN;
    if (kvs__key_find(index, engine, &index->scratch.hashes[i], &key))
      left = kvs__leave(index, engine, key, (uint32_t)kind);
    if (left == KVS__LEFT) applied->removed++;
    if (left == KVS__LEFT_UNKNOWN) not_held(engine, medium);
    if (left == KVS__LEFT_FAILED) {
      kvs__record_doubt(engine, medium, KVS_REASON_MEMORY);
      fault = KVS__FAULT_MEMORY;
    }
    kvs__breathe(index, 1);
  }
  index->memory.urgent--;
  return fault;
}

static void apply_cleared(kvs_index *index, struct kvs__engine *engine, kvs_applied *applied) {
  int gpu = kvs__record_medium(index, engine, "GPU", 3, 1);
  kvs__gone_flush(index, engine);
  applied->cleared += kvs__record_drop(index, engine, gpu);
  if (engine->media[gpu].entries > 0) {
    kvs__record_doubt(engine, gpu, KVS_REASON_MEMORY);
  } else {
    engine->media[gpu].trust = KVS_TRUST_EXACT;
    engine->media[gpu].reason = KVS_REASON_NONE;
  }
  for (int i = 0; i < engine->media_count; i++)
    if (i != gpu) kvs__record_doubt(engine, i, KVS_REASON_CLEARED_ABOVE);
}

static void count_fault(struct kvs__engine *engine, enum kvs__fault fault, kvs_applied *applied) {
  static const enum kvs_counter counters[] = {
      [KVS__FAULT_TYPE] = KVS_COUNTER_SKIPPED_TYPE,           [KVS__FAULT_RANGE] = KVS_COUNTER_SKIPPED_RANGE,
      [KVS__FAULT_HASH] = KVS_COUNTER_SKIPPED_HASH,           [KVS__FAULT_DEPTH] = KVS_COUNTER_SKIPPED_DEPTH,
      [KVS__FAULT_TRUNCATED] = KVS_COUNTER_SKIPPED_TRUNCATED, [KVS__FAULT_LIMIT] = KVS_COUNTER_SKIPPED_LIMIT,
      [KVS__FAULT_BATCH] = KVS_COUNTER_SKIPPED_BATCH,         [KVS__FAULT_MEMORY] = KVS_COUNTER_SKIPPED_MEMORY,
  };
  engine->counters[counters[fault]]++;
  applied->skipped++;
  /* What memory cost has been written down where it happened. */
  if (fault != KVS__FAULT_MEMORY) kvs__record_doubt_all(engine, KVS_REASON_UNDECODABLE);
}

static enum kvs__fault apply_event(kvs_index *index, struct kvs__engine *engine, const struct kvs__event *event,
                                   kvs_applied *applied) {
  engine->counters[KVS_COUNTER_UNKNOWN_FIELD] += event->tag == KVS__TAG_UNKNOWN ? 0 : event->unknown_fields;
  switch (event->tag) {
    case KVS__TAG_STORED: return apply_stored(index, engine, event, applied);
    case KVS__TAG_REMOVED: return apply_removed(index, engine, event, applied);
    case KVS__TAG_CLEARED: apply_cleared(index, engine, applied); break;
    case KVS__TAG_UNKNOWN: engine->counters[KVS_COUNTER_UNKNOWN_TAG]++; break;
  }
  return KVS__FINE;
}

static void apply_payload(kvs_index *index, struct kvs__engine *engine, const uint8_t *payload, size_t bytes,
                          kvs_applied *applied) {
  struct kvs__batch batch;
  uint64_t trailing = 0;
  enum kvs__fault fault = kvs__batch_open(&batch, payload, bytes);
  int lost = fault != KVS__FINE;
  if (lost) {
    kvs__state_begin(index);
    count_fault(engine, fault, applied);
    kvs__state_end(index);
  }
  while (!lost && batch.events_left > 0) {
    struct kvs__event event;
    fault = kvs__batch_next(&batch, &index->scratch, &event, &lost);
    kvs__state_begin(index);
    if (fault == KVS__FAULT_MEMORY) kvs__record_doubt_all(engine, KVS_REASON_MEMORY);
    if (fault == KVS__FINE) fault = apply_event(index, engine, &event, applied);
    if (fault != KVS__FINE) count_fault(engine, fault, applied);
    kvs__state_end(index);
  }
  if (lost) return;
  fault = kvs__batch_close(&batch, &trailing);
  kvs__state_begin(index);
  if (fault != KVS__FINE) count_fault(engine, fault, applied);
  if (trailing > 0) engine->counters[KVS_COUNTER_TRAILING]++;
  kvs__state_end(index);
}

/* 0 = this number was applied before. */
static int take_number(kvs_index *index, struct kvs__engine *engine, int64_t sequence) {
  if (engine->sequence >= 0 && sequence >= 0 && sequence <= engine->sequence) {
    engine->counters[KVS_COUNTER_DUPLICATE]++;
    return 0;
  }
  engine->counters[KVS_COUNTER_FRAMES]++;
  if (engine->media_count == 0) (void)kvs__record_medium(index, engine, "GPU", 3, 1);
  engine->heard = 1;
  if (engine->beginning == KVS__EXPECT_ZERO) {
    engine->complete = sequence == 0;
    for (int i = 0; i < engine->media_count; i++) {
      struct kvs__medium *medium = &engine->media[i];
      if (medium->trust == KVS_TRUST_STALE) continue;
      medium->trust = engine->complete ? KVS_TRUST_EXACT : KVS_TRUST_PARTIAL;
      medium->reason = engine->complete ? KVS_REASON_NONE : KVS_REASON_BEGINNING;
    }
  } else if (engine->beginning == KVS__BEGUN && engine->sequence >= 0 && sequence - 1 > engine->sequence) {
    engine->counters[KVS_COUNTER_GAPS]++;
    kvs__record_doubt_all(engine, KVS_REASON_GAP);
  }
  engine->beginning = KVS__BEGUN;
  if (sequence >= 0) engine->sequence = sequence;
  return 1;
}

static void count_applied(struct kvs__engine *engine, const kvs_applied *applied) {
  engine->counters[KVS_COUNTER_STORED] += applied->stored;
  engine->counters[KVS_COUNTER_REMOVED] += applied->removed;
  engine->counters[KVS_COUNTER_CLEARED] += applied->cleared;
  engine->counters[KVS_COUNTER_REANNOUNCED] += applied->reannounced;
}

kvs_status kvs_index_apply(kvs_index *index, uint32_t number, const uint8_t *payload, size_t payload_bytes,
                           int64_t sequence, kvs_applied *applied) {
  struct kvs__engine *engine;
  kvs_status status = KVS_ERR_ENGINE;
  pthread_mutex_lock(&index->writing);
  engine = kvs__engine_get(index, number);
  if (engine != NULL) {
    int fresh;
    memset(applied, 0, sizeof *applied);
    kvs__state_begin(index);
    fresh = take_number(index, engine, sequence);
    kvs__state_end(index);
    if (fresh) apply_payload(index, engine, payload, payload_bytes, applied);
    if (engine->gone_count > 0) {
      kvs__state_begin(index);
      kvs__gone_flush(index, engine);
      kvs__state_end(index);
    }
    kvs__scratch_trim(&index->scratch);
    count_applied(engine, applied);
    status = KVS_OK;
  }
  pthread_mutex_unlock(&index->writing);
  return status;
}
