/* Event batches, from msgpack bytes to plain values. Pure: no index, no state beyond the scratch.
 *
 * The wire forms and since when: docs/design/index.md and the table in event.c. */
#ifndef KVS_DECODE_H
#define KVS_DECODE_H

#include <stddef.h>
#include <stdint.h>

#include "msgpack.h"

/* An engine hash as sent: an integer, or bytes inside the payload. */
struct kvs__sent_hash {
  uint64_t value;
  const uint8_t *bytes; /* NULL = integer */
  uint32_t length;
};

struct kvs__text {
  const char *at; /* NULL = nil */
  size_t bytes;
};

enum kvs__tag { KVS__TAG_UNKNOWN, KVS__TAG_STORED, KVS__TAG_REMOVED, KVS__TAG_CLEARED };

/* One event. Arrays lie in the scratch it was decoded with, texts in the payload. It must stay where it was decoded: a LoRA
 * number is a text inside it. */
struct kvs__event {
  enum kvs__tag tag;
  const struct kvs__sent_hash *hashes;
  const uint32_t *tokens;
  uint64_t *locals; /* of a stored event's blocks: made by prepare.c, and used up by store.c */
  uint8_t dialect; /* kvs_dialect that a stored event's form implies */
  size_t hashes_count;
  size_t tokens_count;
  int has_parent;
  struct kvs__sent_hash parent;
  uint32_t block_size;
  struct kvs__text lora_name;
  struct kvs__text lora_id; /* as text, whatever it was */
  struct kvs__text medium;
  struct kvs__text cache_salt;
  struct kvs__text spec_kind;
  uint32_t group;
  int64_t window; /* -1 = nil */
  int has_extras;
  size_t extras_count;
  struct kvs__cursor extras; /* the entries, validated */
  uint64_t unknown_fields;
  char lora_id_digits[24];
};

/* Grown as needed, owned by whoever decodes. */
struct kvs__scratch {
  struct kvs__sent_hash *hashes;
  size_t hashes_capacity;
  uint32_t *tokens;
  size_t tokens_capacity;
  uint64_t *locals;
  size_t locals_capacity;
};

struct kvs__batch {
  struct kvs__cursor rest;
  uint64_t events_left;
  uint64_t elements_after; /* values of the outer array after the events, still unread */
  int map;
};

/* Step into a batch, up to its first event. FINE, or TRUNCATED or BATCH. */
enum kvs__fault kvs__batch_open(struct kvs__batch *batch, const uint8_t *payload, size_t bytes);

/* Decode the next event and step over it. After any fault but TRUNCATED the next one can be read, unless `*lost`
 * says that nothing after it can. */
enum kvs__fault kvs__batch_next(struct kvs__batch *batch, struct kvs__scratch *scratch,
                                struct kvs__event *event, int *lost);

/* Step over what follows the events. FINE or TRUNCATED; `trailing` counts bytes behind the batch. */
enum kvs__fault kvs__batch_close(struct kvs__batch *batch, uint64_t *trailing);

/* Room for so many of an array of the scratch; 0 = out of memory. */
int kvs__scratch_room(void **array, size_t *capacity, size_t count, size_t size);
void kvs__scratch_end(struct kvs__scratch *scratch);
/* Give back what only an event of more needed. */
void kvs__scratch_trim(struct kvs__scratch *scratch, size_t hashes, size_t tokens);

/* extras.c: extras of an event, one block after the other: the hash of its entry. `cursor` begins as event->extras. */
struct kvs__hasher;
uint64_t kvs__extras_next(const struct kvs__hasher *hasher, const struct kvs__event *event,
                          struct kvs__cursor *cursor);

#endif
