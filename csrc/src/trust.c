/* How far each medium of a record may be believed, and why not further. */
#include "trust.h"

#include "clock.h"

uint8_t kvs__medium_trust(const struct kvs__engine *engine, int number, uint8_t *reason) {
  const struct kvs__medium *medium = &engine->media[number];
  if (reason != NULL) *reason = engine->unproven ? KVS_REASON_LOADED : medium->reason;
  return engine->unproven ? KVS_TRUST_STALE : medium->trust;
}

uint8_t kvs__record_trust(const struct kvs__engine *engine) {
  uint8_t worst = KVS_TRUST_EXACT;
  if (!engine->heard) return KVS_TRUST_UNKNOWN;
  if (engine->unproven) return KVS_TRUST_STALE;
  for (int i = 0; i < engine->media_count; i++)
    if (engine->media[i].trust > worst) worst = engine->media[i].trust;
  return worst;
}

void kvs__medium_set_trust(struct kvs__medium *medium, uint8_t trust) {
  if (medium->trust != trust) medium->since = kvs__clock();
  medium->trust = trust;
}

void kvs__record_doubt(struct kvs__engine *engine, int number, enum kvs_reason reason) {
  struct kvs__medium *medium = &engine->media[number];
  medium->reason = (uint8_t)reason;
  if (medium->entries == 0) {
    kvs__medium_set_trust(medium, KVS_TRUST_PARTIAL);
    return;
  }
  if (medium->doubtful == medium->entries) return; /* nothing is certain as it is: spare the epochs */
  for (int kind = 0; kind < engine->kinds_count; kind++)
    if (engine->kinds[kind]->medium == number)
      for (int form = 0; form < 2; form++) kvs__keys_doubt(&engine->kinds[kind]->held[form]);
  medium->doubtful = medium->entries;
  kvs__medium_set_trust(medium, KVS_TRUST_STALE);
}

void kvs__record_doubt_all(struct kvs__engine *engine, enum kvs_reason reason) {
  engine->complete = 0;
  engine->unproven = 0; /* the doubt is in the record now */
  for (int i = 0; i < engine->media_count; i++) kvs__record_doubt(engine, i, reason);
}

void kvs__record_lower(struct kvs__engine *engine, int number, enum kvs_reason reason) {
  struct kvs__medium *medium = &engine->media[number];
  engine->complete = 0;
  if (medium->trust != KVS_TRUST_EXACT) return;
  kvs__medium_set_trust(medium, KVS_TRUST_PARTIAL);
  medium->reason = (uint8_t)reason;
}
