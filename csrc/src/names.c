/* Engine hashes of bytes as numbers: each is kept once, for as long as anything refers to it. */
#include "names.h"

#include <string.h>

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

int kvs__name_find(kvs_index *index, struct kvs__engine *engine, const struct kvs__sent_hash *sent,
                   struct kvs__key *key) {
  key->form = KVS__NAMES;
  key->value = name_find(engine, kvs__hash_bytes(&index->hasher, sent->bytes, sent->length), sent);
  return key->value != 0;
}

int kvs__name_make(kvs_index *index, struct kvs__engine *engine, const struct kvs__sent_hash *sent,
                   struct kvs__key *key) {
  uint64_t hash;
  uint32_t number, head;
  struct kvs__name *name;
  hash = kvs__hash_bytes(&index->hasher, sent->bytes, sent->length);
  number = name_find(engine, hash, sent);
  key->form = KVS__NAMES;
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

int kvs__name_load(kvs_index *index, struct kvs__engine *engine, const uint8_t *bytes, uint32_t length) {
  struct kvs__sent_hash sent = {0, bytes, length};
  struct kvs__key key;
  uint32_t number;
  if (length > 0) return kvs__name_make(index, engine, &sent, &key);
  number = name_slot(index, engine);
  if (number != 0) engine->names[number] = NULL;
  return number != 0;
}

void kvs__names_loaded(kvs_index *index, struct kvs__engine *engine) {
  for (uint32_t i = engine->names_count; i-- > 1;)
    if (engine->names[i] == NULL) name_unslot(engine, i);
  for (uint32_t i = 1; i < engine->names_count; i++) {
    struct kvs__key key = {i, KVS__NAMES};
    if (engine->names[i] != NULL) kvs__name_release(index, engine, key);
  }
}

void kvs__name_release(kvs_index *index, struct kvs__engine *engine, struct kvs__key key) {
  struct kvs__name *name;
  uint32_t number = (uint32_t)key.value, head;
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
