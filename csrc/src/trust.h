/* How far a record may be believed: what lowers it. A medium is raised by what proves it. */
#ifndef KVS_TRUST_H
#define KVS_TRUST_H

#include "index.h"

/* All under both locks but the two that tell, for which one is enough. */
void kvs__medium_set_trust(struct kvs__medium *medium, uint8_t trust); /* and since when */
void kvs__record_doubt(struct kvs__engine *engine, int medium, enum kvs_reason reason);
void kvs__record_doubt_all(struct kvs__engine *engine, enum kvs_reason reason);
void kvs__record_lower(struct kvs__engine *engine, int medium, enum kvs_reason reason); /* exact -> partial */
uint8_t kvs__record_trust(const struct kvs__engine *engine);
/* What one of its media reads as; `reason` may be NULL. */
uint8_t kvs__medium_trust(const struct kvs__engine *engine, int medium, uint8_t *reason);

#endif
