/* decode.h: every wire form says what it says, and no bytes whatever do harm.
 *
 * Each payload lies at the very end of a block of its own, so that AddressSanitizer sees a read behind it. */
#include "decode.h"

#include "check.h"
#include "hash.h"
#include "kvsync.h"
#include "mutate.h"
#include "notation.h"
#include "wire.h"

#define EVENTS_MAX 64

/* What a payload turned out to be. The last event that decoded is kept; it points into `payload` and `scratch`. */
struct decoding {
  uint8_t *payload;
  struct kvs__scratch scratch;
  enum kvs__fault open;
  enum kvs__fault close;
  uint64_t events;
  uint64_t fine;
  enum kvs__fault faults[EVENTS_MAX];
  int lost;
  uint64_t trailing;
  struct kvs__event event;
  uint64_t extras; /* of all blocks of all events, folded: reading them must be safe too */
};

static const struct kvs__hasher *hasher(void) {
  static struct kvs__hasher made;
  if (made.seed == 0) kvs__hasher_init(&made, 1);
  return &made;
}

static void read_extras(struct decoding *decoding) {
  struct kvs__cursor cursor = decoding->event.extras;
  if (!decoding->event.has_extras) return;
  for (size_t i = 0; i < decoding->event.extras_count; i++)
    decoding->extras ^= kvs__extras_next(hasher(), &decoding->event, &cursor);
  CHECK(cursor.at == decoding->event.extras.end);
}

static void decode(struct decoding *decoding, const uint8_t *payload, size_t bytes) {
  struct kvs__batch batch;
  struct kvs__event event;
  memset(decoding, 0, sizeof *decoding);
  decoding->payload = check_alloc(bytes);
  if (bytes > 0) memcpy(decoding->payload, payload, bytes);
  decoding->open = kvs__batch_open(&batch, decoding->payload, bytes);
  if (decoding->open != KVS__FINE) return;
  while (batch.events_left > 0 && !decoding->lost) {
    const uint8_t *before = batch.rest.at;
    enum kvs__fault fault = kvs__batch_next(&batch, &decoding->scratch, &event, &decoding->lost);
    CHECK(batch.rest.at <= batch.rest.end);
    CHECK(batch.rest.at > before || decoding->lost); /* there is an end */
    if (decoding->events < EVENTS_MAX) decoding->faults[decoding->events] = fault;
    decoding->events++;
    if (fault != KVS__FINE) continue;
    decoding->fine++;
    decoding->event = event;
    read_extras(decoding);
  }
  if (!decoding->lost) decoding->close = kvs__batch_close(&batch, &decoding->trailing);
}

static void decoding_end(struct decoding *decoding) {
  kvs__scratch_end(&decoding->scratch);
  free(decoding->payload);
}

/* ---- forms ---- */

static int text_equals(struct kvs__text text, const char *wanted) {
  if (wanted == NULL) return text.at == NULL;
  return text.at != NULL && text.bytes == strlen(wanted) && memcmp(text.at, wanted, text.bytes) == 0;
}

static int hash_equals(const struct kvs__sent_hash *hash, uint64_t value, unsigned hash_bytes) {
  uint8_t bytes[256];
  if (hash_bytes == 0) return hash->bytes == NULL && hash->value == value;
  wire_hash_bytes(value, bytes, hash_bytes);
  return hash->bytes != NULL && hash->length == hash_bytes && memcmp(hash->bytes, bytes, hash_bytes) == 0;
}

static const uint64_t HASHES[] = {0, 1, 0x7f, 0xff, UINT64_C(1) << 63, UINT64_MAX, 0x123456789abcdef0};
static const uint32_t TOKENS[] = {0,       1,      0x7f,       0x80,       0xff,       0x100,      0xffff,
                                  0x10000, 151643, 0x7fffffff, 0x80000000, 0xffffffff, 0xdeadbeef, 128000};

static struct wire_stored full_event(void) {
  struct wire_stored event = {WIRE_NIL};
  event.hashes = HASHES;
  event.hashes_count = sizeof HASHES / sizeof *HASHES;
  event.has_parent = 1;
  event.parent = 0xfedcba9876543210;
  event.tokens = TOKENS;
  event.tokens_count = sizeof TOKENS / sizeof *TOKENS;
  event.block_size = 2;
  event.lora_id = 7;
  event.medium = "CPU";
  event.lora_name = "adapter";
  event.group = 3;
  event.spec_kind = "sliding_window";
  event.window = 1024;
  event.cache_salt = "salt";
  return event;
}

