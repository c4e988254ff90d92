/* receive.c against a libzmq that is played: whole messages, within bounds, whatever goes wrong between. */
#include <errno.h>

#include "check.h"
#include "failing.h"
#include "kvsync.h"

#define PARTS_MAX 4096u

/* A part that waits on the socket, or an error in its place. */
struct played {
  const char *data;
  size_t bytes;
  int more;
  int error; /* instead of a part; told once */
};

struct socket {
  struct played parts[PARTS_MAX];
  size_t count;
  size_t at;
};

/* What a message of 64 bytes has in it here. */
struct content {
  const struct played *part;
  uint64_t is_open;
};

static int error_now;
static int64_t messages_open;

static int init(void *message) {
  memset(message, 0, 64);
  ((struct content *)message)->is_open = 1;
  messages_open++;
  return 0;
}

static int receive(void *message, void *socket, int flags) {
  struct socket *from = socket;
  const struct played *next = &from->parts[from->at];
  CHECK_EQUAL(flags, 1); /* ZMQ_DONTWAIT */
  CHECK_EQUAL(((struct content *)message)->is_open, 1);
  error_now = from->at == from->count ? EAGAIN : next->error;
  if (from->at < from->count) from->at++;
  if (error_now) return -1;
  ((struct content *)message)->part = next;
  return (int)next->bytes;
}

static void *data(void *message) { return (void *)(uintptr_t)((struct content *)message)->part->data; }
static size_t size(const void *message) { return ((const struct content *)message)->part->bytes; }
static int more(const void *message) { return ((const struct content *)message)->part->more; }
static int error(void) { return error_now; }

static int close_message(void *message) {
  CHECK_EQUAL(((struct content *)message)->is_open, 1);
  ((struct content *)message)->is_open = 0;
  messages_open--;
  return 0;
}

static const kvs_zmq zmq = {init, receive, data, size, more, close_message, error};

static void put(struct socket *socket, const char *text, int more_follow) {
  socket->parts[socket->count++] = (struct played){text, strlen(text), more_follow, 0};
}

static void put_error(struct socket *socket, int number) {
  socket->parts[socket->count++] = (struct played){.error = number};
}

static kvs_status take(struct socket *socket, size_t messages_max, size_t bytes_max, kvs_burst *burst) {
  kvs_status status = kvs_receive(&zmq, socket, messages_max, bytes_max, burst);
  CHECK_EQUAL(messages_open, 0);
  return status;
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
  static struct socket socket;
  kvs_burst burst = {0};
  CHECK_EQUAL(take(&socket, 9, 99, &burst), KVS_OK);
  CHECK(burst.messages == 0 && burst.is_dry && !burst.error);
  put(&socket, "a", 1), put(&socket, "", 1), put(&socket, "ccc", 0), put(&socket, "alone", 0),
      put(&socket, "", 0);
  CHECK_EQUAL(take(&socket, 9, 99, &burst), KVS_OK);
  CHECK(burst.messages == 3 && burst.is_dry && !burst.error);
  CHECK_EQUAL(burst.largest, 5);
  CHECK_TEXT(&burst, "a||ccc alone ");
  CHECK_EQUAL(take(&socket, 9, 99, &burst), KVS_OK);
  CHECK(burst.messages == 0 && burst.largest == 0 && burst.table_count == 0);
  kvs_burst_free(&burst);
  CHECK(burst.bytes == NULL && burst.table == NULL);
}

static void bounds(void) {
  static struct socket socket;
  kvs_burst burst = {0};
  for (int nth = 0; nth < 3; nth++) put(&socket, "ab", 1), put(&socket, "cd", 0);
  CHECK_EQUAL(take(&socket, 0, 99, &burst), KVS_OK);
  CHECK(burst.messages == 0 && !burst.is_dry);
  CHECK_EQUAL(take(&socket, 9, 0, &burst), KVS_OK);
  CHECK(burst.messages == 0 && !burst.is_dry);
  CHECK_EQUAL(take(&socket, 1, 99, &burst), KVS_OK);
  CHECK(burst.messages == 1 && !burst.is_dry);
  CHECK_EQUAL(take(&socket, 9, 1, &burst), KVS_OK); /* one is whole before its bytes are counted */
  CHECK(burst.messages == 1 && !burst.is_dry);
  CHECK_EQUAL(take(&socket, 9, 5, &burst), KVS_OK);
  CHECK(burst.messages == 1 && burst.is_dry);
  CHECK_EQUAL(socket.at, socket.count);
  kvs_burst_free(&burst);
}

static void errors(void) {
  static struct socket socket;
  kvs_burst burst = {0};
  put(&socket, "a", 1), put_error(&socket, EINTR), put_error(&socket, EINTR), put(&socket, "b", 0);
  put_error(&socket, ENOTSOCK);
  CHECK_EQUAL(take(&socket, 9, 99, &burst), KVS_OK);
  CHECK_EQUAL(burst.error, ENOTSOCK);
  CHECK(!burst.is_dry);
  CHECK_TEXT(&burst, "a|b");
  put(&socket, "c", 0), put(&socket, "half", 1), put_error(&socket, ENOTSOCK);
  CHECK_EQUAL(take(&socket, 9, 99, &burst), KVS_OK);
  CHECK_EQUAL(burst.error, ENOTSOCK);
  CHECK_TEXT(&burst, "c");
  CHECK_EQUAL(burst.largest, 1);
  CHECK_EQUAL(take(&socket, 9, 99, &burst), KVS_OK);
  CHECK(burst.is_dry && !burst.error);
  kvs_burst_free(&burst);
}

