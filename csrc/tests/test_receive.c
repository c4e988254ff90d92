/* receive.c against a libzmq that is played: whole messages, within bounds, whatever goes wrong between. */
#include <errno.h>

#include "check.h"
#include "failing.h"
#include "kvsync.h"
#include "played.h"

/* What one socket gives; its lane as it is afterwards. */
static kvs_lane take(struct played *socket, size_t messages_max, size_t bytes_max, kvs_burst *burst) {
  kvs_lane lane = {.socket = socket, .messages_max = messages_max, .messages = 9, .largest = 9, .error = 9};
  kvs_lane *lanes[] = {&lane};
  CHECK_EQUAL(kvs_receive(&played_zmq, lanes, 1, bytes_max, burst), 1);
  CHECK_EQUAL(played_open, 0);
  CHECK(lane.bytes_end == burst->bytes_count && lane.table_end == burst->table_count);
  CHECK_EQUAL(lane.followed, 0);
  return lane;
}

/* All messages as "part|part part|part". */
static const char *text_of(const kvs_burst *burst) {
  static char text[512];
  size_t row = 0, begin = 0, used = 0;
  while (row < burst->table_count) {
    uint64_t parts = burst->table[row++];
    if (used) text[used++] = ' ';
    for (uint64_t part = 0; part < parts; part++) {
      size_t end = burst->table[row++];
      if (part) text[used++] = '|';
      memcpy(text + used, burst->bytes + begin, end - begin);
      used += end - begin;
      begin = end;
    }
  }
  CHECK_EQUAL(begin, burst->bytes_count);
  text[used] = '\0';
  return text;
}

#define CHECK_TEXT(burst, wanted) CHECK(strcmp(text_of(burst), wanted) == 0)

static void whole_messages(void) {
  static struct played socket;
  kvs_burst burst = {0};
  kvs_lane lane = take(&socket, 9, 99, &burst);
  CHECK(lane.messages == 0 && lane.error == EAGAIN);
  played_text(&socket, "a", 1), played_text(&socket, "", 1), played_text(&socket, "ccc", 0);
  played_text(&socket, "alone", 0), played_text(&socket, "", 0);
  lane = take(&socket, 9, 99, &burst);
  CHECK(lane.messages == 3 && lane.error == EAGAIN);
  CHECK_EQUAL(lane.largest, 5);
  CHECK_TEXT(&burst, "a||ccc alone ");
  lane = take(&socket, 9, 99, &burst);
  CHECK(lane.messages == 0 && lane.largest == 0 && burst.table_count == 0);
  kvs_burst_free(&burst);
  CHECK(burst.bytes == NULL && burst.table == NULL);
}

static void bounds(void) {
  static struct played socket;
  kvs_burst burst = {0};
  kvs_lane lane;
  for (int nth = 0; nth < 3; nth++) played_text(&socket, "ab", 1), played_text(&socket, "cd", 0);
  lane = take(&socket, 0, 99, &burst);
  CHECK(lane.messages == 0 && lane.error == 0);
  lane = take(&socket, 9, 0, &burst);
  CHECK(lane.messages == 0 && lane.error == 0);
  lane = take(&socket, 1, 99, &burst);
  CHECK(lane.messages == 1 && lane.error == 0);
  lane = take(&socket, 9, 1, &burst); /* one is whole before its bytes are counted */
  CHECK(lane.messages == 1 && lane.error == 0);
  lane = take(&socket, 9, 5, &burst);
  CHECK(lane.messages == 1 && lane.error == EAGAIN);
  CHECK_EQUAL(socket.at, socket.count);
  kvs_burst_free(&burst);
}

