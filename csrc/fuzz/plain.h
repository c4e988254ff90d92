/* The rules of docs/design/index.md for engines with one group of full attention, over 128 blocks and three media: arrays,
 * loops, and nothing that could be clever.
 *
 * A block is a number, and its engine hash always means that block. So "tied" is said of a hash, not of an entry: when one
 * entry of a hash is tied, all of them are. A removed hash that stays known until its frame ends is a ghost. */
#ifndef PLAIN_H
#define PLAIN_H

#include <stdint.h>
#include <string.h>

#include "kvsync.h"

#define PLAIN_BLOCKS 128
#define PLAIN_MEDIA 3 /* GPU, CPU, DISK: by speed */
#define PLAIN_NONE (-1)

struct plain_medium {
  int named;
  kvs_trust trust;
  uint32_t copies[PLAIN_BLOCKS];
  uint8_t doubtful[PLAIN_BLOCKS];
  uint8_t orphan[PLAIN_BLOCKS]; /* waits for its parent's block */
};

struct plain {
  struct plain_medium media[PLAIN_MEDIA];
  uint8_t known[PLAIN_BLOCKS]; /* tied, held or ghost */
  int heard, complete, begun, dialect;
  int64_t sequence;
  uint64_t lives;
  kvs_applied applied; /* by the frame that is told */
};

/* One prompt of 80 blocks, two that part from it after 40 and after 64, and one of its own. */
static inline int plain_parent(int block) {
  switch (block) {
    case 0: return PLAIN_NONE;
    case 80: return 39;
    case 96: return 63;
    case 112: return PLAIN_NONE;
    default: return block - 1;
  }
}

static inline int plain_held(const struct plain *plain, int block) {
  for (int m = 0; m < PLAIN_MEDIA; m++)
    if (plain->media[m].copies[block] > 0) return 1;
  return 0;
}

/* ---- lives and trust ---- */

static inline void plain_begin(struct plain *plain) {
  memset(plain, 0, sizeof *plain);
  plain->lives = 1;
  plain->sequence = -1;
}

static inline void plain_restart(struct plain *plain) {
  uint64_t lives = plain->lives + 1;
  plain_begin(plain);
  plain->lives = lives;
  plain->heard = 1;
  plain->media[0].named = 1;
  plain->media[0].trust = KVS_TRUST_PARTIAL;
}

static inline void plain_name(struct plain *plain, int m) {
  if (plain->media[m].named) return;
  plain->media[m].named = 1;
  plain->media[m].trust = plain->complete ? KVS_TRUST_EXACT : KVS_TRUST_PARTIAL;
}

/* A stale medium without a doubtful entry is partial. */
static inline void plain_settle(struct plain_medium *medium) {
  if (medium->trust != KVS_TRUST_STALE) return;
  for (int b = 0; b < PLAIN_BLOCKS; b++)
    if (medium->doubtful[b]) return;
  medium->trust = KVS_TRUST_PARTIAL;
}

static inline void plain_doubt(struct plain_medium *medium) {
  if (!medium->named) return;
  for (int b = 0; b < PLAIN_BLOCKS; b++) medium->doubtful[b] = medium->copies[b] > 0;
  medium->trust = KVS_TRUST_STALE;
  plain_settle(medium);
}

static inline void plain_doubt_all(struct plain *plain) {
  plain->complete = 0;
  for (int m = 0; m < PLAIN_MEDIA; m++) plain_doubt(&plain->media[m]);
}

static inline kvs_trust plain_trust(const struct plain *plain) {
  kvs_trust worst = plain->heard ? KVS_TRUST_EXACT : KVS_TRUST_UNKNOWN;
  for (int m = 0; m < PLAIN_MEDIA; m++)
    if (plain->heard && plain->media[m].named && plain->media[m].trust > worst) worst = plain->media[m].trust;
  return worst;
}

/* ---- dropping ---- */

/* Ghosts go: a hash that nobody holds is not known. */
static inline void plain_forget(struct plain *plain) {
  for (int b = 0; b < PLAIN_BLOCKS; b++)
    if (!plain_held(plain, b)) plain->known[b] = 0;
}

static inline void plain_drop(struct plain *plain, int m) {
  struct plain_medium *medium = &plain->media[m];
  memset(medium->copies, 0, sizeof medium->copies);
  memset(medium->doubtful, 0, sizeof medium->doubtful);
  memset(medium->orphan, 0, sizeof medium->orphan);
  medium->trust = KVS_TRUST_EXACT;
  plain_forget(plain);
}

static inline void plain_clear_all(struct plain *plain) {
  plain->media[0].named = 1;
  for (int m = 0; m < PLAIN_MEDIA; m++) plain_drop(plain, m);
  plain->heard = plain->complete = plain->begun = 1;
  plain->sequence = -1;
}

/* ---- frames ---- */

