/* The wall clock, and what is measured by it: since when a record is trusted as it is, and how late batches are.
 *
 * Nothing is decided by it: two indexes told the same know the same, whatever the time. */
#ifndef KVS_CLOCK_H
#define KVS_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "kvsync.h"

/* Seconds since 1970. */
double kvs__clock(void);

/* The time that a batch is stamped with; 0 = it bears none. */
double kvs__batch_time(const uint8_t *payload, size_t bytes);

/* Count a batch of `stamped` that has been applied at `now`; one without a time does not count. */
void kvs__lag_note(kvs_lag *lag, double stamped, double now);

#endif
