/* Engine hashes as keys: integers are themselves, bytes are the number of their name in the record.
 *
 * `make` takes a reference of a name, which `release` gives back. 0 = absent, or no memory. */
#ifndef KVS_NAMES_H
#define KVS_NAMES_H

#include "index.h"

/* names.c: of hashes that are bytes. */
int kvs__name_find(kvs_index *index, struct kvs__engine *engine, const struct kvs__sent_hash *sent,
                   struct kvs__key *key);
int kvs__name_make(kvs_index *index, struct kvs__engine *engine, const struct kvs__sent_hash *sent,
                   struct kvs__key *key);
void kvs__name_release(kvs_index *index, struct kvs__engine *engine, struct kvs__key key);

/* For snapshots: the name of the next number, held for the time being; of no length: the number is free. 0 = no memory.
 * When all items are there, kvs__names_loaded lets go of them. */
int kvs__name_load(kvs_index *index, struct kvs__engine *engine, const uint8_t *bytes, uint32_t length);
void kvs__names_loaded(kvs_index *index, struct kvs__engine *engine);

static inline struct kvs__key kvs__key_of_integer(uint64_t value) {
  return (struct kvs__key){value, KVS__INTEGERS};
}

static inline int kvs__key_find(kvs_index *index, struct kvs__engine *engine, const struct kvs__sent_hash *sent,
                                struct kvs__key *key) {
  if (sent->bytes != NULL) return kvs__name_find(index, engine, sent, key);
  *key = kvs__key_of_integer(sent->value);
  return 1;
}

static inline int kvs__key_make(kvs_index *index, struct kvs__engine *engine, const struct kvs__sent_hash *sent,
                                struct kvs__key *key) {
  if (sent->bytes != NULL) return kvs__name_make(index, engine, sent, key);
  *key = kvs__key_of_integer(sent->value);
  return 1;
}

static inline void kvs__key_hold(struct kvs__engine *engine, struct kvs__key key) {
  if (key.form == KVS__NAMES) engine->names[key.value]->references++;
}

static inline void kvs__key_release(kvs_index *index, struct kvs__engine *engine, struct kvs__key key) {
  if (key.form == KVS__NAMES) kvs__name_release(index, engine, key);
}

#endif