/* The first message always fits; the second is refused room at its nth request, and the third is met whole. */
static void no_memory(void) {
  static char large[40000];
  unsigned refused = 0;
  memset(large, 'x', sizeof large - 1);
  for (uint64_t nth = 1; nth < 8; nth++) {
    static struct socket socket;
    kvs_burst burst = {0};
    kvs_status status;
    memset(&socket, 0, sizeof socket);
    put(&socket, "a", 1), put(&socket, "b", 0);
    CHECK_EQUAL(take(&socket, 1, 99, &burst), KVS_OK);
    put(&socket, "c", 0), put(&socket, large, 1), put(&socket, large, 1), put(&socket, "e", 0),
        put(&socket, "f", 0);
    failing_begin(nth);
    status = take(&socket, 9, 99999, &burst);
    if (failing_end() < nth) {
      CHECK_EQUAL(status, KVS_OK);
      CHECK_EQUAL(burst.messages, 3);
    } else {
      refused++;
      CHECK_EQUAL(status, KVS_ERR_MEMORY);
      CHECK_TEXT(&burst, "c");
      CHECK_EQUAL(take(&socket, 9, 99999, &burst), KVS_OK);
      CHECK_TEXT(&burst, "f");
    }
    kvs_burst_free(&burst);
  }
  CHECK_EQUAL(refused, 2);
}

/* Also a burst that cannot even begin. */
static void no_memory_at_first(void) {
  for (uint64_t nth = 1; nth <= 2; nth++) {
    static struct socket socket;
    kvs_burst burst = {0};
    memset(&socket, 0, sizeof socket);
    put(&socket, "a", 1), put(&socket, "b", 0), put(&socket, "c", 0);
    failing_begin(nth);
    CHECK_EQUAL(take(&socket, 9, 99, &burst), KVS_ERR_MEMORY);
    failing_end();
    CHECK_EQUAL(burst.messages, 0);
    CHECK_EQUAL(take(&socket, 9, 99, &burst), KVS_OK);
    CHECK_TEXT(&burst, "c");
    kvs_burst_free(&burst);
  }
}

static void room_is_given_back(void) {
  static struct socket socket;
  kvs_burst burst = {0};
  char *large = check_alloc(2 * KVS_BURST_KEPT_BYTES);
  memset(large, 'x', 2 * KVS_BURST_KEPT_BYTES);
  socket.parts[socket.count++] = (struct played){large, 2 * KVS_BURST_KEPT_BYTES, 0, 0};
  CHECK_EQUAL(take(&socket, 1, 1, &burst), KVS_OK);
  CHECK_EQUAL(burst.bytes_count, 2 * KVS_BURST_KEPT_BYTES);
  CHECK(memcmp(burst.bytes, large, burst.bytes_count) == 0);
  CHECK(burst.bytes_room < 3 * KVS_BURST_KEPT_BYTES);
  put(&socket, "a", 0);
  CHECK_EQUAL(take(&socket, 1, 1, &burst), KVS_OK);
  CHECK(burst.bytes_room <= KVS_BURST_KEPT_BYTES);
  CHECK_TEXT(&burst, "a");
  kvs_burst_free(&burst);
  free(large);
}

/* Any messages, any bounds: together the bursts are what was put in, each within its bounds. */
static void any_messages(void) {
  static struct socket socket;
  static char from[4096];
  kvs_burst burst = {0};
  for (size_t at = 0; at < sizeof from; at++) from[at] = (char)check_random();
  for (unsigned round = 0; round < 200; round++) {
    size_t part = 0, is_over = 0;
    memset(&socket, 0, sizeof socket);
    while (socket.count < 200 || socket.parts[socket.count - 1].more) {
      size_t bytes = check_below(8) ? check_below(40) : check_below(sizeof from);
      socket.parts[socket.count++] =
          (struct played){from + check_below(sizeof from - bytes + 1), bytes, check_below(3) != 0, 0};
    }
    while (!is_over) {
      size_t messages_max = check_below(20), bytes_max = check_below(9000), row = 0, begin = 0, before_last = 0;
      CHECK_EQUAL(take(&socket, messages_max, bytes_max, &burst), KVS_OK);
      CHECK(burst.messages <= messages_max);
      for (size_t message = 0; message < burst.messages; message++) {
        uint64_t parts = burst.table[row++];
        before_last = begin;
        for (uint64_t nth = 0; nth < parts; nth++, part++) {
          const struct played *wanted = &socket.parts[part];
          size_t end = burst.table[row++];
          CHECK_EQUAL(end - begin, wanted->bytes);
          CHECK(memcmp(burst.bytes + begin, wanted->data, wanted->bytes) == 0);
          CHECK_EQUAL(wanted->more, nth + 1 < parts);
          begin = end;
        }
      }
      CHECK(row == burst.table_count && begin == burst.bytes_count && part == socket.at);
      CHECK(burst.messages == 0 || before_last < bytes_max);
      is_over = burst.is_dry;
    }
    CHECK_EQUAL(part, socket.count);
  }
  kvs_burst_free(&burst);
}

static void finding(void) {
  kvs_zmq found = zmq;
  CHECK_EQUAL(kvs_zmq_find("no-such-library.so", &found), KVS_ERR_ARGUMENT);
  CHECK(found.init == init && found.error == error);
}

void tests_of_receive(void) {
  RUN("receive: whole messages, in order, and whether more are there", whole_messages);
  RUN("receive: no more messages than asked for, none after so many bytes", bounds);
  RUN("receive: signals are waited out, errors told, half a message is none", errors);
  RUN("receive: without memory one message is lost, and nothing is mistaken for another", no_memory);
  RUN("receive: without any memory", no_memory_at_first);
  RUN("receive: room for what is large is given back", room_is_given_back);
  RUN("receive: any messages within any bounds", any_messages);
  RUN("receive: a library that is not loaded is not found", finding);
}
