/* What one engine holds: its engine hashes, their copies, and the blocks they are. */
#include "index.h"

/* ---- names: byte hashes as numbers ---- */

static size_t name_bytes(uint32_t length) { return sizeof(struct kvs__name) + length; }

static uint32_t name_find(const struct kvs__engine *engine, uint64_t hash, const struct kvs__sent_hash *sent) {
  uint32_t number = kvs__map_get(&engine->names_by_hash, hash);
  while (number != 0) {
    const struct kvs__name *name = engine->names[number];
    if (name->length == sent->length && memcmp(name->bytes, sent->bytes, sent->length) == 0) return number;
    number = name->next;
  }
  return 0;
}

static uint32_t name_slot(kvs_index *index, struct kvs__engine *engine) {
  uint32_t capacity, number = engine->names_free;
  struct kvs__name **names;
  uint32_t *next;
  if (number != 0) {
    engine->names_free = engine->names_next[number];
    return number;
  }
  if (engine->names_count < engine->names_capacity) return engine->names_count++;
  capacity = engine->names_capacity == 0 ? 64 : engine->names_capacity * 2;
  next = kvs__alloc_zero(&index->memory, capacity * sizeof *next);
  if (next == NULL) return 0;
  names = kvs__resize(&index->memory, engine->names, engine->names_capacity * sizeof *names,
                      capacity * sizeof *names);
  if (names == NULL) {
    kvs__free(&index->memory, next, capacity * sizeof *next);
    return 0;
  }
  if (engine->names_capacity > 0) memcpy(next, engine->names_next, engine->names_capacity * sizeof *next);
  kvs__free(&index->memory, engine->names_next, engine->names_capacity * sizeof *next);
  engine->names = names;
  engine->names_next = next;
  engine->names_capacity = capacity;
  if (engine->names_count == 0) engine->names_count = 1;
  return engine->names_count++;
}

static void name_unslot(struct kvs__engine *engine, uint32_t number) {
  engine->names[number] = NULL;
  engine->names_next[number] = engine->names_free;
  engine->names_free = number;
}

int kvs__key_find(kvs_index *index, struct kvs__engine *engine, const struct kvs__sent_hash *hash,
                  struct kvs__key *key) {
  key->value = hash->value;
  key->flags = 0;
  if (hash->bytes == NULL) return 1;
  key->flags = KVS__ENTRY_BYTES;
  key->value = name_find(engine, kvs__hash_bytes(&index->hasher, hash->bytes, hash->length), hash);
  return key->value != 0;
}

int kvs__key_make(kvs_index *index, struct kvs__engine *engine, const struct kvs__sent_hash *sent,
                  struct kvs__key *key) {
  uint64_t hash;
  uint32_t number, head;
  struct kvs__name *name;
  key->value = sent->value;
  key->flags = 0;
  if (sent->bytes == NULL) return 1;
  hash = kvs__hash_bytes(&index->hasher, sent->bytes, sent->length);
  number = name_find(engine, hash, sent);
  key->flags = KVS__ENTRY_BYTES;
  key->value = number;
  if (number != 0) {
    engine->names[number]->references++;
    return 1;
  }
  name = kvs__alloc(&index->memory, name_bytes(sent->length));
  if (name == NULL) return 0;
  number = name_slot(index, engine);
  if (number == 0) {
    kvs__free(&index->memory, name, name_bytes(sent->length));
    return 0;
  }
  head = kvs__map_get(&engine->names_by_hash, hash);
  if (!kvs__map_set(&engine->names_by_hash, &index->memory, hash, number)) {
    kvs__free(&index->memory, name, name_bytes(sent->length));
    name_unslot(engine, number);
    return 0;
  }
  name->hash = hash;
  name->references = 1;
  name->next = head;
  name->length = sent->length;
  memcpy(name->bytes, sent->bytes, sent->length);
  engine->names[number] = name;
  key->value = number;
  return 1;
}

void kvs__key_hold(struct kvs__engine *engine, struct kvs__key key) {
  if (key.flags & KVS__ENTRY_BYTES) engine->names[key.value]->references++;
}