/* 0 = it was applied before. */
static inline int plain_frame_begin(struct plain *plain, int64_t sequence) {
  memset(&plain->applied, 0, sizeof plain->applied);
  if (plain->sequence >= 0 && sequence >= 0 && sequence <= plain->sequence) return 0;
  plain->heard = 1;
  plain->media[0].named = 1;
  if (!plain->begun) {
    plain->complete = sequence == 0;
    for (int m = 0; m < PLAIN_MEDIA; m++)
      plain->media[m].trust = plain->complete ? KVS_TRUST_EXACT : KVS_TRUST_PARTIAL;
  } else if (plain->sequence >= 0 && sequence > plain->sequence + 1) {
    plain_doubt_all(plain);
  }
  plain->begun = 1;
  if (sequence >= 0) plain->sequence = sequence;
  return 1;
}

static inline void plain_frame_end(struct plain *plain) { plain_forget(plain); }

/* A hash got its block: no entry of it waits any more, and who waited for it is tied too. */
static inline void plain_tie(struct plain *plain, int block) {
  plain->known[block] = 1;
  for (int m = 0; m < PLAIN_MEDIA; m++) plain->media[m].orphan[block] = 0;
  for (int child = block + 1; child < PLAIN_BLOCKS; child++)
    for (int m = 0; m < PLAIN_MEDIA; m++)
      if (plain->media[m].orphan[child] && plain_parent(child) == block) plain_tie(plain, child);
}

static inline void plain_enter(struct plain *plain, int m, int block, int again) {
  struct plain_medium *medium = &plain->media[m];
  int fresh = medium->copies[block] == 0;
  if (fresh || medium->doubtful[block])
    medium->copies[block] = 1;
  else if (!again)
    medium->copies[block]++;
  medium->doubtful[block] = 0;
  if (again && !fresh)
    plain->applied.reannounced++;
  else
    plain->applied.stored++;
}

/* The parent was never stored: on an exact GPU, that is evidence of loss. */
static inline void plain_look_for_loss(struct plain *plain, int m, int parent) {
  if (parent < 0 || plain->known[parent] || plain_held(plain, parent)) return;
  if (m != 0 || plain->media[m].trust != KVS_TRUST_EXACT) return;
  plain->complete = 0;
  plain_doubt(&plain->media[m]);
}

static inline int plain_is_told_again(const struct plain *plain, int m, const int *blocks, int count) {
  if (m != 0 || plain_parent(blocks[0]) >= 0) return 0;
  if (plain->media[m].trust != KVS_TRUST_EXACT) return 1;
  if (count < 2) return 0;
  for (int i = 0; i < count; i++)
    if (plain->media[m].copies[blocks[i]] == 0) return 0;
  return 1;
}

/* With tokens: each block is the parent of the next. Without: a placeholder for any blocks. */
static inline void plain_stored(struct plain *plain, int m, const int *blocks, int count, int tokens,
                                int dialect) {
  int again = 0;
  plain_name(plain, m);
  if (tokens) {
    plain->dialect = dialect;
    plain_look_for_loss(plain, m, plain_parent(blocks[0]));
    again = plain_is_told_again(plain, m, blocks, count);
  }
  for (int i = 0; i < count; i++) {
    int block = blocks[i], parent = plain_parent(block);
    plain_enter(plain, m, block, again);
    if (!tokens || plain->known[block]) continue;
    if (parent < 0 || plain->known[parent])
      plain_tie(plain, block);
    else
      plain->media[m].orphan[block] = 1;
  }
  plain_settle(&plain->media[m]);
}

static inline void plain_removed(struct plain *plain, int m, const int *blocks, int count) {
  struct plain_medium *medium = &plain->media[m];
  plain_name(plain, m);
  for (int i = 0; i < count; i++) {
    int block = blocks[i];
    if (medium->copies[block] == 0) {
      if (medium->trust != KVS_TRUST_EXACT) continue;
      plain->complete = 0;
      plain_doubt(medium);
      continue;
    }
    plain->applied.removed++;
    medium->copies[block] = medium->doubtful[block] ? 0 : medium->copies[block] - 1;
    if (medium->copies[block] > 0) continue;
    medium->doubtful[block] = medium->orphan[block] = 0;
  }
  plain_settle(medium);
}

static inline void plain_cleared(struct plain *plain) {
  for (int b = 0; b < PLAIN_BLOCKS; b++) plain->applied.cleared += plain->media[0].copies[b] > 0;
  plain_drop(plain, 0);
  for (int m = 1; m < PLAIN_MEDIA; m++) plain_doubt(&plain->media[m]);
}

/* ---- match ---- */

/* How many leading blocks of a prompt it holds, and how many of those lie on each medium as the fastest. */
static inline uint32_t plain_match(const struct plain *plain, const int *prompt, int count, uint32_t *fastest) {
  int n = 0;
  memset(fastest, 0, PLAIN_MEDIA * sizeof *fastest);
  for (; n < count && plain->known[prompt[n]] && plain_held(plain, prompt[n]); n++) {
    int m = 0;
    while (plain->media[m].copies[prompt[n]] == 0) m++;
    fastest[m]++;
  }
  return (uint32_t)n;
}

#endif