/* A stored event of `form` holds the first fields and nothing of those that the form does not have. */
static void expect_stored(const struct decoding *decoding, const struct wire_stored *event, unsigned form) {
  const struct kvs__event *got = &decoding->event;
  unsigned fields = form == WIRE_MAP ? 13 : form;
  CHECK_EQUAL(got->tag, KVS__TAG_STORED);
  CHECK_EQUAL(got->unknown_fields, 0);
  CHECK_EQUAL(got->hashes_count, event->hashes_count);
  for (size_t i = 0; i < event->hashes_count; i++)
    CHECK(hash_equals(&decoding->scratch.hashes[i], event->hashes[i], event->hash_bytes));
  CHECK_EQUAL(got->has_parent, event->has_parent);
  if (event->has_parent) CHECK(hash_equals(&got->parent, event->parent, event->hash_bytes));
  CHECK_EQUAL(got->tokens_count, event->tokens_count);
  CHECK(memcmp(decoding->scratch.tokens, event->tokens, event->tokens_count * sizeof *event->tokens) == 0);
  CHECK_EQUAL(got->block_size, event->block_size);
  CHECK(text_equals(got->medium, fields > 6 ? event->medium : NULL));
  CHECK(text_equals(got->lora_name, fields > 7 ? event->lora_name : NULL));
  CHECK_EQUAL(got->group, fields > 9 ? event->group : 0);
  CHECK(text_equals(got->spec_kind, fields > 10 ? event->spec_kind : NULL));
  CHECK_EQUAL(got->window, fields > 11 ? event->window : -1);
  CHECK(text_equals(got->cache_salt, fields > 12 ? event->cache_salt : NULL));
  CHECK_EQUAL(got->dialect, fields <= 8   ? KVS_DIALECT_ABSENT
                            : fields == 9 ? KVS_DIALECT_UNTAGGED
                                          : KVS_DIALECT_TAGGED);
}

static void stored_form(enum wire_batch batch, unsigned form, unsigned hash_bytes, int is_signed, int pairs) {
  struct wire_stored event = full_event();
  struct decoding decoding;
  struct pack pack = {0};
  event.hash_bytes = hash_bytes;
  event.is_signed = is_signed;
  event.pairs = pairs;
  wire_batch_begin(&pack, batch, 1);
  wire_stored(&pack, &event, form);
  wire_batch_end(&pack, batch);
  decode(&decoding, pack.at, pack.bytes);
  CHECK_EQUAL(decoding.open, KVS__FINE);
  CHECK_EQUAL(decoding.fine, 1);
  CHECK_EQUAL(decoding.close, KVS__FINE);
  CHECK_EQUAL(decoding.trailing, 0);
  if (decoding.fine == 1) expect_stored(&decoding, &event, form);
  decoding_end(&decoding);
  pack_end(&pack);
}

static void every_stored_form(void) {
  for (int batch = WIRE_BATCH_3; batch <= WIRE_BATCH_MAP; batch++)
    for (unsigned form = WIRE_STORED_MIN - 1; form <= WIRE_STORED_MAX; form++)
      for (int pairs = 0; pairs < 2; pairs++) {
        unsigned real = form < WIRE_STORED_MIN ? WIRE_MAP : form;
        stored_form((enum wire_batch)batch, real, 0, 0, pairs);
        stored_form((enum wire_batch)batch, real, 0, 1, pairs);
        stored_form((enum wire_batch)batch, real, 16, 0, pairs);
        stored_form((enum wire_batch)batch, real, 32, 0, pairs);
      }
  for (unsigned length = 1; length <= KVS_HASH_BYTES_MAX; length++)
    stored_form(WIRE_BATCH_3, WIRE_MAP, length, 0, 0);
}