void kvs__key_release(kvs_index *index, struct kvs__engine *engine, struct kvs__key key) {
  struct kvs__name *name;
  uint32_t number = (uint32_t)key.value, head;
  if (!(key.flags & KVS__ENTRY_BYTES)) return;
  name = engine->names[number];
  if (--name->references > 0) return;
  head = kvs__map_get(&engine->names_by_hash, name->hash);
  if (head != number) {
    while (engine->names[head]->next != number) head = engine->names[head]->next;
    engine->names[head]->next = name->next;
  } else if (name->next != 0) {
    (void)kvs__map_set(&engine->names_by_hash, &index->memory, name->hash, name->next);
  } else {
    kvs__map_remove(&engine->names_by_hash, &index->memory, name->hash);
  }
  kvs__free(&index->memory, name, name_bytes(name->length));
  name_unslot(engine, number);
}

/* ---- finding ---- */

struct kvs__entry *kvs__entry_find(const kvs_index *index, const struct kvs__engine *engine,
                                   struct kvs__key key, uint32_t kind) {
  uint64_t place = kvs__entry_place(&index->hasher, key.value, kind, key.flags);
  struct kvs__entry *entry = kvs__entries_first(&engine->entries, place);
  while (entry != NULL && !(entry->key == key.value && entry->kind == kind &&
                            (entry->flags & KVS__ENTRY_BYTES) == (key.flags & KVS__ENTRY_BYTES)))
    entry = kvs__entries_next(&engine->entries, place, entry);
  return entry;
}

int kvs__entry_doubtful(const struct kvs__engine *engine, const struct kvs__entry *entry) {
  return entry->epoch != engine->media[engine->kinds[entry->kind].medium].epoch;
}

const struct kvs__entry *kvs__tied_anywhere(const kvs_index *index, const struct kvs__engine *engine,
                                            struct kvs__key key, uint32_t kind) {
  const struct kvs__entry *entry = kvs__entry_find(index, engine, key, kind);
  if (entry != NULL && entry->flags & KVS__ENTRY_TIED) return entry;
  for (uint32_t other = 0; other < engine->kinds_count; other++) {
    if (other == kind) continue;
    entry = kvs__entry_find(index, engine, key, other);
    if (entry != NULL && entry->flags & KVS__ENTRY_TIED) return entry;
  }
  return NULL;
}

int kvs__held_anywhere(const kvs_index *index, const struct kvs__engine *engine, struct kvs__key key) {
  for (uint32_t kind = 0; kind < engine->kinds_count; kind++)
    if (kvs__entry_held(kvs__entry_find(index, engine, key, kind))) return 1;
  return 0;
}

/* ---- counting ---- */

static struct kvs__medium *medium_of(struct kvs__engine *engine, uint32_t kind) {
  return &engine->media[engine->kinds[kind].medium];
}

/* One doubtful entry less; without any left nothing untrue is left. */
static void settle(struct kvs__medium *medium) {
  assert(medium->doubtful > 0);
  if (--medium->doubtful == 0 && medium->trust == KVS_TRUST_STALE) medium->trust = KVS_TRUST_PARTIAL;
}

static void count_held(kvs_index *index, struct kvs__engine *engine, uint32_t kind) {
  medium_of(engine, kind)->entries++;
  engine->held++;
  index->entries_held++;
}

static void count_gone(kvs_index *index, struct kvs__engine *engine, const struct kvs__entry *entry) {
  struct kvs__medium *medium = medium_of(engine, entry->kind);
  medium->entries--;
  engine->held--;
  index->entries_held--;
  if (!(entry->flags & KVS__ENTRY_TIED)) engine->untied--;
  if (entry->epoch != medium->epoch) settle(medium);
}

/* ---- ghosts ---- */

static void delete_entry(kvs_index *index, struct kvs__engine *engine, struct kvs__entry *entry) {
  struct kvs__key key = {entry->key, entry->flags & KVS__ENTRY_BYTES};
  kvs__entries_remove(&engine->entries, &index->memory, entry);
  kvs__key_release(index, engine, key);
}

