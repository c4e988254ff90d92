/* The head of a value, and stepping over a whole one with a stack of its own. */
#include "msgpack.h"

#include "kvsync.h"

#define TRY KVS__TRY

uint64_t kvs__big_endian(const uint8_t *at, size_t width) {
  uint64_t value = 0;
  for (size_t i = 0; i < width; i++) value = value << 8 | at[i];
  return value;
}

static enum kvs__fault number(struct kvs__cursor *cursor, size_t width, uint64_t *value) {
  if ((size_t)(cursor->end - cursor->at) < width) return KVS__FAULT_TRUNCATED;
  *value = kvs__big_endian(cursor->at, width);
  cursor->at += width;
  return KVS__FINE;
}

static enum kvs__fault content(struct kvs__cursor *cursor, struct kvs__head *head, uint64_t bytes) {
  if ((uint64_t)(cursor->end - cursor->at) < bytes) return KVS__FAULT_TRUNCATED;
  head->at = cursor->at;
  head->bytes = (size_t)bytes;
  cursor->at += bytes;
  return KVS__FINE;
}

static enum kvs__fault elements(const struct kvs__cursor *cursor, struct kvs__head *head, uint64_t count) {
  uint64_t least = head->kind == KVS__MAP ? 2 * count : count;
  if ((uint64_t)(cursor->end - cursor->at) < least) return KVS__FAULT_TRUNCATED;
  head->number = count;
  return KVS__FINE;
}

static enum kvs__fault sized(struct kvs__cursor *cursor, struct kvs__head *head, enum kvs__value kind,
                             size_t width, size_t extra) {
  uint64_t size;
  head->kind = kind;
  TRY(number(cursor, width, &size));
  return kind == KVS__ARRAY || kind == KVS__MAP ? elements(cursor, head, size)
                                                : content(cursor, head, size + extra);
}

static enum kvs__fault integer(struct kvs__cursor *cursor, struct kvs__head *head, size_t width,
                               int is_signed) {
  head->kind = KVS__INTEGER;
  TRY(number(cursor, width, &head->number));
  if (is_signed && head->number >> (8 * width - 1)) {
    head->negative = 1;
    if (width < 8) head->number |= ~UINT64_C(0) << (8 * width);
  }
  return KVS__FINE;
}

enum kvs__fault kvs__read_head(struct kvs__cursor *cursor, struct kvs__head *head) {
  uint8_t byte;
  if (cursor->at == cursor->end) return KVS__FAULT_TRUNCATED;
  byte = *cursor->at++;
  head->negative = 0;
  if (byte < 0x80) {
    head->kind = KVS__INTEGER;
    head->number = byte;
    return KVS__FINE;
  }
  if (byte >= 0xe0) {
    head->kind = KVS__INTEGER;
    head->negative = 1;
    head->number = (uint64_t)(int64_t)(int8_t)byte;
    return KVS__FINE;
  }
  if (byte < 0x90) {
    head->kind = KVS__MAP;
    return elements(cursor, head, byte & 0x0f);
  }
  if (byte < 0xa0) {
    head->kind = KVS__ARRAY;
    return elements(cursor, head, byte & 0x0f);
  }
  if (byte < 0xc0) {
    head->kind = KVS__TEXT;
    return content(cursor, head, byte & 0x1f);
  }
  switch (byte) {
    case 0xc0: head->kind = KVS__NIL; return KVS__FINE;
    case 0xc2:
    case 0xc3: head->kind = KVS__BOOLEAN; return KVS__FINE;
    case 0xc4: return sized(cursor, head, KVS__BYTES, 1, 0);
    case 0xc5: return sized(cursor, head, KVS__BYTES, 2, 0);
    case 0xc6: return sized(cursor, head, KVS__BYTES, 4, 0);
    case 0xc7: return sized(cursor, head, KVS__EXTENSION, 1, 1);
    case 0xc8: return sized(cursor, head, KVS__EXTENSION, 2, 1);
    case 0xc9: return sized(cursor, head, KVS__EXTENSION, 4, 1);
    case 0xca: head->kind = KVS__FLOAT; return content(cursor, head, 4);
    case 0xcb: head->kind = KVS__FLOAT; return content(cursor, head, 8);
    case 0xcc: return integer(cursor, head, 1, 0);
    case 0xcd: return integer(cursor, head, 2, 0);
    case 0xce: return integer(cursor, head, 4, 0);
    case 0xcf: return integer(cursor, head, 8, 0);
    case 0xd0: return integer(cursor, head, 1, 1);
    case 0xd1: return integer(cursor, head, 2, 1);
    case 0xd2: return integer(cursor, head, 4, 1);
    case 0xd3: return integer(cursor, head, 8, 1);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8: head->kind = KVS__EXTENSION; return content(cursor, head, 1 + (UINT64_C(1) << (byte - 0xd4)));
    case 0xd9: return sized(cursor, head, KVS__TEXT, 1, 0);
    case 0xda: return sized(cursor, head, KVS__TEXT, 2, 0);
    case 0xdb: return sized(cursor, head, KVS__TEXT, 4, 0);
    case 0xdc: return sized(cursor, head, KVS__ARRAY, 2, 0);
    case 0xdd: return sized(cursor, head, KVS__ARRAY, 4, 0);
    case 0xde: return sized(cursor, head, KVS__MAP, 2, 0);
    case 0xdf: return sized(cursor, head, KVS__MAP, 4, 0);
    default: return KVS__FAULT_TYPE;
  }
}

enum kvs__fault kvs__skip(struct kvs__cursor *cursor, unsigned depth, int *deep) {
  uint64_t left[KVS_DEPTH_MAX + 1];
  int top = 0;
  left[0] = 1;
  while (top >= 0) {
    struct kvs__head head;
    uint64_t children;
    if (left[top] == 0) {
      top--;
      continue;
    }
    left[top]--;
    TRY(kvs__read_head(cursor, &head));
    if (head.kind != KVS__ARRAY && head.kind != KVS__MAP) continue;
    if (depth + (unsigned)top > KVS_DEPTH_MAX) *deep = 1;
    children = head.kind == KVS__MAP ? 2 * head.number : head.number;
    if (children == 0) continue;
    if (top < KVS_DEPTH_MAX)
      left[++top] = children;
    else
      left[top] += children;
  }
  return KVS__FINE;
}
