/* The live streams of engines, followed as long as each message plainly comes after the one before: it goes from the burst
 * into the index, and nobody needs to look at it. Whatever is not as plain is left to the caller, who decides.
 *
 * Guarded by the lane's mutex, because any thread may close a lane: all of kvs__lane. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "ahead.h"
#include "apply.h"
#include "index.h"
#include "kvsync.h"

#define LIVE_PARTS 3u
#define NUMBER_BYTES 8
#define SLICE_MESSAGES \
  16u /* enough to make a turn of writing cheap, few enough for others who wait for theirs */
#define PAYLOAD_FIRST ((size_t)1 << 10)
#define PAYLOAD_KEPT_BYTES ((size_t)64 << 10) /* room above it is given back when the lane is opened */

struct kvs__lane {
  pthread_mutex_t mutex;
  int is_open;
  uint32_t engine;
  int64_t number; /* the one awaited; -1 = none can come */
  kvs_followed followed; /* without its payload, which is that of the last message followed: */
  char *payload;
  size_t payload_room;
};

/* Where a message is: its row of the table, and where its bytes begin. */
struct place {
  const uint64_t *row;
  size_t begin;
};

static size_t end_of(const struct place *place) { return place->row[place->row[0]]; }

static struct place behind(const struct place *place) {
  return (struct place){place->row + 1 + place->row[0], end_of(place)};
}

/* Whether a message is of the live stream and has this number. */
static int has_number(const kvs_burst *burst, const struct place *place, int64_t wanted) {
  const uint64_t *row = place->row;
  uint64_t number = (uint64_t)wanted;
  const uint8_t *carried;
  if (wanted < 0 || row[0] != LIVE_PARTS || row[2] - row[1] != NUMBER_BYTES) return 0;
  carried = (const uint8_t *)burst->bytes + row[1];
  for (int at = NUMBER_BYTES; at-- > 0; number >>= 8)
    if (carried[at] != (uint8_t)number) return 0;
  return 1;
}

/* Room for the payload that is kept; on failure the one kept before stays. */
static int make_room(struct kvs__lane *own, size_t bytes) {
  char *grown;
  if (bytes <= own->payload_room) return 1;
  if (bytes < PAYLOAD_FIRST) bytes = PAYLOAD_FIRST;
  grown = realloc(own->payload, bytes);
  if (!grown) return 0;
  own->payload = grown;
  own->payload_room = bytes;
  return 1;
}

static int apply_one(kvs_index *index, struct kvs__lane *own, const kvs_burst *burst,
                     const struct place *place) {
  const char *payload = burst->bytes + place->row[2];
  size_t bytes = place->row[3] - place->row[2];
  kvs_applied applied;
  if (!kvs__apply_frame(index, own->engine, (const uint8_t *)payload, bytes, own->number, &applied)) return 0;
  own->number = own->number == INT64_MAX ? -1 : own->number + 1;
  own->followed.messages++;
  own->followed.bytes += end_of(place) - place->begin;
  return 1;
}

/* Apply messages as long as they follow, up to a slice of them; how many, and which was the last. */
static size_t apply_slice(kvs_index *index, struct kvs__lane *own, const kvs_burst *burst, struct place *place,
                          size_t count, struct place *last) {
  size_t done = 0;
  pthread_mutex_lock(&index->writing);
  while (done < count && done < SLICE_MESSAGES && has_number(burst, place, own->number) &&
         apply_one(index, own, burst, place)) {
    *last = *place;
    *place = behind(place);
    done++;
  }
  kvs__ahead_trim(index);
  pthread_mutex_unlock(&index->writing);
  return done;
}

/* There is room for it. */
static void keep_payload(struct kvs__lane *own, const kvs_burst *burst, const struct place *place) {
  own->followed.payload_bytes = place->row[3] - place->row[2];
  if (own->followed.payload_bytes)
    memcpy(own->payload, burst->bytes + place->row[2], own->followed.payload_bytes);
}

/* Under the mutex. */
static void follow(kvs_index *index, kvs_lane *lane, const kvs_burst *burst, struct place place, double now) {
  struct kvs__lane *own = lane->own;
  struct place last = place;
  size_t slice = SLICE_MESSAGES;
  if (!lane->messages || !make_room(own, lane->largest)) return;
  while (slice == SLICE_MESSAGES) {
    slice = apply_slice(index, own, burst, &place, lane->messages - lane->followed, &last);
    lane->followed += slice;
  }
  if (!lane->followed) return;
  own->followed.at = now;
  keep_payload(own, burst, &last);
}

size_t kvs_index_follow(kvs_index *index, kvs_lane *const *lanes, size_t count, const kvs_burst *burst,
                        double now, uint32_t *look) {
  struct place place = {burst->table, 0};
  size_t looks = 0;
  for (size_t at = 0; at < count; at++) {
    kvs_lane *lane = lanes[at];
    int is_plain;
    pthread_mutex_lock(&lane->own->mutex);
    is_plain = lane->own->is_open;
    if (is_plain) follow(index, lane, burst, place, now);
    pthread_mutex_unlock(&lane->own->mutex);
    if (!is_plain || lane->followed < lane->messages || lane->error != EAGAIN ||
        lane->largest > lane->largest_max)
      look[looks++] = (uint32_t)at;
    place = (struct place){burst->table + lane->table_end, lane->bytes_end};
  }
  return looks;
}

kvs_status kvs_lane_create(kvs_lane **made) {
  kvs_lane *lane = calloc(1, sizeof *lane);
  if (lane) lane->own = calloc(1, sizeof *lane->own);
  if (!lane || !lane->own) {
    free(lane);
    return KVS_ERR_MEMORY;
  }
  pthread_mutex_init(&lane->own->mutex, NULL);
  *made = lane;
  return KVS_OK;
}

void kvs_lane_destroy(kvs_lane *lane) {
  pthread_mutex_destroy(&lane->own->mutex);
  free(lane->own->payload);
  free(lane->own);
  free(lane);
}

void kvs_lane_open(kvs_lane *lane, uint32_t engine, int64_t number) {
  struct kvs__lane *own = lane->own;
  pthread_mutex_lock(&own->mutex);
  if (own->payload_room > PAYLOAD_KEPT_BYTES) {
    free(own->payload);
    own->payload = NULL;
    own->payload_room = 0;
  }
  own->is_open = 1;
  own->engine = engine;
  own->number = number;
  pthread_mutex_unlock(&own->mutex);
}

void kvs_lane_close(kvs_lane *lane, kvs_followed *followed) {
  static const kvs_followed nothing;
  struct kvs__lane *own = lane->own;
  pthread_mutex_lock(&own->mutex);
  own->is_open = 0;
  *followed = own->followed;
  followed->payload = own->payload;
  own->followed = nothing;
  pthread_mutex_unlock(&own->mutex);
}
