/* The wall clock, and how late batches are by it. */
#define _POSIX_C_SOURCE 200809L
#include "clock.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "msgpack.h"

/* From a quarter of a millisecond, a batch that is applied while the next is decoded, to a minute, a replay. */
#define BOUNDS_COUNT (KVS_LAG_COUNTS - 1)
static const double bounds[BOUNDS_COUNT] = {0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                            0.1,     0.25,   0.5,   1.0,    2.5,   10.0, 60.0};

double kvs_lag_bound(unsigned bound) { return bound < BOUNDS_COUNT ? bounds[bound] : INFINITY; }

double kvs__clock(void) {
  struct timespec now;
  if (clock_gettime(CLOCK_REALTIME, &now) != 0) return 0;
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double float_at(const uint8_t *at, size_t width) {
  uint64_t bits = kvs__big_endian(at, width);
  uint32_t half = (uint32_t)bits;
  double wide;
  float narrow;
  memcpy(&wide, &bits, sizeof wide);
  memcpy(&narrow, &half, sizeof narrow);
  return width == 8 ? wide : (double)narrow;
}

/* The first of an array, as every release has it; a map has no known place for it. */
double kvs__batch_time(const uint8_t *payload, size_t bytes) {
  struct kvs__cursor cursor = {payload, payload + bytes};
  struct kvs__head outer, stamp;
  const uint8_t *at;
  double time = 0;
  if (kvs__read_head(&cursor, &outer) != KVS__FINE || outer.kind != KVS__ARRAY || outer.number == 0) return 0;
  at = cursor.at;
  if (kvs__read_head(&cursor, &stamp) != KVS__FINE) return 0;
  if (stamp.kind == KVS__FLOAT) time = float_at(at + 1, (size_t)(cursor.at - at) - 1);
  if (stamp.kind == KVS__INTEGER && !stamp.negative) time = (double)stamp.number;
  return isfinite(time) && time > 0 ? time : 0;
}

void kvs__lag_note(kvs_lag *lag, double stamped, double now) {
  unsigned bound = 0;
  double late = now - stamped;
  if (stamped <= 0) return;
  lag->last = late;
  if (late < 0) {
    lag->ahead++;
    late = 0;
  }
  while (bound < BOUNDS_COUNT && late > bounds[bound]) bound++;
  lag->counts[bound]++;
  lag->seconds += late;
}
