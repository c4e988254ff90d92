/* Event batches in a notation one can read, as msgpack:
 *
 *     ['BlockStored', [1, -2, h'00ff'], nil, {'a': true}, 1.5]
 *
 * Texts stand in single quotes, bytes in h'', raw wire bytes in w''. Arrays and maps get their counts from what stands
 * in them. A mistake in the notation ends the program. */
#ifndef NOTATION_H
#define NOTATION_H

#include <ctype.h>

#include "pack.h"

static inline const char *notation_value(struct pack *pack, const char *at);

static inline const char *notation_space(const char *at) {
  while (isspace((unsigned char)*at) || *at == ',' || *at == ':') at++;
  return at;
}

static inline const char *notation_wrong(const char *at) {
  fprintf(stderr, "notation: cannot read \"%.40s\"\n", at);
  exit(2);
}

/* Values up to `close`; how many. */
static inline const char *notation_values(struct pack *pack, const char *at, char close, size_t *count) {
  *count = 0;
  for (at = notation_space(at); *at != close; at = notation_space(at)) {
    at = notation_value(pack, at);
    ++*count;
  }
  return at + 1;
}

static inline const char *notation_hex(const char *at, uint8_t *bytes, size_t *count) {
  *count = 0;
  for (; *at != '\''; at += 2) {
    char digits[3] = {at[0], at[1], 0};
    if (!isxdigit((unsigned char)at[0]) || !isxdigit((unsigned char)at[1])) return notation_wrong(at);
    bytes[(*count)++] = (uint8_t)strtoul(digits, NULL, 16);
  }
  return at + 1;
}

static inline const char *notation_number(struct pack *pack, const char *at) {
  size_t digits = strspn(at, "-0123456789");
  char *end;
  if (at[digits] == '.')
    pack_double(pack, strtod(at, &end));
  else if (*at == '-')
    pack_signed(pack, strtoll(at, &end, 10));
  else
    pack_unsigned(pack, strtoull(at, &end, 10));
  return end;
}

static inline const char *notation_value(struct pack *pack, const char *at) {
  struct pack inside = {0};
  uint8_t bytes[256];
  size_t count;
  at = notation_space(at);
  if (*at == '[') {
    at = notation_values(&inside, at + 1, ']', &count);
    pack_array(pack, count);
  } else if (*at == '{') {
    at = notation_values(&inside, at + 1, '}', &count);
    pack_map(pack, count / 2);
  } else if (*at == '\'') {
    const char *end = strchr(at + 1, '\'');
    pack_text_of(pack, at + 1, (size_t)(end - at - 1));
    at = end + 1;
  } else if (strncmp(at, "h'", 2) == 0) {
    at = notation_hex(at + 2, bytes, &count);
    pack_bytes(pack, bytes, count);
  } else if (strncmp(at, "w'", 2) == 0) {
    at = notation_hex(at + 2, bytes, &count);
    pack_raw(pack, bytes, count);
  } else if (strncmp(at, "nil", 3) == 0) {
    pack_nil(pack);
    at += 3;
  } else if (strncmp(at, "true", 4) == 0 || strncmp(at, "false", 5) == 0) {
    pack_byte(pack, *at == 't' ? 0xc3 : 0xc2);
    at += *at == 't' ? 4 : 5;
  } else if (isdigit((unsigned char)*at) || *at == '-') {
    at = notation_number(pack, at);
  } else {
    return notation_wrong(at);
  }
  pack_raw(pack, inside.at, inside.bytes);
  pack_end(&inside);
  return at;
}

static inline struct pack notation(const char *text) {
  struct pack pack = {0};
  const char *end = notation_space(notation_value(&pack, text));
  if (*end != '\0') notation_wrong(end);
  return pack;
}

#endif
