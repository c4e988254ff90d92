/* Token ids, which are most of what an event has in bytes: integers, or pairs of them. */
#include "event.h"

#define TRY KVS__TRY

static enum kvs__fault to_token(const struct kvs__head *head, uint32_t *token) {
  if (head->kind != KVS__INTEGER) return KVS__FAULT_TYPE;
  if (head->negative || head->number > UINT32_MAX) return KVS__FAULT_RANGE;
  *token = (uint32_t)head->number;
  return KVS__FINE;
}

static enum kvs__fault read_token(struct kvs__cursor *cursor, uint32_t *token) {
  struct kvs__head head, second;
  TRY(kvs__read_head(cursor, &head));
  if (head.kind != KVS__ARRAY) return to_token(&head, token);
  if (head.number != 2) return KVS__FAULT_TYPE;
  /* An EAGLE pair (this token, the next): the first is ours. */
  TRY(kvs__read_head(cursor, &head));
  TRY(to_token(&head, token));
  TRY(kvs__read_head(cursor, &second));
  return second.kind == KVS__INTEGER ? KVS__FINE : KVS__FAULT_TYPE;
}

/* Real token ids are integers of 16 or 32 bits in an order that no branch predictor learns, and a wrong guess for every
 * second one is most of what decoding costs. So two are read at a time without a branch: the head of the second is looked
 * for in both places where it can be, while the first is still being read. What needs 16 bytes to look at never needs more
 * than 13. Stops at anything else; how many were read. */
static size_t read_wide_tokens(struct kvs__cursor *cursor, uint32_t *tokens, size_t count) {
  const uint8_t *at = cursor->at;
  size_t done = 0;
  while (done + 2 <= count && cursor->end - at >= 16) {
    uint64_t first = kvs__big_endian_8(at), second;
    unsigned wide = at[0] == 0xce, next_wide = (at[3] == 0xce) & !wide;
    unsigned known = (unsigned)(at[0] - 0xcd) < 2, step = 3 + 2 * wide;
    next_wide |= (at[5] == 0xce) & wide;
    second = kvs__big_endian_8(at + step);
    known &= (unsigned)((second >> 56) - 0xcd) < 2;
    if (!known) break;
    tokens[done] = (uint32_t)(first >> (40 - 16 * wide)) & (0xffffu | (0u - wide) << 16);
    tokens[done + 1] = (uint32_t)(second >> (40 - 16 * next_wide)) & (0xffffu | (0u - next_wide) << 16);
    at += step + 3 + 2 * next_wide;
    done += 2;
  }
  cursor->at = at;
  return done;
}

#define ID_FORMS_TURN 8u

/* Bytes of an id by its first byte, 0 = none: below 128 itself, and integers of 8, 16 and 32 bits. */
static unsigned id_bytes(uint8_t first) {
  static const uint8_t of_integers[4] = {2, 3, 5, 0};
  return first < 0x80 ? 1 : (first & 0xfc) == 0xcc ? of_integers[first & 3] : 0;
}

/* A few ids of any form: half as fast, but short ones cost nothing more, and where there is one, others are often near.
 * How many were read. */
static size_t read_any_tokens(struct kvs__cursor *cursor, uint32_t *tokens, size_t count) {
  static const uint32_t masks[6] = {0, 0x7f, 0xff, 0xffff, 0, UINT32_MAX};
  size_t done = 0;
  while (done < count && done < ID_FORMS_TURN && cursor->end - cursor->at >= 8) {
    unsigned bytes = id_bytes(*cursor->at);
    if (bytes == 0) break;
    tokens[done++] = (uint32_t)(kvs__big_endian_8(cursor->at) >> (64 - 8 * bytes)) & masks[bytes];
    cursor->at += bytes;
  }
  return done;
}

enum kvs__fault kvs__read_tokens(struct kvs__cursor *cursor, struct kvs__scratch *scratch, size_t *count) {
  struct kvs__head head;
  TRY(kvs__read_head(cursor, &head));
  *count = 0;
  if (head.kind == KVS__NIL) return KVS__FINE;
  if (head.kind != KVS__ARRAY) return KVS__FAULT_TYPE;
  if (!kvs__scratch_room((void **)&scratch->tokens, &scratch->tokens_capacity, (size_t)head.number,
                         sizeof *scratch->tokens))
    return KVS__FAULT_MEMORY;
  *count = (size_t)head.number;
  for (size_t i = 0; i < *count;) {
    size_t some = read_wide_tokens(cursor, scratch->tokens + i, *count - i);
    some += read_any_tokens(cursor, scratch->tokens + i + some, *count - i - some);
    i += some;
    if (some == 0) TRY(read_token(cursor, &scratch->tokens[i++])); /* a pair, the last few, or a fault */
  }
  return KVS__FINE;
}
