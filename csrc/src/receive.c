/* Messages off sockets of libzmq, many in one call.
 *
 * libzmq is not linked: Python has loaded one with its binding, and sockets belong to that one. It is called by the
 * addresses that kvs_zmq_find looks up there. */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvsync.h"

#define DONTWAIT 1
#define TABLE_FIRST 64u
#define BYTES_FIRST ((size_t)16 << 10)

/* zmq_msg_t: 64 bytes of libzmq's own, aligned as a pointer, since 4.1. */
union message {
  void *aligned;
  uint8_t bytes[64];
};

/* A function's address as the pointer that POSIX says it is. */
static int find(void *library, const char *name, void *function) {
  void *address = dlsym(library, name);
  memcpy(function, &address, sizeof address);
  return address != NULL;
}

kvs_status kvs_zmq_find(const char *path, kvs_zmq *zmq) {
  kvs_zmq found;
  void *library = dlopen(path, RTLD_NOW | RTLD_NOLOAD | RTLD_LOCAL);
  int all;
  if (!library) return KVS_ERR_ARGUMENT;
  /* dlsym looks in what the library depends on as well, and so finds a libzmq of its own beside it. */
  all = find(library, "zmq_msg_init", &found.init) & find(library, "zmq_msg_recv", &found.receive) &
        find(library, "zmq_msg_data", &found.data) & find(library, "zmq_msg_size", &found.size) &
        find(library, "zmq_msg_more", &found.more) & find(library, "zmq_msg_close", &found.close) &
        find(library, "zmq_errno", &found.error);
  dlclose(library); /* whoever loaded it keeps it */
  if (!all) return KVS_ERR_ARGUMENT;
  *zmq = found;
  return KVS_OK;
}

/* Room for `more` items behind `count`, `first` if there was none yet; on failure nothing changed. */
static int make_room(void **list, size_t *room, size_t count, size_t more, size_t first, size_t item_bytes) {
  size_t wanted = *room ? *room : first, needed = count + more;
  void *grown;
  if (needed <= *room) return 1;
  while (wanted < needed) wanted *= 2;
  if (wanted * item_bytes > KVS_BURST_KEPT_BYTES) wanted = needed + needed / 4; /* what is large is rare */
  grown = realloc(*list, wanted * item_bytes);
  if (!grown) return 0;
  *list = grown;
  *room = wanted;
  return 1;
}

static int keep(kvs_burst *burst, const void *data, size_t bytes) {
  void *list = burst->bytes, *table = burst->table;
  int has_room = make_room(&list, &burst->bytes_room, burst->bytes_count, bytes, BYTES_FIRST, 1);
  burst->bytes = list;
  has_room = has_room &&
             make_room(&table, &burst->table_room, burst->table_count, 1, TABLE_FIRST, sizeof *burst->table);
  burst->table = table;
  if (!has_room) return 0;
  if (bytes) memcpy(burst->bytes + burst->bytes_count, data, bytes);
  burst->bytes_count += bytes;
  burst->table[burst->table_count++] = burst->bytes_count;
  return 1;
}

/* Receive one part, in spite of signals; 0 or what zmq_errno says. */
static int receive_part(const kvs_zmq *zmq, void *socket, union message *part) {
  while (zmq->receive(part, socket, DONTWAIT) < 0) {
    int error = zmq->error();
    if (error != EINTR) return error;
  }
  return 0;
}

/* Receive all parts of a message behind what is there. 0 or the error; `fits` turns 0 if one of them found no room. */
static int receive_message(const kvs_zmq *zmq, void *socket, union message *part, kvs_burst *burst, int *fits) {
  size_t cells = burst->table_count;
  uint64_t parts = 0;
  int more = 1;
  while (more) {
    int error = receive_part(zmq, socket, part);
    if (error) return error; /* also between parts: libzmq gives whole messages, so the socket is gone */
    if (!parts) *fits = keep(burst, NULL, 0); /* the cell for their number */
    *fits = *fits && keep(burst, zmq->data(part), zmq->size(part));
    more = zmq->more(part);
    parts++;
  }
  if (*fits) burst->table[cells] = parts;
  return 0;
}

/* Take one message, or what is said instead. One that finds no room is dropped as a whole: the rest must not be taken for
 * another. */
static void take(const kvs_zmq *zmq, kvs_lane *lane, union message *part, kvs_burst *burst) {
  size_t bytes = burst->bytes_count, cells = burst->table_count;
  int fits = 1;
  lane->error = receive_message(zmq, lane->socket, part, burst, &fits);
  if (!fits) lane->error = ENOMEM;
  if (lane->error) {
    burst->bytes_count = bytes;
    burst->table_count = cells;
    return;
  }
  lane->messages++;
  bytes = burst->bytes_count - bytes;
  if (bytes > lane->largest) lane->largest = bytes;
}

size_t kvs_receive(const kvs_zmq *zmq, kvs_lane *const *lanes, size_t count, size_t bytes_max,
                   kvs_burst *burst) {
  union message part;
  size_t done = 0;
  if (burst->bytes_room > KVS_BURST_KEPT_BYTES) kvs_burst_free(burst);
  burst->bytes_count = burst->table_count = 0;
  zmq->init(&part);
  while (done < count && (!done || burst->bytes_count < bytes_max)) {
    kvs_lane *lane = lanes[done++];
    lane->messages = lane->followed = lane->largest = 0;
    lane->error = 0;
    while (!lane->error && lane->messages < lane->messages_max && burst->bytes_count < bytes_max)
      take(zmq, lane, &part, burst);
    lane->bytes_end = burst->bytes_count;
    lane->table_end = burst->table_count;
  }
  zmq->close(&part);
  return done;
}

void kvs_burst_free(kvs_burst *burst) {
  free(burst->bytes);
  free(burst->table);
  memset(burst, 0, sizeof *burst);
}
