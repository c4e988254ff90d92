/* follow.c: what plainly follows goes into the index as kvs_index_apply would put it there, and nothing else does. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"
#include "failing.h"
#include "kvsync.h"
#include "played.h"
#include "scene.h"

#define FRAMES_MAX 256u

/* The live stream of one engine on a played socket: frame n stores block n of the engine's prompt. */
struct stream {
  struct played socket;
  kvs_lane *lane;
  uint8_t numbers[FRAMES_MAX][8];
  struct pack payloads[FRAMES_MAX];
  uint32_t sent;
};

static void number_as_bytes(uint8_t *bytes, uint64_t number) {
  for (int at = 8; at-- > 0; number >>= 8) bytes[at] = (uint8_t)number;
}

static struct stream *stream_begin(size_t largest_max) {
  struct stream *stream = check_alloc(sizeof *stream);
  memset(stream, 0, sizeof *stream);
  CHECK_EQUAL(kvs_lane_create(&stream->lane), KVS_OK);
  CHECK(stream->lane->socket == NULL && stream->lane->messages_max == 0);
  stream->lane->socket = &stream->socket;
  stream->lane->messages_max = FRAMES_MAX;
  stream->lane->largest_max = largest_max;
  return stream;
}

static void stream_end(struct stream *stream) {
  for (uint32_t nth = 0; nth < stream->sent; nth++) pack_end(&stream->payloads[nth]);
  kvs_lane_destroy(stream->lane);
  free(stream);
}

/* A message that says which block is stored, under any number; `parts` of it, the last of them longer than it should be. */
static void send_as(struct stream *stream, uint32_t prompt, uint64_t number, unsigned parts,
                    size_t number_bytes) {
  static struct telling telling;
  struct pack *pack = &stream->payloads[stream->sent];
  uint8_t *bytes = stream->numbers[stream->sent];
  CHECK(stream->sent < FRAMES_MAX);
  telling_begin(&telling, prompt, stream->sent, stream->sent + 1);
  wire_batch_begin(pack, WIRE_BATCH_3, 1);
  wire_stored(pack, &telling.event, WIRE_MAP);
  wire_batch_end(pack, WIRE_BATCH_3);
  number_as_bytes(bytes, number);
  stream->sent++;
  played_text(&stream->socket, "topic", 1);
  played_put(&stream->socket, bytes, number_bytes, parts > 2);
  if (parts > 2) played_put(&stream->socket, pack->at, pack->bytes, parts > 3);
  if (parts > 3) played_text(&stream->socket, "more", 0);
}

static void send_number(struct stream *stream, uint64_t number) { send_as(stream, 1, number, 3, 8); }

/* Read one stream and follow it: how many want a look. */
static size_t turn(struct scene *scene, struct stream *stream, kvs_burst *burst) {
  uint32_t look[1] = {9};
  kvs_lane *lanes[] = {stream->lane};
  size_t looks;
  CHECK_EQUAL(kvs_receive(&played_zmq, lanes, 1, SIZE_MAX, burst), 1);
  looks = kvs_index_follow(scene->index, lanes, 1, burst, 12.5, look);
  CHECK(looks == 0 || (looks == 1 && look[0] == 0));
  return looks;
}

static void what_follows_is_applied(void) {
  struct scene scene = scene_begin(NULL, 2);
  struct stream *stream = stream_begin(SIZE_MAX);
  kvs_burst burst = {0};
  kvs_followed followed;
  size_t bytes = 0;
  kvs_lane_open(stream->lane, 1, 0);
  for (uint32_t nth = 0; nth < 40; nth++) send_number(stream, nth);
  CHECK_EQUAL(turn(&scene, stream, &burst), 0);
  CHECK(stream->lane->messages == 40 && stream->lane->followed == 40);
  CHECK_EQUAL(turn(&scene, stream, &burst), 0); /* nothing there is plain, too */
  send_number(stream, 40);
  CHECK_EQUAL(turn(&scene, stream, &burst), 0);
  CHECK_EQUAL(match(&scene, 1, 1, 99), 41);
  CHECK_EQUAL(match(&scene, 0, 1, 99), 0);
  CHECK_EQUAL(status_of(&scene, 1).sequence, 40);
  CHECK_EQUAL(trust_of(&scene, 1), KVS_TRUST_EXACT);
  kvs_lane_close(stream->lane, &followed);
  for (uint32_t nth = 0; nth < 41; nth++) bytes += strlen("topic") + 8 + stream->payloads[nth].bytes;
  CHECK(followed.messages == 41 && followed.bytes == bytes);
  CHECK(followed.at == 12.5);
  CHECK_EQUAL(followed.payload_bytes, stream->payloads[40].bytes);
  CHECK(memcmp(followed.payload, stream->payloads[40].at, followed.payload_bytes) == 0);
  kvs_lane_close(stream->lane, &followed);
  CHECK(followed.messages == 0 && followed.bytes == 0);
  kvs_burst_free(&burst);
  stream_end(stream);
  scene_end(&scene);
}

