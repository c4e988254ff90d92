/* One walk along a prompt's chain of blocks.
 *
 *   stretch neighbouring blocks with the same holder set: along a prompt there are few
 *   alive   engines whose counted group has held every block so far; when none is left the walk stops
 *
 * All under the readers' lock: runs name holder sets. */
#ifndef KVS_WALK_H
#define KVS_WALK_H

#include "index.h"
#include "prompt.h"

#define KVS__ANY_DIALECT 0

struct kvs__stretch {
  uint32_t set; /* 0 = held by nobody */
  uint32_t start;
};

#define KVS__ALIVE UINT32_MAX

struct kvs__alive {
  uint32_t engine;
  uint32_t length; /* where it ended; KVS__ALIVE = not yet */
};

struct kvs__walk {
  uint32_t block_size; /* 0 = whatever each engine's is (hashes were given) */
  uint8_t dialect;     /* KVS__ANY_DIALECT where the prompt has nothing that dialects show differently */
  int endless; /* some engine may match behind a hole: the walk goes on when nobody is alive */
  uint32_t length; /* blocks walked */
  struct kvs__stretch *stretches;
  uint32_t stretches_count;
  uint32_t stretches_capacity;
  struct kvs__alive *alive; /* all that held the first block, ascending */
  uint32_t alive_count;     /* of them, those that have not ended */
  uint32_t seen_count;
  uint32_t seen_capacity;
};

struct kvs__asking {
  kvs_index *index;
  const kvs_query *query;
  int64_t model; /* -1 = all */
  const kvs_extra_key **extras; /* by offset */
  uint32_t *only;               /* ascending, NULL = all */
  size_t only_count;
  const uint64_t *hashes; /* given, or NULL */
  size_t hashes_count;
  struct kvs__walk *walks;
  uint32_t walks_count;
};

/* Make room for one item more; 0 = out of memory. */
int kvs__room(void **array, uint32_t *capacity, uint32_t count, size_t size);

/* Does the caller want to hear of this engine? */
int kvs__asked(const struct kvs__asking *asking, uint32_t engine);
/* The group whose blocks are counted: the first full-attention one, else the first. -1 = nothing learned. */
int kvs__main_group(const struct kvs__engine *engine);
/* Is this the walk that sees this group's blocks? */
int kvs__walk_fits(const struct kvs__walk *walk, const struct kvs__engine *engine,
                   const struct kvs__group *group);
/* Is any kind of this engine's group among the holders? */
int kvs__group_holds(const kvs_index *index, const struct kvs__engine *engine, int group, uint32_t set);

/* Walk to the end of what anybody can match. 0 = out of memory. */
int kvs__walk_run(struct kvs__asking *asking, struct kvs__walk *walk);

static inline uint32_t kvs__stretch_end(const struct kvs__walk *walk, uint32_t stretch) {
  return stretch + 1 < walk->stretches_count ? walk->stretches[stretch + 1].start : walk->length;
}

/* groups.c: one engine's longest match in blocks, given how far its counted group was alive; -1 = out of memory. */
int64_t kvs__longest(const struct kvs__asking *asking, const struct kvs__walk *walk,
                     const struct kvs__engine *engine, uint32_t alive_length);

#endif
