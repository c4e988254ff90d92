#include "played.h"

#include <errno.h>

#include "check.h"

/* What a message of 64 bytes has in it here. */
struct content {
  const struct played_part *part;
  uint64_t is_open;
};

int64_t played_open;
static int error_now;

static int init(void *message) {
  memset(message, 0, 64);
  ((struct content *)message)->is_open = 1;
  played_open++;
  return 0;
}

static int receive(void *message, void *socket, int flags) {
  struct played *from = socket;
  const struct played_part *next = &from->parts[from->at];
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
  played_open--;
  return 0;
}

const kvs_zmq played_zmq = {init, receive, data, size, more, close_message, error};

void played_put(struct played *socket, const void *bytes, size_t count, int more_follow) {
  CHECK(socket->count < PLAYED_PARTS_MAX);
  socket->parts[socket->count++] = (struct played_part){bytes, count, more_follow, 0};
}

void played_text(struct played *socket, const char *text, int more_follow) {
  played_put(socket, text, strlen(text), more_follow);
}

void played_error(struct played *socket, int number) {
  socket->parts[socket->count++] = (struct played_part){.error = number};
}
