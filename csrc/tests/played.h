/* A libzmq that is played: sockets whose messages a test puts there. */
#ifndef PLAYED_H
#define PLAYED_H

#include <stddef.h>
#include <stdint.h>

#include "kvsync.h"

#define PLAYED_PARTS_MAX 4096u

/* A part that waits on the socket, or an error in its place. */
struct played_part {
  const char *data;
  size_t bytes;
  int more;
  int error; /* instead of a part; told once */
};

struct played {
  struct played_part parts[PLAYED_PARTS_MAX];
  size_t count;
  size_t at;
};

extern const kvs_zmq played_zmq;

/* Messages that were begun and not ended. */
extern int64_t played_open;

void played_put(struct played *socket, const void *data, size_t bytes, int more_follow);
void played_text(struct played *socket, const char *text, int more_follow);
void played_error(struct played *socket, int number);

#endif
