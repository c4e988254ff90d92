/* Writes msgpack: single values, each in its shortest form. */
#ifndef PACK_H
#define PACK_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

struct pack {
  uint8_t *at;
  size_t bytes;
  size_t capacity;
};

static inline void pack_raw(struct pack *pack, const void *data, size_t bytes) {
  if (pack->bytes + bytes > pack->capacity) {
    size_t capacity = 2 * (pack->bytes + bytes) + 64;
    uint8_t *grown = check_alloc(capacity);
    if (pack->bytes > 0) memcpy(grown, pack->at, pack->bytes);
    free(pack->at);
    pack->at = grown;
    pack->capacity = capacity;
  }
  if (bytes > 0) memcpy(pack->at + pack->bytes, data, bytes);
  pack->bytes += bytes;
}

static inline void pack_byte(struct pack *pack, unsigned byte) {
  uint8_t one = (uint8_t)byte;
  pack_raw(pack, &one, 1);
}

/* `head`, then `value` in `width` bytes, big-endian. */
static inline void pack_wide(struct pack *pack, unsigned head, uint64_t value, size_t width) {
  pack_byte(pack, head);
  while (width-- > 0) pack_byte(pack, (unsigned)(value >> (8 * width)) & 0xff);
}

static inline void pack_nil(struct pack *pack) { pack_byte(pack, 0xc0); }

static inline void pack_double(struct pack *pack, double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  pack_wide(pack, 0xcb, bits, 8);
}

static inline void pack_unsigned(struct pack *pack, uint64_t value) {
  if (value < 0x80)
    pack_byte(pack, (unsigned)value);
  else if (value <= 0xff)
    pack_wide(pack, 0xcc, value, 1);
  else if (value <= 0xffff)
    pack_wide(pack, 0xcd, value, 2);
  else if (value <= 0xffffffff)
    pack_wide(pack, 0xce, value, 4);
  else
    pack_wide(pack, 0xcf, value, 8);
}

static inline void pack_signed(struct pack *pack, int64_t value) {
  if (value >= 0)
    pack_unsigned(pack, (uint64_t)value);
  else if (value >= -32)
    pack_byte(pack, (unsigned)(value & 0xff));
  else if (value >= INT8_MIN)
    pack_wide(pack, 0xd0, (uint64_t)value, 1);
  else if (value >= INT16_MIN)
    pack_wide(pack, 0xd1, (uint64_t)value, 2);
  else if (value >= INT32_MIN)
    pack_wide(pack, 0xd2, (uint64_t)value, 4);
  else
    pack_wide(pack, 0xd3, (uint64_t)value, 8);
}

static inline void pack_array(struct pack *pack, size_t count) {
  if (count < 16)
    pack_byte(pack, 0x90 | (unsigned)count);
  else if (count <= 0xffff)
    pack_wide(pack, 0xdc, count, 2);
  else
    pack_wide(pack, 0xdd, count, 4);
}

static inline void pack_map(struct pack *pack, size_t pairs) {
  if (pairs < 16)
    pack_byte(pack, 0x80 | (unsigned)pairs);
  else
    pack_wide(pack, 0xde, pairs, 2);
}

static inline void pack_text_of(struct pack *pack, const void *text, size_t bytes) {
  if (bytes < 32)
    pack_byte(pack, 0xa0 | (unsigned)bytes);
  else if (bytes <= 0xff)
    pack_wide(pack, 0xd9, bytes, 1);
  else
    pack_wide(pack, 0xda, bytes, 2);
  pack_raw(pack, text, bytes);
}

static inline void pack_text(struct pack *pack, const char *text) { pack_text_of(pack, text, strlen(text)); }

/* NULL = nil */
static inline void pack_maybe(struct pack *pack, const char *text) {
  if (text == NULL)
    pack_nil(pack);
  else
    pack_text(pack, text);
}

static inline void pack_bytes(struct pack *pack, const void *data, size_t bytes) {
  if (bytes <= 0xff)
    pack_wide(pack, 0xc4, bytes, 1);
  else
    pack_wide(pack, 0xc5, bytes, 2);
  pack_raw(pack, data, bytes);
}

static inline void pack_end(struct pack *pack) {
  free(pack->at);
  memset(pack, 0, sizeof *pack);
}

#endif