static void forget_ghost(kvs_index *index, struct kvs__engine *engine, uint32_t at) {
  struct kvs__ghost *ghost = &engine->ghosts[at];
  struct kvs__key key = {ghost->key, ghost->flags};
  struct kvs__entry *entry;
  if (!ghost->used) return;
  ghost->used = 0;
  entry = kvs__entry_find(index, engine, key, ghost->kind);
  assert(entry != NULL);
  assert(entry->flags & KVS__ENTRY_GHOST);
  engine->ghosts_live--;
  delete_entry(index, engine, entry);
}

/* Where the next removal is remembered; the oldest makes room. 0 = nowhere. */
static int ghost_place(kvs_index *index, struct kvs__engine *engine, uint32_t *at) {
  if (engine->ghosts_at == engine->ghosts_capacity && engine->ghosts_capacity < KVS_GHOSTS_MAX) {
    uint32_t capacity = engine->ghosts_capacity == 0 ? 16 : engine->ghosts_capacity * 2;
    struct kvs__ghost *grown = kvs__resize(&index->memory, engine->ghosts,
                                           engine->ghosts_capacity * sizeof *grown, capacity * sizeof *grown);
    if (grown != NULL) {
      memset(grown + engine->ghosts_capacity, 0, (capacity - engine->ghosts_capacity) * sizeof *grown);
      engine->ghosts = grown;
      engine->ghosts_capacity = capacity;
    }
  }
  if (engine->ghosts_capacity == 0) return 0;
  if (engine->ghosts_at == engine->ghosts_capacity) engine->ghosts_at = 0;
  *at = engine->ghosts_at++;
  return 1;
}

/* ---- entering ---- */

static enum kvs__entered enter_fresh(kvs_index *index, struct kvs__engine *engine, struct kvs__key key,
                                     uint32_t kind, struct kvs__entry *ghost) {
  struct kvs__entry *entry = ghost;
  if (ghost != NULL) {
    engine->ghosts[ghost->copies].used = 0;
    engine->ghosts_live--;
    ghost->flags &= (uint8_t)~(KVS__ENTRY_GHOST | KVS__ENTRY_TIED);
  } else {
    entry = kvs__entries_insert(&engine->entries, &index->memory,
                                kvs__entry_place(&index->hasher, key.value, kind, key.flags));
    if (entry == NULL) return KVS__ENTERED_FAILED;
    entry->key = key.value;
    entry->kind = kind & 31;
    entry->flags = KVS__ENTRY_USED | key.flags;
    kvs__key_hold(engine, key);
  }
  entry->copies = 1;
  entry->epoch = medium_of(engine, kind)->epoch & KVS__EPOCH_MAX;
  engine->untied++;
  count_held(index, engine, kind);
  return KVS__ENTERED_NEW;
}

static void undo_fresh(kvs_index *index, struct kvs__engine *engine, struct kvs__entry *entry) {
  count_gone(index, engine, entry);
  delete_entry(index, engine, entry);
}