static void a_closed_lane_is_left_alone(void) {
  struct scene scene = scene_begin(NULL, 1);
  struct stream *stream = stream_begin(SIZE_MAX);
  kvs_burst burst = {0};
  kvs_followed followed;
  CHECK_EQUAL(turn(&scene, stream, &burst), 1);
  send_number(stream, 0);
  CHECK_EQUAL(turn(&scene, stream, &burst), 1);
  CHECK(stream->lane->messages == 1 && stream->lane->followed == 0);
  kvs_lane_open(stream->lane, 0, 1);
  kvs_lane_close(stream->lane, &followed);
  send_number(stream, 1);
  CHECK_EQUAL(turn(&scene, stream, &burst), 1);
  CHECK_EQUAL(status_of(&scene, 0).sequence, -1);
  kvs_burst_free(&burst);
  stream_end(stream);
  scene_end(&scene);
}

/* Numbers 0 and 1 follow, then comes something else, then number 2: how many are followed, and that it wants a look. */
static void check_odd(struct scene *scene, struct stream *stream, size_t expected) {
  kvs_burst burst = {0};
  kvs_followed followed;
  CHECK_EQUAL(turn(scene, stream, &burst), 1);
  CHECK_EQUAL(stream->lane->followed, expected);
  kvs_lane_close(stream->lane, &followed);
  CHECK_EQUAL(followed.messages, expected);
  CHECK_EQUAL(status_of(scene, 0).sequence, (int64_t)expected - 1);
  kvs_burst_free(&burst);
  stream_end(stream);
  scene_end(scene);
}

static struct stream *two_that_follow(struct scene *scene, uint32_t engine, size_t largest_max) {
  struct stream *stream = stream_begin(largest_max);
  *scene = scene_begin(NULL, 1);
  kvs_lane_open(stream->lane, engine, 0);
  send_number(stream, 0), send_number(stream, 1);
  return stream;
}

static void whatever_else_is_not(void) {
  static const uint64_t wrong_numbers[] = {0, 1, 3, (uint64_t)1 << 56, 2 + ((uint64_t)1 << 63), UINT64_MAX};
  struct scene scene;
  struct stream *stream;
  for (size_t nth = 0; nth < sizeof wrong_numbers / sizeof *wrong_numbers; nth++) {
    stream = two_that_follow(&scene, 0, SIZE_MAX);
    send_number(stream, wrong_numbers[nth]), send_number(stream, 2);
    check_odd(&scene, stream, 2);
  }
  for (unsigned parts = 2; parts <= 4; parts += 2) {
    stream = two_that_follow(&scene, 0, SIZE_MAX);
    send_as(stream, 1, 2, parts, 8), send_number(stream, 2);
    check_odd(&scene, stream, 2);
  }
  stream = two_that_follow(&scene, 0, SIZE_MAX);
  send_as(stream, 1, (uint64_t)2 << 8, 3, 7), send_number(stream, 2);
  check_odd(&scene, stream, 2);
  stream = two_that_follow(&scene, 0, SIZE_MAX);
  played_error(&stream->socket, ENOTSOCK);
  check_odd(&scene, stream, 2);
  stream = two_that_follow(&scene, 0, SIZE_MAX);
  stream->lane->messages_max = 1;
  check_odd(&scene, stream, 1);
  stream = two_that_follow(&scene, 0, 9);
  check_odd(&scene, stream, 2);
  stream = two_that_follow(&scene, 7, SIZE_MAX); /* no such engine */
  check_odd(&scene, stream, 0);
}