/* Each socket's messages lie behind those of the one before; the bytes are bounded over all, and the first always comes. */
static void several_sockets(void) {
  static struct played sockets[3];
  kvs_lane lanes[3] = {0};
  kvs_lane *all[] = {&lanes[0], &lanes[1], &lanes[2]};
  kvs_burst burst = {0};
  for (int nth = 0; nth < 3; nth++) {
    lanes[nth].socket = &sockets[nth];
    lanes[nth].messages_max = 9;
  }
  played_text(&sockets[0], "a", 1), played_text(&sockets[0], "bc", 0), played_error(&sockets[1], ENOTSOCK);
  played_text(&sockets[2], "d", 0);
  CHECK_EQUAL(kvs_receive(&played_zmq, all, 3, 99, &burst), 3);
  CHECK_TEXT(&burst, "a|bc d");
  CHECK(lanes[0].messages == 1 && lanes[0].error == EAGAIN && lanes[0].bytes_end == 3 &&
        lanes[0].table_end == 3);
  CHECK(lanes[1].messages == 0 && lanes[1].error == ENOTSOCK && lanes[1].bytes_end == 3);
  CHECK(lanes[2].messages == 1 && lanes[2].error == EAGAIN && lanes[2].bytes_end == 4 && lanes[2].largest == 1);
  for (int nth = 0; nth < 3; nth++) played_text(&sockets[nth], "abc", 0);
  CHECK_EQUAL(kvs_receive(&played_zmq, all, 3, 4, &burst), 2);
  CHECK_TEXT(&burst, "abc abc");
  CHECK_EQUAL(kvs_receive(&played_zmq, all, 3, 0, &burst), 1);
  CHECK_EQUAL(kvs_receive(&played_zmq, all + 2, 1, 4, &burst), 1);
  CHECK_TEXT(&burst, "abc");
  CHECK_EQUAL(kvs_receive(&played_zmq, all, 0, 4, &burst), 0);
  CHECK_EQUAL(burst.table_count, 0);
  kvs_burst_free(&burst);
}

static void errors(void) {
  static struct played socket;
  kvs_burst burst = {0};
  kvs_lane lane;
  played_text(&socket, "a", 1), played_error(&socket, EINTR), played_error(&socket, EINTR);
  played_text(&socket, "b", 0), played_error(&socket, ENOTSOCK);
  lane = take(&socket, 9, 99, &burst);
  CHECK_EQUAL(lane.error, ENOTSOCK);
  CHECK_TEXT(&burst, "a|b");
  played_text(&socket, "c", 0), played_text(&socket, "half", 1), played_error(&socket, ENOTSOCK);
  lane = take(&socket, 9, 99, &burst);
  CHECK_EQUAL(lane.error, ENOTSOCK);
  CHECK_TEXT(&burst, "c");
  CHECK_EQUAL(lane.largest, 1);
  CHECK_EQUAL(take(&socket, 9, 99, &burst).error, EAGAIN);
  kvs_burst_free(&burst);
}

/* The first message always fits; the second is refused room at its nth request, and the third is met whole. */
static void no_memory(void) {
  static char large[40000];
  unsigned refused = 0;
  memset(large, 'x', sizeof large - 1);
  for (uint64_t nth = 1; nth < 8; nth++) {
    static struct played socket;
    kvs_burst burst = {0};
    kvs_lane lane;
    memset(&socket, 0, sizeof socket);
    played_text(&socket, "a", 1), played_text(&socket, "b", 0);
    CHECK_EQUAL(take(&socket, 1, 99, &burst).messages, 1);
    played_text(&socket, "c", 0), played_text(&socket, large, 1), played_text(&socket, large, 1);
    played_text(&socket, "e", 0), played_text(&socket, "f", 0);
    failing_begin(nth);
    lane = take(&socket, 9, 99999, &burst);
    if (failing_end() < nth) {
      CHECK_EQUAL(lane.error, EAGAIN);
      CHECK_EQUAL(lane.messages, 3);
    } else {
      refused++;
      CHECK_EQUAL(lane.error, ENOMEM);
      CHECK_TEXT(&burst, "c");
      CHECK_EQUAL(take(&socket, 9, 99999, &burst).error, EAGAIN);
      CHECK_TEXT(&burst, "f");
    }
    kvs_burst_free(&burst);
  }
  CHECK_EQUAL(refused, 2);
}

/* Also a burst that cannot even begin. */
static void no_memory_at_first(void) {
  for (uint64_t nth = 1; nth <= 2; nth++) {
    static struct played socket;
    kvs_burst burst = {0};
    kvs_lane lane;
    memset(&socket, 0, sizeof socket);
    played_text(&socket, "a", 1), played_text(&socket, "b", 0), played_text(&socket, "c", 0);
    failing_begin(nth);
    lane = take(&socket, 9, 99, &burst);
    failing_end();
    CHECK(lane.error == ENOMEM && lane.messages == 0);
    CHECK_EQUAL(take(&socket, 9, 99, &burst).error, EAGAIN);
    CHECK_TEXT(&burst, "c");
    kvs_burst_free(&burst);
  }
}

