/* msgpack, one value head at a time: the only code that looks at raw bytes.
 *
 * Nothing here recurses, and every count is held against the bytes that are left before it is believed:
 * each element takes one byte at least. */
#ifndef KVS_MSGPACK_H
#define KVS_MSGPACK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Why something cannot be read; a stranger's bytes are to blame for all but the last. */
enum kvs__fault {
  KVS__FINE = 0,
  KVS__FAULT_TYPE,
  KVS__FAULT_RANGE,
  KVS__FAULT_HASH,
  KVS__FAULT_DEPTH,
  KVS__FAULT_TRUNCATED,
  KVS__FAULT_LIMIT,
  KVS__FAULT_BATCH,
  KVS__FAULT_MEMORY
};

struct kvs__cursor {
  const uint8_t *at;
  const uint8_t *end;
};

enum kvs__value {
  KVS__NIL,
  KVS__BOOLEAN,
  KVS__INTEGER,
  KVS__FLOAT,
  KVS__TEXT,
  KVS__BYTES,
  KVS__ARRAY,
  KVS__MAP,
  KVS__EXTENSION
};

/* The head of one msgpack value. For texts and bytes the cursor has stepped over the content too. */
struct kvs__head {
  enum kvs__value kind;
  int negative;      /* KVS__INTEGER below zero; number then holds its two's complement */
  uint64_t number;   /* KVS__INTEGER: value; KVS__ARRAY, KVS__MAP: elements, pairs */
  const uint8_t *at; /* KVS__TEXT, KVS__BYTES, KVS__EXTENSION: content */
  size_t bytes;
};

/* Return from the calling function with any fault of `call`. */
#define KVS__TRY(call)                      \
  do {                                      \
    enum kvs__fault fault_ = (call);        \
    if (fault_ != KVS__FINE) return fault_; \
  } while (0)

/* The number of `width` bytes, most significant first; and of eight. */
uint64_t kvs__big_endian(const uint8_t *at, size_t width);
static inline uint64_t kvs__big_endian_8(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, sizeof value);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  value = __builtin_bswap64(value);
#endif
  return value;
}

/* Step over one head. KVS__FAULT_TYPE is only for the byte 0xc1, which begins no value. */
enum kvs__fault kvs__read_head(struct kvs__cursor *cursor, struct kvs__head *head);

/* Step over one whole value that stands at nesting `depth`; `*deep` is set where it nests beyond KVS_DEPTH_MAX.
 * Levels beyond the limit are counted as one, so a bomb costs no more than its bytes. */
enum kvs__fault kvs__skip(struct kvs__cursor *cursor, unsigned depth, int *deep);

#endif