enum kvs__entered kvs__enter(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind,
                             const struct kvs__tie *tie, int again) {
  struct kvs__entry *entry = kvs__entry_find(index, engine, key, kind);
  int held = kvs__entry_held(entry);
  int tied = held && entry->flags & KVS__ENTRY_TIED;
  int known = tie->known;
  uint64_t block = tie->block;
  uint32_t depth = tie->depth;
  enum kvs__entered result = KVS__ENTERED_NEW;
  if (!known && !tied) {
    const struct kvs__entry *other = kvs__tied_anywhere(index, engine, key, kind);
    if (other != NULL) {
      known = 1;
      block = other->block;
      depth = other->depth;
    }
  }
  if (!held) {
    if (enter_fresh(index, engine, key, kind, entry) == KVS__ENTERED_FAILED) return KVS__ENTERED_FAILED;
    entry = kvs__entry_find(index, engine, key, kind);
  }
  if (tied && known && entry->block != block) {
    /* The engine says that its hash is another block now: believe the later word. The old one goes first, so that
     * without memory for the new one less is believed, not more. */
    if (!kvs__unhold(index, engine, kind, entry->block)) {
      kvs__record_doubt(index, engine, engine->kinds[kind].medium, KVS_REASON_MEMORY);
      return KVS__ENTERED_FAILED;
    }
    entry->flags &= (uint8_t)~KVS__ENTRY_TIED;
    engine->untied++;
    engine->counters[KVS_COUNTER_RETIED]++;
    tied = 0;
  }
  if (known && !tied) {
    if (!kvs__hold(index, engine, kind, block, depth)) {
      if (!held) undo_fresh(index, engine, entry);
      return KVS__ENTERED_FAILED;
    }
    if (entry->flags & KVS__ENTRY_ORPHAN) kvs__orphan_remove(index, engine, (uint32_t)entry->block);
    engine->untied--;
    entry->flags = (entry->flags & (KVS__ENTRY_USED | KVS__ENTRY_BYTES)) | KVS__ENTRY_TIED;
    entry->block = block;
    entry->depth = depth & KVS__DEPTH_MAX;
  }
  if (held) {
    struct kvs__medium *medium = medium_of(engine, kind);
    if (entry->epoch != medium->epoch) {
      entry->copies = 1;
      entry->epoch = medium->epoch & KVS__EPOCH_MAX;
      settle(medium);
      result = again ? KVS__ENTERED_AGAIN : KVS__ENTERED_NEW;
    } else if (again) {
      result = KVS__ENTERED_AGAIN;
    } else {
      if (entry->copies < KVS__COPIES_MAX) entry->copies++;
      result = KVS__ENTERED_COPY;
    }
  }
  if (entry->flags & KVS__ENTRY_TIED) {
    kvs__join(index, engine, key, kind, entry->block, entry->depth);
  } else if (tie->orphan && !(entry->flags & KVS__ENTRY_ORPHAN)) {
    uint32_t orphan = kvs__orphan_add(index, engine, key, kind, tie->parent, tie->local);
    if (orphan == 0) {
      engine->counters[KVS_COUNTER_ORPHANS_DROPPED]++;
    } else {
      entry->flags |= KVS__ENTRY_ORPHAN;
      entry->block = orphan;
    }
  }
  return result;
}

/* ---- leaving ---- */

enum kvs__left kvs__leave(kvs_index *index, struct kvs__engine *engine, struct kvs__key key, uint32_t kind) {
  struct kvs__entry *entry = kvs__entry_find(index, engine, key, kind);
  uint32_t at;
  if (!kvs__entry_held(entry)) return KVS__LEFT_UNKNOWN;
  if (entry->copies > 1 && !kvs__entry_doubtful(engine, entry)) {
    entry->copies--;
    return KVS__LEFT;
  }
  if (!(entry->flags & KVS__ENTRY_TIED)) {
    if (entry->flags & KVS__ENTRY_ORPHAN) kvs__orphan_remove(index, engine, (uint32_t)entry->block);
    count_gone(index, engine, entry);
    delete_entry(index, engine, entry);
    return KVS__LEFT;
  }
  if (!kvs__unhold(index, engine, kind, entry->block)) return KVS__LEFT_FAILED;
  count_gone(index, engine, entry);
  if (!ghost_place(index, engine, &at)) {
    delete_entry(index, engine, entry);
    return KVS__LEFT;
  }
  entry->flags |= KVS__ENTRY_GHOST;
  entry->copies = at & KVS__COPIES_MAX;
  engine->ghosts_live++;
  {
    /* Forgetting the oldest moves entries about, so it comes last. */
    struct kvs__ghost fresh = {key.value, (uint8_t)kind, key.flags & KVS__ENTRY_BYTES, 1};
    forget_ghost(index, engine, at);
    engine->ghosts[at] = fresh;
  }
  return KVS__LEFT;
}

int kvs__entry_drop(kvs_index *index, struct kvs__engine *engine, struct kvs__entry *entry) {
  if (entry->flags & KVS__ENTRY_GHOST) {
    engine->ghosts[entry->copies].used = 0;
    engine->ghosts_live--;
    return 1;
  }
  if (entry->flags & KVS__ENTRY_TIED) {
    if (!kvs__unhold(index, engine, entry->kind, entry->block)) return 0;
  } else if (entry->flags & KVS__ENTRY_ORPHAN) {
    kvs__orphan_remove(index, engine, (uint32_t)entry->block);
  }
  count_gone(index, engine, entry);
  return 1;
}