static void room_is_given_back(void) {
  static struct played socket;
  kvs_burst burst = {0};
  char *large = check_alloc(2 * KVS_BURST_KEPT_BYTES);
  memset(large, 'x', 2 * KVS_BURST_KEPT_BYTES);
  played_put(&socket, large, 2 * KVS_BURST_KEPT_BYTES, 0);
  CHECK_EQUAL(take(&socket, 1, 1, &burst).messages, 1);
  CHECK_EQUAL(burst.bytes_count, 2 * KVS_BURST_KEPT_BYTES);
  CHECK(memcmp(burst.bytes, large, burst.bytes_count) == 0);
  CHECK(burst.bytes_room < 3 * KVS_BURST_KEPT_BYTES);
  played_text(&socket, "a", 0);
  CHECK_EQUAL(take(&socket, 1, 1, &burst).messages, 1);
  CHECK(burst.bytes_room <= KVS_BURST_KEPT_BYTES);
  CHECK_TEXT(&burst, "a");
  kvs_burst_free(&burst);
  free(large);
}

/* Any messages, any bounds: together the bursts are what was put in, each within its bounds. */
static void any_messages(void) {
  static struct played socket;
  static char from[4096];
  kvs_burst burst = {0};
  for (size_t at = 0; at < sizeof from; at++) from[at] = (char)check_random();
  for (unsigned round = 0; round < 200; round++) {
    size_t part = 0, is_over = 0;
    memset(&socket, 0, sizeof socket);
    while (socket.count < 200 || socket.parts[socket.count - 1].more) {
      size_t bytes = check_below(8) ? check_below(40) : check_below(sizeof from);
      played_put(&socket, from + check_below(sizeof from - bytes + 1), bytes, check_below(3) != 0);
    }
    while (!is_over) {
      size_t messages_max = check_below(20), bytes_max = check_below(9000), row = 0, begin = 0, before_last = 0;
      kvs_lane lane = take(&socket, messages_max, bytes_max, &burst);
      CHECK(lane.messages <= messages_max);
      for (size_t message = 0; message < lane.messages; message++) {
        uint64_t parts = burst.table[row++];
        before_last = begin;
        for (uint64_t nth = 0; nth < parts; nth++, part++) {
          const struct played_part *wanted = &socket.parts[part];
          size_t end = burst.table[row++];
          CHECK_EQUAL(end - begin, wanted->bytes);
          CHECK(memcmp(burst.bytes + begin, wanted->data, wanted->bytes) == 0);
          CHECK_EQUAL(wanted->more, nth + 1 < parts);
          begin = end;
        }
      }
      CHECK(row == burst.table_count && begin == burst.bytes_count && part == socket.at);
      CHECK(lane.messages == 0 || before_last < bytes_max);
      is_over = lane.error == EAGAIN;
    }
    CHECK_EQUAL(part, socket.count);
  }
  kvs_burst_free(&burst);
}

static void finding(void) {
  kvs_zmq found = played_zmq;
  CHECK_EQUAL(kvs_zmq_find("no-such-library.so", &found), KVS_ERR_ARGUMENT);
  CHECK(found.init == played_zmq.init && found.error == played_zmq.error);
}

void tests_of_receive(void) {
  RUN("receive: whole messages, in order, and whether more are there", whole_messages);
  RUN("receive: no more messages than asked for, none after so many bytes", bounds);
  RUN("receive: several sockets, one behind the other", several_sockets);
  RUN("receive: signals are waited out, errors told, half a message is none", errors);
  RUN("receive: without memory one message is lost, and nothing is mistaken for another", no_memory);
  RUN("receive: without any memory", no_memory_at_first);
  RUN("receive: room for what is large is given back", room_is_given_back);
  RUN("receive: any messages within any bounds", any_messages);
  RUN("receive: a library that is not loaded is not found", finding);
}