static void the_last_number_is_the_last(void) {
  struct scene scene = scene_begin(NULL, 1);
  struct stream *stream = stream_begin(SIZE_MAX);
  kvs_burst burst = {0};
  kvs_lane_open(stream->lane, 0, INT64_MAX - 1);
  send_number(stream, INT64_MAX - 1), send_number(stream, INT64_MAX),
      send_number(stream, (uint64_t)INT64_MAX + 1);
  CHECK_EQUAL(turn(&scene, stream, &burst), 1);
  CHECK_EQUAL(stream->lane->followed, 2);
  CHECK_EQUAL(status_of(&scene, 0).sequence, INT64_MAX);
  kvs_burst_free(&burst);
  stream_end(stream);
  scene_end(&scene);
}

/* Of several lanes those are named that want a look, and each message goes to its own engine. */
static void several_lanes(void) {
  enum { LANES = 4 };
  struct scene scene = scene_begin(NULL, LANES);
  struct stream *streams[LANES];
  kvs_lane *lanes[LANES];
  uint32_t look[LANES];
  kvs_burst burst = {0};
  for (uint32_t nth = 0; nth < LANES; nth++) {
    streams[nth] = stream_begin(SIZE_MAX);
    lanes[nth] = streams[nth]->lane;
    if (nth != 1) kvs_lane_open(lanes[nth], nth, 0);
    for (uint32_t frame = 0; frame <= nth; frame++) send_as(streams[nth], nth + 1, frame, 3, 8);
  }
  send_number(streams[3], 9);
  CHECK_EQUAL(kvs_receive(&played_zmq, lanes, LANES, SIZE_MAX, &burst), LANES);
  CHECK_EQUAL(kvs_index_follow(scene.index, lanes, LANES, &burst, 1, look), 2);
  CHECK(look[0] == 1 && look[1] == 3);
  for (uint32_t nth = 0; nth < LANES; nth++) {
    CHECK_EQUAL(lanes[nth]->followed, nth == 1 ? 0 : nth + 1);
    CHECK_EQUAL(match(&scene, nth, nth + 1, 99), nth == 1 ? 0 : nth + 1);
    stream_end(streams[nth]);
  }
  kvs_burst_free(&burst);
  scene_end(&scene);
}

/* Without room for the last payload nothing is followed, for nobody could say what was. */
static void no_memory(void) {
  kvs_lane *none = NULL;
  for (uint64_t nth = 1; nth <= 2; nth++) {
    failing_begin(nth);
    CHECK_EQUAL(kvs_lane_create(&none), KVS_ERR_MEMORY);
    failing_end();
    CHECK(none == NULL);
  }
  struct scene scene = scene_begin(NULL, 1);
  struct stream *stream = stream_begin(SIZE_MAX);
  kvs_burst burst = {0};
  kvs_lane *lanes[] = {stream->lane};
  uint32_t look;
  kvs_lane_open(stream->lane, 0, 0);
  send_number(stream, 0);
  CHECK_EQUAL(kvs_receive(&played_zmq, lanes, 1, SIZE_MAX, &burst), 1);
  failing_begin(1);
  CHECK_EQUAL(kvs_index_follow(scene.index, lanes, 1, &burst, 1, &look), 1);
  failing_end();
  CHECK_EQUAL(stream->lane->followed, 0);
  CHECK_EQUAL(status_of(&scene, 0).sequence, -1);
  CHECK_EQUAL(kvs_index_follow(scene.index, lanes, 1, &burst, 1, &look), 0);
  CHECK_EQUAL(status_of(&scene, 0).sequence, 0);
  kvs_burst_free(&burst);
  stream_end(stream);
  scene_end(&scene);
}

