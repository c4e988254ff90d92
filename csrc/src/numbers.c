/* Token ids out of a JSON text, without an object for each. */
#include "kvsync.h"

#define DIGITS_MAX 10 /* of the largest uint32 */

static const char *skip_spaces(const char *at, const char *end) {
  while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) at++;
  return at;
}

/* Behind the number that begins here; NULL if it is no JSON integer of 32 bits. */
static const char *read_number(const char *at, const char *end, uint32_t *number) {
  const char *first = at, *last = end - at > DIGITS_MAX ? at + DIGITS_MAX : end;
  uint64_t value = 0;
  for (; at < last && *at >= '0' && *at <= '9'; at++) value = 10 * value + (uint64_t)(*at - '0');
  if (at == first || value > UINT32_MAX || (*first == '0' && at > first + 1)) return NULL;
  *number = (uint32_t)value;
  return at;
}

size_t kvs_tokens_read(const char *text, size_t text_bytes, uint32_t *tokens, size_t capacity, size_t *count) {
  const char *at = text, *end = text + text_bytes;
  size_t read = 0;
  at = skip_spaces(at, end);
  if (at < end && *at == ']') {
    *count = 0;
    return (size_t)(at + 1 - text);
  }
  while (read < capacity) {
    at = read_number(at, end, &tokens[read]);
    if (at == NULL) return 0;
    read++;
    at = skip_spaces(at, end);
    if (at == end) return 0;
    if (*at == ']') {
      *count = read;
      return (size_t)(at + 1 - text);
    }
    if (*at != ',') return 0;
    at = skip_spaces(at + 1, end);
  }
  return 0;
}
