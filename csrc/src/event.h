/* What batch.c, event.c, values.c and tokens.c have in common: a value of the wire for each field of an event.
 *
 * Each steps over what it reads, FINE or not; a count that it returns is only that of what was there. */
#ifndef KVS_EVENT_H
#define KVS_EVENT_H

#include <string.h>

#include "decode.h"

/* event.c: one event, of any tag and form. */
enum kvs__fault kvs__read_event(struct kvs__cursor *cursor, struct kvs__scratch *scratch,
                                struct kvs__event *event);

/* values.c */
enum kvs__fault kvs__read_hashes(struct kvs__cursor *cursor, struct kvs__scratch *scratch, size_t *count);
enum kvs__fault kvs__read_parent(struct kvs__cursor *cursor, struct kvs__event *event);
enum kvs__fault kvs__read_text(struct kvs__cursor *cursor, struct kvs__text *text, size_t bytes_max);
/* nil reads as `nil`. */
enum kvs__fault kvs__read_number(struct kvs__cursor *cursor, int64_t *value, int64_t nil, int64_t most);
enum kvs__fault kvs__read_lora_id(struct kvs__cursor *cursor, struct kvs__event *event);
enum kvs__fault kvs__read_extras(struct kvs__cursor *cursor, unsigned depth, struct kvs__event *event);
/* kvs__skip() for a value inside an event, where too deep is a fault. */
enum kvs__fault kvs__skip_inside(struct kvs__cursor *cursor, unsigned depth);

/* tokens.c */
enum kvs__fault kvs__read_tokens(struct kvs__cursor *cursor, struct kvs__scratch *scratch, size_t *count);

static inline int kvs__text_is(const struct kvs__head *text, const char *name) {
  return text->kind == KVS__TEXT && text->bytes == strlen(name) && memcmp(text->at, name, text->bytes) == 0;
}

#endif
