/* Payloads a little wrong. */
#ifndef MUTATE_H
#define MUTATE_H

#include "pack.h"

/* Bytes that mean much, more often than chance would bring them. */
static inline uint8_t telling_byte(void) {
  static const uint8_t bytes[] = {0x00, 0x7f, 0x80, 0x81, 0x8f, 0x90, 0x91, 0x92, 0x9f, 0xa0, 0xc0,
                                  0xc1, 0xc4, 0xc6, 0xc9, 0xca, 0xcb, 0xcc, 0xcf, 0xd0, 0xd3, 0xd4,
                                  0xd8, 0xd9, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xff};
  return check_below(2) ? bytes[check_below(sizeof bytes)] : (uint8_t)check_random();
}

static inline void mutate(struct pack *pack) {
  for (uint64_t changes = 1 + check_below(4); changes > 0; changes--) {
    size_t at = check_below(pack->bytes);
    switch (check_below(4)) {
      case 0: pack->at[at] = telling_byte(); break;
      case 1: pack->at[at] ^= (uint8_t)(1u << check_below(8)); break;
      case 2: /* a piece said twice, or dropped */
        memmove(pack->at + at, pack->at + check_below(at + 1), pack->bytes - at < 16 ? pack->bytes - at : 16);
        break;
      default:
        if (check_below(8) == 0) pack->bytes = at + 1;
        break;
    }
  }
}

#endif