/* What was large is not kept for ever: from the next opening on there is no payload until one is followed. */
static void room_for_a_payload_is_given_back(void) {
  static char large[100000];
  static const uint8_t numbers[2][8] = {{0}, {0, 0, 0, 0, 0, 0, 0, 1}};
  struct scene scene = scene_begin(NULL, 1);
  struct stream *stream = stream_begin(SIZE_MAX);
  kvs_burst burst = {0};
  kvs_followed followed;
  for (int nth = 0; nth < 2; nth++) {
    size_t bytes = nth == 0 ? sizeof large : 0;
    kvs_lane_open(stream->lane, 0, nth);
    kvs_lane_close(stream->lane, &followed);
    CHECK(followed.payload == NULL);
    kvs_lane_open(stream->lane, 0, nth);
    played_text(&stream->socket, "topic", 1), played_put(&stream->socket, numbers[nth], 8, 1);
    played_put(&stream->socket, large, bytes, 0);
    CHECK_EQUAL(turn(&scene, stream, &burst), 0);
    kvs_lane_close(stream->lane, &followed);
    CHECK(followed.messages == 1 && followed.payload_bytes == bytes);
  }
  kvs_burst_free(&burst);
  stream_end(stream);
  scene_end(&scene);
}

/* ---- threads ---- */

struct closer {
  pthread_mutex_t lock; /* whoever opens or closes the lane has it */
  struct stream *stream;
  size_t followed;
  size_t wrong; /* times that the payload told of was not the last one */
  atomic_int stop;
};

/* Close the lane and count what was followed; the lock is ours. */
static void close_and_count(struct closer *closer) {
  kvs_followed followed;
  const struct pack *last;
  kvs_lane_close(closer->stream->lane, &followed);
  if (followed.messages == 0) return;
  closer->followed += followed.messages;
  last = &closer->stream->payloads[closer->followed - 1];
  closer->wrong +=
      followed.payload_bytes != last->bytes || memcmp(followed.payload, last->at, last->bytes) != 0;
}

static void *close_often(void *argument) {
  struct closer *closer = argument;
  while (!atomic_load(&closer->stop)) {
    pthread_mutex_lock(&closer->lock);
    close_and_count(closer);
    pthread_mutex_unlock(&closer->lock);
  }
  return NULL;
}

/* Every message is followed once, whoever closes the lane meanwhile: what was not followed is there to be followed later. */
static void closed_by_another_thread(void) {
  struct scene scene = scene_begin(NULL, 1);
  struct closer closer = {.lock = PTHREAD_MUTEX_INITIALIZER, .stream = stream_begin(SIZE_MAX)};
  struct stream *stream = closer.stream;
  kvs_lane *lanes[] = {stream->lane};
  kvs_burst burst = {0};
  pthread_t thread;
  uint32_t look;
  for (uint32_t nth = 0; nth < FRAMES_MAX; nth++) send_number(stream, nth);
  stream->lane->messages_max = 1;
  pthread_create(&thread, NULL, close_often, &closer);
  for (uint32_t nth = 0; nth < FRAMES_MAX; nth++) {
    int followed = 0;
    CHECK_EQUAL(kvs_receive(&played_zmq, lanes, 1, SIZE_MAX, &burst), 1);
    while (!followed) {
      pthread_mutex_lock(&closer.lock);
      kvs_lane_open(stream->lane, 0, nth);
      pthread_mutex_unlock(&closer.lock);
      kvs_index_follow(scene.index, lanes, 1, &burst, 1, &look);
      followed = stream->lane->followed == 1;
    }
  }
  atomic_store(&closer.stop, 1);
  pthread_join(thread, NULL);
  close_and_count(&closer);
  CHECK_EQUAL(closer.followed, FRAMES_MAX);
  CHECK_EQUAL(closer.wrong, 0);
  CHECK_EQUAL(match(&scene, 0, 1, FRAMES_MAX), FRAMES_MAX);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_EXACT);
  kvs_burst_free(&burst);
  stream_end(stream);
  scene_end(&scene);
}

void tests_of_follow(void) {
  RUN("follow: what plainly follows is applied, and told of when the lane is closed", what_follows_is_applied);
  RUN("follow: a closed lane is left alone", a_closed_lane_is_left_alone);
  RUN("follow: whatever else comes ends it, and wants a look", whatever_else_is_not);
  RUN("follow: the last number is the last", the_last_number_is_the_last);
  RUN("follow: several lanes, each its own engine", several_lanes);
  RUN("follow: without memory nothing is followed", no_memory);
  RUN("follow: room for a large payload is given back", room_for_a_payload_is_given_back);
  RUN("threads: a lane that another thread closes follows each message once", closed_by_another_thread);
}
