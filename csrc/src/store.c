/* A stored event: which block each of its hashes is, and where it hangs.
 *
 * The rules, with their reasons, are in docs/design/index.md. */
#include "store.h"

#include <string.h>

#include "adapters.h"
#include "entries.h"
#include "evict.h"
#include "models.h"
#include "names.h"
#include "record.h"
#include "trust.h"

/* So often is room made for one block: an eighth of the largest record at a time gives back little where it leaves slabs half
 * full, and a list that doubles needs much at once. */
#define ROOM_MADE_MAX 3

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
    if (!kvs__key_find(index, engine, &event->hashes[i], &key)) return 0;
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
  if (!gpu || event->has_parent || gpu_groups(engine) != 1) return 0;
  if (medium->trust != KVS_TRUST_EXACT) return 1;
  return event->hashes_count >= 2 && all_held(index, engine, event, kind);
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
  enum kvs__shape shape;
  int again;
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

/* Is the block before the i-th still there? Making room may have taken it, and then nothing may follow it. */
static int predecessor_held(kvs_index *index, const struct storing *storing, size_t at) {
  const struct kvs__sent_hash *sent = at == 0 ? &storing->event->parent : &storing->event->hashes[at - 1];
  struct kvs__key key;
  if (at == 0 && !storing->event->has_parent) return 1;
  return kvs__key_find(index, storing->engine, sent, &key) && kvs__held_anywhere(storing->engine, key);
}

/* What the event has entered so far: making room for the rest must not take it. Their local hashes are done with, so their
 * slots lie where those were. */
static struct kvs__spare entered_so_far(kvs_index *index, const struct storing *storing, size_t at,
                                        const struct kvs__tie *tie) {
  uint64_t *slots = storing->event->locals;
  struct kvs__spare spare = {.engine = storing->engine, .slots = slots};
  if (!tie->known || at == 0) return spare;
  for (size_t i = 0; i < at; i++) {
    struct kvs__key key;
    slots[i] = kvs__key_find(index, storing->engine, &storing->event->hashes[i], &key)
                   ? kvs__tied_anywhere(index, storing->engine, key, storing->kind)
                   : KVS__SLOT_NONE;
    kvs__breathe(index, 1);
  }
  spare.count = (uint32_t)at;
  spare.depth = kvs__slot_depth(&index->runs, tie->parent) + 1 - spare.count;
  return spare;
}

/* Make room for the i-th hash. 0 = there is none, or the block before it had to go. */
static int make_room(kvs_index *index, const struct storing *storing, size_t at, const struct kvs__tie *tie) {
  struct kvs__spare spare = entered_so_far(index, storing, at, tie);
  return kvs__evict(index, &spare) &&
         (storing->shape != KVS__WITH_TOKENS || predecessor_held(index, storing, at));
}

/* Enter the i-th hash; when the ceiling stops it, make room. The next one hangs on it. */
static enum kvs__entered enter(kvs_index *index, struct storing *storing, size_t at,
                               const struct kvs__tie *tie) {
  const struct kvs__sent_hash *sent = &storing->event->hashes[at];
  enum kvs__entered entered = KVS__ENTERED_FAILED;
  for (int pass = 0; pass <= ROOM_MADE_MAX && entered == KVS__ENTERED_FAILED; pass++) {
    struct kvs__key key;
    uint32_t value;
    if (pass > 0 && !make_room(index, storing, at, tie)) break;
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

/* Enter the blocks in order. 0 = out of memory. */
static int store_blocks(kvs_index *index, struct storing *storing, kvs_applied *applied) {
  for (size_t i = 0; i < storing->event->hashes_count; i++) {
    struct kvs__tie tie = {0};
    enum kvs__entered entered;
    if (i > 0 && i % KVS__HASHES_AHEAD == 0)
      kvs__hashes_prefetch(storing->engine, storing->event, storing->kind, i);
    if (storing->shape == KVS__WITH_TOKENS) {
      tie.known = storing->hook.known;
      tie.orphan = !tie.known;
      tie.parent = storing->hook.slot;
      tie.coming = (uint32_t)(storing->event->hashes_count - i);
      tie.local = storing->event->locals[i];
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

/* With tokens: learn from the event, and find where its first block hangs. `waited_for` holds the parent's name for as long as
 * the blocks that wait for it are entered. 0 = out of memory. */
static int hang(kvs_index *index, struct storing *storing, int gpu, struct kvs__key *waited_for) {
  struct kvs__engine *engine = storing->engine;
  struct kvs__group *group = &engine->groups[engine->kinds[storing->kind]->group];
  if (!kvs__model_learn(index, engine, group, storing->event)) return 0;
  find_parent(index, storing, gpu);
  if (!storing->hook.known) {
    if (!kvs__key_make(index, engine, &storing->event->parent, &storing->hook.key)) return 0;
    *waited_for = storing->hook.key;
  }
  storing->again = reannouncement(index, engine, storing->event, storing->kind, gpu);
  return 1;
}

static enum kvs__fault no_memory(struct kvs__engine *engine, int medium) {
  kvs__record_lower(engine, medium, KVS_REASON_MEMORY);
  return KVS__FAULT_MEMORY;
}

enum kvs__fault kvs__store(kvs_index *index, struct kvs__engine *engine, const struct kvs__event *event,
                           kvs_applied *applied) {
  struct storing storing = {.engine = engine, .event = event, .shape = kvs__store_shape(event)};
  struct kvs__key waited_for = {0, KVS__INTEGERS};
  int medium, kind, gpu, whole;
  if (event->hashes_count == 0) return KVS__FINE;
  kind = kvs__event_place(index, engine, event, &medium);
  if (kind < 0) return KVS__FAULT_LIMIT;
  gpu = engine->media[medium].name == KVS__MEDIUM_GPU;
  storing.kind = (uint32_t)kind;
  if (gpu) engine->groups[engine->kinds[kind]->group].on_gpu = 1;
  if (storing.shape == KVS__WITH_TOKENS) {
    if (!hang(index, &storing, gpu, &waited_for)) return no_memory(engine, medium);
  } else {
    engine->counters[storing.shape == KVS__PLACEHOLDER ? KVS_COUNTER_PLACEHOLDERS : KVS_COUNTER_MASKED] +=
        event->hashes_count;
  }
  whole = store_blocks(index, &storing, applied);
  kvs__key_release(index, engine, waited_for);
  if (storing.shape == KVS__WITH_TOKENS) kvs__adapter_note(index, engine, &event->lora_name);
  return whole ? KVS__FINE : no_memory(engine, medium);
}