static void every_removed_form(void) {
  for (unsigned form = 1; form <= WIRE_REMOVED_MAX; form++) {
    unsigned real = form < WIRE_REMOVED_MIN ? WIRE_MAP : form;
    struct decoding decoding;
    struct pack pack = {0};
    wire_batch_begin(&pack, WIRE_BATCH_3, 2);
    wire_cleared(&pack, real);
    wire_removed(&pack, HASHES, 7, 0, "cpu", 5, real);
    wire_batch_end(&pack, WIRE_BATCH_3);
    decode(&decoding, pack.at, pack.bytes);
    CHECK_EQUAL(decoding.fine, 2);
    CHECK_EQUAL(decoding.event.tag, KVS__TAG_REMOVED);
    CHECK_EQUAL(decoding.event.hashes_count, 7);
    for (size_t i = 0; i < 7; i++) CHECK(hash_equals(&decoding.scratch.hashes[i], HASHES[i], 0));
    CHECK(text_equals(decoding.event.medium, real == WIRE_MAP || real > 2 ? "cpu" : NULL));
    CHECK_EQUAL(decoding.event.group, real == WIRE_MAP || real > 3 ? 5 : 0);
    decoding_end(&decoding);
    pack_end(&pack);
  }
}

/* ---- one event in the notation ---- */

static void decode_event(struct decoding *decoding, const char *event) {
  struct pack inner = notation(event), pack = {0};
  wire_batch_begin(&pack, WIRE_BATCH_3, 2);
  pack_raw(&pack, inner.at, inner.bytes);
  wire_cleared(&pack, 1); /* the event after it is not to suffer */
  wire_batch_end(&pack, WIRE_BATCH_3);
  decode(decoding, pack.at, pack.bytes);
  pack_end(&inner);
  pack_end(&pack);
}

static void expect_fault(const char *event, enum kvs__fault fault) {
  struct decoding decoding;
  decode_event(&decoding, event);
  if (decoding.faults[0] != fault) fprintf(stderr, "    %s\n", event);
  CHECK_EQUAL(decoding.faults[0], fault);
  CHECK_EQUAL(decoding.lost, 0);
  CHECK_EQUAL(decoding.events, 2);
  CHECK_EQUAL(decoding.faults[1], KVS__FINE);
  decoding_end(&decoding);
}

#define HEX_64                                                       \
  "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff" \
  "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define DEEP_8 "[[[[[[[["
#define SHUT_8 "]]]]]]]]"
#define DEEP_30 DEEP_8 DEEP_8 DEEP_8 "[[[[[["
#define SHUT_30 SHUT_8 SHUT_8 SHUT_8 "]]]]]]"

static void faults_have_their_reasons(void) {
  static const struct {
    enum kvs__fault fault;
    const char *event;
  } cases[] = {
      {KVS__FINE, "['BlockStored', [1], nil, [1, 2], 2]"}, /* shorter than any release wrote, and whole */
      {KVS__FINE, "['BlockStored', [1], nil, nil, nil, nil]"},
      {KVS__FINE, "['BlockStored', [1], nil, [1, 2], 2, 'number as text', nil, nil, [nil]]"},
      {KVS__FINE, "['BlockStored', [h'" HEX_64 "'], nil, [], 0, nil]"},
      {KVS__FINE,
       "['BlockStored', [1], nil, [1, 2], 2, nil, 'GPU', nil, nil, 65535, 'x', 2147483647, 'more', 4]"},
      {KVS__FINE, "['BlockRemoved', []]"},
      {KVS__FINE, "['AllBlocksCleared']"},
      {KVS__FINE, "['SomethingNew', {'a': [1, 2]}]"},
      {KVS__FINE, "{'type': 'SomethingNew', 1: 2, nil: 3}"},
      {KVS__FINE, "{'block_size': 4, 'token_ids': [], 'block_hashes': [1], 'type': 'BlockStored'}"},
      {KVS__FINE, "{'type': 'BlockStored', 'block_hashes': [1], 'token_ids': [], 'unheard_of': w'd40102'}"},
      {KVS__FAULT_TYPE, "nil"},
      {KVS__FAULT_TYPE, "7"},
      {KVS__FAULT_TYPE, "'BlockStored'"},
      {KVS__FAULT_TYPE, "[]"},
      {KVS__FAULT_TYPE, "{}"},
      {KVS__FAULT_TYPE, "[1, [1]]"},
      {KVS__FAULT_TYPE, "{'type': 1}"},
      {KVS__FAULT_TYPE, "{'block_hashes': [1], 'token_ids': []}"},
      {KVS__FAULT_TYPE, "{['type']: 'AllBlocksCleared'}"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, [1, 2]]"},
      {KVS__FAULT_TYPE, "['BlockRemoved']"},
      {KVS__FAULT_TYPE, "{'type': 'BlockStored', 'token_ids': []}"},
      {KVS__FAULT_TYPE, "{'type': 'BlockStored', 'block_hashes': [1]}"},
      {KVS__FAULT_TYPE, "{'type': 'BlockRemoved', 'medium': 'GPU'}"},
      {KVS__FAULT_TYPE, "['BlockStored', 1, nil, [1, 2], 2, nil]"},
      {KVS__FAULT_TYPE, "['BlockStored', nil, nil, [1, 2], 2, nil]"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, 'tokens', 2, nil]"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, [1, 2.0], 2, nil]"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, [1, nil], 2, nil]"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, [1, [2]], 2, nil]"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, [1, [2, 3, 4]], 2, nil]"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, [1, [2, 'x']], 2, nil]"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, [1, 2], '2', nil]"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, [1, 2], 2.0, nil]"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, [1, 2], 2, 1.5]"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, [1, 2], 2, nil, 3]"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, [1, 2], 2, nil, nil, h'61']"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, [1, 2], 2, nil, nil, nil, 'extra']"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, [1, 2], 2, nil, nil, nil, ['extra']]"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, [1, 2], 2, nil, nil, nil, nil, 'group']"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, [1, 2], 2, nil, nil, nil, nil, nil, 3]"},
      {KVS__FAULT_TYPE, "['BlockStored', [1], nil, [1, 2], 2, nil, nil, nil, nil, nil, nil, 'window']"},
      {KVS__FAULT_TYPE, "['BlockRemoved', [1], 5]"},
      {KVS__FAULT_RANGE, "['BlockStored', [1], nil, [1, -1], 2, nil]"},
      {KVS__FAULT_RANGE, "['BlockStored', [1], nil, [1, 4294967296], 2, nil]"},
      {KVS__FAULT_RANGE, "['BlockStored', [1], nil, [1, [4294967296, 1]], 2, nil]"},
      {KVS__FAULT_RANGE, "['BlockStored', [1], nil, [1, 2], -2, nil]"},
      {KVS__FAULT_RANGE, "['BlockStored', [1], nil, [1, 2], 1048577, nil]"},
      {KVS__FAULT_RANGE, "['BlockStored', [1], nil, [1, 2], 2, nil, nil, nil, nil, 65536]"},
      {KVS__FAULT_RANGE, "['BlockStored', [1], nil, [1, 2], 2, nil, nil, nil, nil, -1]"},
      {KVS__FAULT_RANGE, "['BlockStored', [1], nil, [1, 2], 2, nil, nil, nil, nil, nil, nil, 2147483648]"},
      {KVS__FAULT_RANGE, "['BlockRemoved', [1], nil, 65536]"},
      {KVS__FAULT_HASH, "['BlockStored', ['1'], nil, [1, 2], 2, nil]"},
      {KVS__FAULT_HASH, "['BlockStored', [nil], nil, [1, 2], 2, nil]"},
      {KVS__FAULT_HASH, "['BlockStored', [h''], nil, [1, 2], 2, nil]"},
      {KVS__FAULT_HASH, "['BlockStored', [h'" HEX_64 "00'], nil, [1, 2], 2, nil]"},
      {KVS__FAULT_HASH, "['BlockStored', [1], [], [1, 2], 2, nil]"},
      {KVS__FAULT_HASH, "['BlockRemoved', [1.5]]"},
      /* The event is the first of 32 levels, an entry of extra_keys the third. */
      {KVS__FINE, "['BlockStored', [1], nil, [1, 2], 2, nil, nil, nil, [" DEEP_30 SHUT_30 "]]"},
      {KVS__FAULT_DEPTH, "['BlockStored', [1], nil, [1, 2], 2, nil, nil, nil, [[" DEEP_30 SHUT_30 "]]]"},
      {KVS__FINE, "['SomethingNew', [" DEEP_30 SHUT_30 "]]"},
      {KVS__FAULT_DEPTH, "['SomethingNew', [[" DEEP_30 SHUT_30 "]]]"},
      {KVS__FINE, "{'a': [" DEEP_30 SHUT_30 "], 'type': 'AllBlocksCleared'}"},
      {KVS__FAULT_DEPTH, "{'a': [[" DEEP_30 SHUT_30 "]], 'type': 'AllBlocksCleared'}"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) expect_fault(cases[i].event, cases[i].fault);
}

static void long_texts_are_beyond_the_limit(void) {
  static char text[KVS_TEXT_BYTES_MAX + 2];
  for (unsigned field = 6; field <= 12; field++) {
    size_t most = field == 6 ? KVS_MEDIUM_BYTES_MAX : KVS_TEXT_BYTES_MAX;
    if (field == 8 || field == 9 || field == 11) continue; /* no texts */
    for (size_t bytes = most; bytes <= most + 1; bytes++) {
      struct wire_stored event = full_event();
      struct decoding decoding;
      struct pack pack = {0};
      memset(text, 'x', bytes);
      text[bytes] = 0;
      if (field == 6) event.medium = text;
      if (field == 7) event.lora_name = text;
      if (field == 10) event.spec_kind = text;
      if (field == 12) event.cache_salt = text;
      wire_batch_begin(&pack, WIRE_BATCH_3, 1);
      wire_stored(&pack, &event, WIRE_MAP);
      wire_batch_end(&pack, WIRE_BATCH_3);
      decode(&decoding, pack.at, pack.bytes);
      CHECK_EQUAL(decoding.faults[0], bytes > most ? KVS__FAULT_LIMIT : KVS__FINE);
      decoding_end(&decoding);
      pack_end(&pack);
    }
  }
}

static void batches_that_are_none(void) {
  static const char *const batches[] = {
      "nil",        "7",           "'x'",           "[]",    "[1.5]",        "{}",          "[1.5, 7]",
      "[1.5, nil]", "{'ts': 1.5}", "{'events': 5}", "w'c1'", "[1.5, w'c1']", "[w'c1', []]", "{['events']: []}"};
  struct decoding decoding;
  decode(&decoding, NULL, 0);
  CHECK_EQUAL(decoding.open, KVS__FAULT_BATCH);
  decoding_end(&decoding);
  for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
    struct pack pack = notation(batches[i]);
    decode(&decoding, pack.at, pack.bytes);
    if (decoding.open != KVS__FAULT_BATCH) fprintf(stderr, "    %s\n", batches[i]);
    CHECK_EQUAL(decoding.open, KVS__FAULT_BATCH);
    decoding_end(&decoding);
    pack_end(&pack);
  }
}

static void batches_tolerate_more(void) {
  static const struct {
    const char *batch;
    uint64_t fine, trailing;
  } cases[] = {
      {"[1.5, []]", 0, 0},
      {"[nil, [['AllBlocksCleared']], nil, 'new', {'x': [1]}]", 1, 0},
      {"{'x': [1], 'events': [['AllBlocksCleared'], {'type': 'AllBlocksCleared'}], 7: 8}", 2, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct pack pack = notation(cases[i].batch);
    struct decoding decoding;
    for (unsigned more = 0; more < 3; more++) {
      decode(&decoding, pack.at, pack.bytes);
      CHECK_EQUAL(decoding.open, KVS__FINE);
      CHECK_EQUAL(decoding.fine, cases[i].fine);
      CHECK_EQUAL(decoding.close, KVS__FINE);
      CHECK_EQUAL(decoding.trailing, more);
      decoding_end(&decoding);
      pack_byte(&pack, 0xc1);
    }
    pack_end(&pack);
  }
}

/* 0xc1 begins no value: nothing behind it can be found again. */
static void the_byte_that_begins_nothing(void) {
  struct decoding decoding;
  decode_event(&decoding, "['BlockStored', [1], w'c1', [1, 2], 2, nil]");
  CHECK_EQUAL(decoding.events, 1);
  CHECK_EQUAL(decoding.faults[0], KVS__FAULT_TYPE);
  CHECK(decoding.lost);
  decoding_end(&decoding);
}

static void absurd_lengths(void) {
  /* Heads that claim up to 4 Gi elements or bytes, where there are none. */
  static const char *const heads[] = {"w'dcffff'",    "w'ddffffffff'", "w'deffff'",     "w'dfffffffff'",
                                      "w'd9ff'",      "w'daffff'",     "w'dbffffffff'", "w'c4ff'",
                                      "w'c5ffff'",    "w'c6ffffffff'", "w'c7ff'",       "w'c8ffff'",
                                      "w'c9ffffffff'"};
  static const char *const places[] = {
      "%s",
      "[1.5, %s]",
      "[%s, []]",
      "[1.5, [%s]]",
      "[1.5, [[%s]]]",
      "[1.5, [['BlockStored', %s]]]",
      "[1.5, [['BlockStored', [%s], nil, [1], 1, nil]]]",
      "[1.5, [['BlockStored', [1], %s, [1], 1, nil]]]",
      "[1.5, [['BlockStored', [1], nil, %s, 1, nil]]]",
      "[1.5, [['BlockStored', [1], nil, [[%s, 1]], 1, nil]]]",
      "[1.5, [['BlockStored', [1], nil, [1], 1, nil, %s, nil, nil, nil, nil]]]",
      "[1.5, [['BlockStored', [1], nil, [1], 1, nil, nil, nil, %s, nil]]]",
      "[1.5, [['BlockStored', [1], nil, [1], 1, nil, nil, nil, [%s], nil]]]",
      "[1.5, [['BlockStored', [1], nil, [1], 1, nil, nil, nil, [[%s]], nil]]]",
      "[1.5, [{'type': 'BlockStored', 'token_ids': %s}]]",
      "[1.5, [{'x': %s, 'type': 'BlockStored'}]]",
      "[1.5, [], %s]",
      "{'x': %s, 'events': []}",
      "{'events': %s}"};
  for (size_t i = 0; i < sizeof places / sizeof *places; i++)
    for (size_t j = 0; j < sizeof heads / sizeof *heads; j++) {
      char text[256];
      struct decoding decoding;
      struct pack pack;
      snprintf(text, sizeof text, places[i], heads[j]);
      pack = notation(text);
      decode(&decoding, pack.at, pack.bytes);
      CHECK(decoding.open != KVS__FINE || decoding.lost || decoding.close != KVS__FINE);
      CHECK_EQUAL(decoding.fine, 0);
      CHECK(decoding.scratch.hashes_capacity <= pack.bytes && decoding.scratch.tokens_capacity <= pack.bytes);
      decoding_end(&decoding);
      pack_end(&pack);
    }
}

/* A long nest costs no more than its bytes, and is skipped whole. */
static void depth_bombs(void) {
  static const size_t depths[] = {30, 31, 32, 33, 34, 1000, 100000};
  for (size_t i = 0; i < sizeof depths / sizeof *depths; i++)
    for (int maps = 0; maps < 2; maps++) {
      struct pack pack = {0};
      struct decoding decoding;
      wire_batch_begin(&pack, WIRE_BATCH_3, 2);
      pack_array(&pack, 2);
      pack_text(&pack, "SomethingNew");
      for (size_t depth = 0; depth < depths[i]; depth++) {
        if (maps) pack_byte(&pack, 0x81);
        pack_byte(&pack, maps ? 0x01 : 0x91);
      }
      pack_nil(&pack);
      wire_cleared(&pack, 1);
      wire_batch_end(&pack, WIRE_BATCH_3);
      decode(&decoding, pack.at, pack.bytes);
      CHECK_EQUAL(decoding.faults[0], depths[i] > 31 ? KVS__FAULT_DEPTH : KVS__FINE);
      CHECK_EQUAL(decoding.faults[1], KVS__FINE);
      CHECK_EQUAL(decoding.close, KVS__FINE);
      decoding_end(&decoding);
      pack_end(&pack);
    }
}

/* ---- broken payloads ---- */

#define SAMPLES 4

/* Payloads with everything in them. */
static struct pack sample(unsigned number) {
  struct wire_stored event = full_event();
  struct pack pack = {0},
              extras = notation("[nil, [], ['adapter', 'salt'], [['image', -3], h'00ff'], ['x', [h'aa', 7]],"
                                " [{'new': 1}], ['a', 'b']]");
  enum wire_batch batch = (enum wire_batch)(number % 3);
  event.extra_keys = (const char *)extras.at;
  event.extra_keys_bytes = extras.bytes;
  wire_batch_begin(&pack, batch, 5);
  wire_stored(&pack, &event, number % 2 == 0 ? WIRE_MAP : WIRE_STORED_MAX);
  event.hash_bytes = 32;
  event.pairs = 1;
  wire_stored(&pack, &event, number % 2 == 0 ? 9 : WIRE_MAP);
  wire_cleared(&pack, number % 2 == 0 ? 1 : WIRE_MAP);
  wire_removed(&pack, HASHES, 7, number, "cpu", 5, number % 2 == 0 ? WIRE_MAP : 4);
  event.tokens_count = 0;
  event.has_parent = 0;
  wire_stored(&pack, &event, 7);
  wire_batch_end(&pack, batch);
  pack_end(&extras);
  return pack;
}

static void truncation_at_every_byte(void) {
  for (unsigned number = 0; number < SAMPLES; number++) {
    struct pack pack = sample(number);
    uint64_t fine = 0;
    for (size_t bytes = 0; bytes < pack.bytes; bytes++) {
      struct decoding decoding;
      decode(&decoding, pack.at, bytes);
      CHECK(decoding.open != KVS__FINE || decoding.lost || decoding.close == KVS__FAULT_TRUNCATED);
      CHECK(decoding.fine >= fine); /* whole events apply, however little comes behind them */
      if (decoding.open == KVS__FINE && decoding.lost)
        CHECK_EQUAL(decoding.faults[decoding.events - 1], KVS__FAULT_TRUNCATED);
      fine = decoding.fine;
      decoding_end(&decoding);
    }
    CHECK_EQUAL(fine, number % 3 == WIRE_BATCH_2 ? 4 : 5); /* the two-element batch ends with its last event */
    pack_end(&pack);
  }
}

static void junk(void) {
  struct pack samples[SAMPLES], work = {0};
  uint64_t fine = 0;
  for (unsigned i = 0; i < SAMPLES; i++) samples[i] = sample(i);
  for (unsigned i = 0; i < 200000; i++) {
    struct decoding decoding;
    work.bytes = 0;
    if (i % 4 == 0) {
      for (uint64_t bytes = check_below(200); bytes > 0; bytes--) pack_byte(&work, telling_byte());
    } else {
      const struct pack *from = &samples[check_below(SAMPLES)];
      pack_raw(&work, from->at, from->bytes);
      mutate(&work);
    }
    decode(&decoding, work.at, work.bytes);
    fine += decoding.fine;
    decoding_end(&decoding);
  }
  CHECK(fine > 10000); /* not all of it is refused at the door */
  for (unsigned i = 0; i < SAMPLES; i++) pack_end(&samples[i]);
  pack_end(&work);
}

/* ---- tokens ---- */

/* One id in one of the forms that msgpack has for it, shortest or not, alone or with the next in a pair. */
static uint32_t pack_some_id(struct pack *pack, uint64_t wide) {
  static const unsigned heads[] = {0xcc, 0xcd, 0xce, 0xcf, 0xd1, 0xd2, 0xd3};
  static const unsigned bits[] = {8, 16, 32, 32, 15, 31, 32};
  unsigned form = check_below(100) < wide ? 1 + (unsigned)check_below(2) : (unsigned)check_below(9);
  uint32_t id = (uint32_t)check_random();
  if (form == 7) {
    id &= 0x7f;
    pack_byte(pack, id);
  } else if (form == 8) {
    pack_array(pack, 2);
    pack_unsigned(pack, id);
    pack_unsigned(pack, check_below(200000));
  } else {
    id &= (uint32_t)((UINT64_C(1) << bits[form]) - 1);
    pack_wide(pack, heads[form], id,
              heads[form] >= 0xd0 ? 1u << (heads[form] - 0xd0) : 1u << (heads[form] - 0xcc));
  }
  return id;
}

/* Ids are read several at a time where they are of the usual forms: whatever lies beside what, all are read right, up to
 * the last byte and not beyond. */
static void ids_of_every_form(void) {
  enum { IDS = 40 };
  for (unsigned round = 0; round < 400; round++) {
    struct pack pack = {0};
    struct decoding decoding;
    uint32_t ids[IDS], count = (uint32_t)check_below(IDS + 1);
    size_t begin;
    wire_batch_begin(&pack, WIRE_BATCH_2, 1);
    pack_map(&pack, 3);
    pack_text(&pack, "type");
    pack_text(&pack, "BlockStored");
    pack_text(&pack, "block_hashes");
    pack_array(&pack, 0);
    pack_text(&pack, "token_ids");
    pack_array(&pack, count);
    begin = pack.bytes;
    for (uint32_t i = 0; i < count; i++) ids[i] = pack_some_id(&pack, round % 3 == 0 ? 0 : 90);
    for (size_t cut = round % 20 == 0 ? begin : pack.bytes; cut <= pack.bytes; cut++) {
      decode(&decoding, pack.at, cut);
      if (cut < pack.bytes) {
        CHECK_EQUAL(decoding.faults[0], KVS__FAULT_TRUNCATED);
      } else {
        CHECK_EQUAL(decoding.faults[0], KVS__FINE);
        CHECK_EQUAL(decoding.event.tokens_count, count);
        for (uint32_t i = 0; i < count; i++) CHECK_EQUAL(decoding.scratch.tokens[i], ids[i]);
      }
      decoding_end(&decoding);
    }
    pack_end(&pack);
  }
}

/* ---- extras ---- */

/* The extras of the one block of an event, as a hash. */
static uint64_t extras_of(const char *lora_name, const char *entry) {
  char text[256];
  struct decoding decoding;
  uint64_t extras;
  snprintf(text, sizeof text, "['BlockStored', [1], nil, [1, 2], 2, nil, nil, %s, [%s], nil]", lora_name,
           entry);
  decode_event(&decoding, text);
  CHECK_EQUAL(decoding.faults[0], KVS__FINE);
  extras = decoding.extras;
  decoding_end(&decoding);
  return extras;
}

static void extras_are_told_apart(void) {
  static const char *const entries[] = {"['a']",      "[h'61']",      "['a', 'a']",       "['aa']",
                                        "[['a', 0]]", "[['a', 1]]",   "[['a', -1]]",      "[[h'61', 0]]",
                                        "['a', 0]",   "[['a', 'b']]", "[['a', 0, 0]]",    "[1]",
                                        "[nil]",      "[{'a': 0}]",   "['b', 'a']",       "['a', 'b']",
                                        "[['a']]",    "[1.5]",        "[w'c40161', 'a']", "[true]"};
  size_t count = sizeof entries / sizeof *entries;
  CHECK_EQUAL(extras_of("nil", "nil"), KVS__NO_EXTRAS);
  CHECK_EQUAL(extras_of("nil", "[]"), KVS__NO_EXTRAS);
  for (size_t i = 0; i < count; i++) {
    CHECK(extras_of("nil", entries[i]) != KVS__NO_EXTRAS);
    for (size_t j = 0; j < i; j++) CHECK(extras_of("nil", entries[i]) != extras_of("nil", entries[j]));
  }
  /* The adapter's name comes first, and is not an extra. */
  CHECK_EQUAL(extras_of("'a'", "['a']"), KVS__NO_EXTRAS);
  CHECK_EQUAL(extras_of("'a'", "['a', 'b']"), extras_of("nil", "['b']"));
  CHECK_EQUAL(extras_of("'a'", "['b', 'a']"), extras_of("nil", "['b', 'a']"));
  CHECK_EQUAL(extras_of("'a'", "['a', 'a']"), extras_of("nil", "['a']"));
  CHECK_EQUAL(extras_of("'a'", "[h'61']"), extras_of("nil", "[h'61']"));
  /* However it is encoded, an offset is a number. */
  CHECK_EQUAL(extras_of("nil", "[['a', w'cd0001']]"), extras_of("nil", "[['a', 1]]"));
  CHECK_EQUAL(extras_of("nil", "[['a', w'd3ffffffffffffffff']]"), extras_of("nil", "[['a', -1]]"));
}

void tests_of_decode(void) {
  RUN("decode: every form of a stored event", every_stored_form);
  RUN("decode: every form of a removed event, and of a cleared one", every_removed_form);
  RUN("decode: each fault has its reason, and harms no other event", faults_have_their_reasons);
  RUN("decode: long texts are beyond the limit", long_texts_are_beyond_the_limit);
  RUN("decode: what is no batch", batches_that_are_none);
  RUN("decode: more than is known is tolerated", batches_tolerate_more);
  RUN("decode: nothing is found again behind 0xc1", the_byte_that_begins_nothing);
  RUN("decode: absurd lengths are not believed", absurd_lengths);
  RUN("decode: depth bombs", depth_bombs);
  RUN("decode: truncation at every byte", truncation_at_every_byte);
  RUN("decode: junk and mutations", junk);
  RUN("decode: token ids of every form", ids_of_every_form);
  RUN("decode: extras are told apart", extras_are_told_apart);
}
