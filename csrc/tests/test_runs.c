/* runs.c: blocks of prompts that share beginnings, held against a tree of plain records. */
#include "runs.h"

#include "check.h"

#define NODES 6000u

/* One block that was made at some time. */
struct node {
  uint64_t hash;
  uint32_t parent; /* node, or NODES */
  uint32_t depth;
  uint32_t set; /* 0 = held by nobody */
  uint32_t slot;
};

struct fixture {
  struct kvs__runs runs;
  struct kvs__segments segments;
  struct kvs__memory memory;
  struct node nodes[NODES];
  uint32_t count;
  uint64_t held;
};

static struct fixture *begin(void) {
  struct fixture *fixture = check_alloc(sizeof *fixture);
  memset(fixture, 0, sizeof *fixture);
  kvs__segments_init(&fixture->segments);
  kvs__runs_init(&fixture->runs);
  return fixture;
}

static void end(struct fixture *fixture) {
  kvs__runs_end(&fixture->runs, &fixture->segments, &fixture->memory);
  kvs__segments_end(&fixture->segments, &fixture->memory);
  CHECK_EQUAL(fixture->memory.used, 0);
  free(fixture);
}

static uint32_t parent_slot(const struct fixture *fixture, const struct node *node) {
  if (node->parent == NODES || fixture->nodes[node->parent].set == 0) return KVS__SLOT_NONE;
  return fixture->nodes[node->parent].slot;
}

/* Children are made under held parents only, as the index does. 0 = out of memory. */
static int hold(struct fixture *fixture, uint32_t number) {
  struct node *node = &fixture->nodes[number];
  uint32_t slot;
  if (node->set != 0) return 1;
  if (node->parent != NODES && fixture->nodes[node->parent].set == 0) return 1;
  slot = kvs__runs_make(&fixture->runs, &fixture->segments, &fixture->memory, parent_slot(fixture, node),
                        node->hash, node->depth, 1 + (uint32_t)check_below(5));
  if (slot == KVS__SLOT_NONE) return 0;
  node->slot = slot;
  node->set = 1 + (uint32_t)check_below(3);
  kvs__slot_put(&fixture->runs, slot, node->set);
  fixture->held++;
  return 1;
}

static void let_go(struct fixture *fixture, uint32_t number) {
  struct node *node = &fixture->nodes[number];
  if (node->set == 0) return;
  CHECK(kvs__slot_remove(&fixture->runs, &fixture->segments, &fixture->memory, node->slot));
  node->set = 0;
  fixture->held--;
}

static uint32_t add(struct fixture *fixture, uint32_t parent) {
  struct node *node = &fixture->nodes[fixture->count];
  node->hash = check_random();
  node->parent = parent;
  node->depth = parent == NODES ? 0 : fixture->nodes[parent].depth + 1;
  return fixture->count++;
}

static void agree(const struct fixture *fixture) {
  CHECK_EQUAL(fixture->runs.blocks, fixture->held);
  for (uint32_t i = 0; i < fixture->count; i++) {
    const struct node *node = &fixture->nodes[i];
    if (node->set == 0) continue;
    CHECK_EQUAL(kvs__slot_hash(&fixture->runs, node->slot), node->hash);
    CHECK_EQUAL(kvs__slot_set(&fixture->runs, node->slot), node->set);
    CHECK_EQUAL(kvs__slot_depth(&fixture->runs, node->slot), node->depth);
    /* From its parent, or, once that is gone, from nowhere: always the same record. */
    CHECK_EQUAL(kvs__runs_find(&fixture->runs, parent_slot(fixture, node), node->hash), node->slot);
  }
}

/* Prompts branch anywhere, grow anywhere, and lose blocks anywhere; every held block is found from its parent. */
static void like_a_tree(void) {
  for (unsigned life = 0; life < 6; life++) {
    struct fixture *fixture = begin();
    while (fixture->count < NODES) {
      uint64_t kind = check_below(100);
      uint32_t last = fixture->count == 0 ? NODES : fixture->count - 1;
      if (kind < 3 || fixture->count == 0)
        CHECK(hold(fixture, add(fixture, NODES)));
      else if (kind < 60)
        CHECK(hold(fixture, add(fixture, fixture->nodes[last].set != 0 ? last : NODES)));
      else if (kind < 66)
        CHECK(hold(fixture, add(fixture, (uint32_t)check_below(fixture->count))));
      else if (kind < 82)
        let_go(fixture, (uint32_t)check_below(fixture->count));
      else
        CHECK(hold(fixture, (uint32_t)check_below(fixture->count)));
      if (fixture->count % 500 == 0) agree(fixture);
    }
    agree(fixture);
    for (uint32_t i = 0; i < NODES; i++) let_go(fixture, i);
    CHECK_EQUAL(fixture->runs.heads.count, 0);
    CHECK_EQUAL(fixture->runs.blocks, 0);
    end(fixture);
  }
}

/* A long prompt is runs of 64 and nearly nothing beside 12 bytes a block; taken from the tail it gives all back. */
static void a_long_prompt(void) {
  struct fixture *fixture = begin();
  uint32_t last = NODES;
  for (uint32_t i = 0; i < 4096; i++) {
    last = add(fixture, last);
    CHECK(hold(fixture, last));
  }
  agree(fixture);
  CHECK_EQUAL(fixture->runs.heads.count, 4096 / KVS__RUN_BLOCKS);
  for (int i = 0; i < KVS__RUN_ROOMS - 1; i++) CHECK_EQUAL(fixture->runs.pools[i].count, 0);
  for (uint32_t i = 4096; i-- > 64;) let_go(fixture, i);
  agree(fixture);
  CHECK_EQUAL(fixture->runs.heads.count, 1);
  end(fixture);
}

/* Blocks taken out anywhere leave no room behind. */
static void sparse_prompts(void) {
  struct fixture *fixture = begin();
  uint32_t last = NODES;
  uint64_t full;
  for (uint32_t i = 0; i < NODES; i++) {
    last = add(fixture, i % 1000 == 0 ? NODES : last);
    CHECK(hold(fixture, last));
  }
  full = fixture->memory.used;
  for (uint32_t i = 0; i < NODES; i++)
    if (check_below(10) != 0) let_go(fixture, i);
  agree(fixture);
  CHECK(fixture->memory.used < full * 3 / 4); /* each of the few that are left has a head now */
  for (uint32_t i = 0; i < NODES; i++) CHECK(hold(fixture, i));
  agree(fixture);
  end(fixture);
}

static void no_memory_changes_nothing(void) {
  for (uint64_t n = 1; n < 200; n++) {
    struct fixture *fixture = begin();
    uint32_t last = NODES;
    int failed = 0;
    fixture->memory.fail_at = n;
    for (uint32_t i = 0; i < 1500; i++) {
      uint32_t parent = i % 7 == 0 ? NODES : last;
      last = add(fixture, parent);
      if (!hold(fixture, last)) {
        failed++;
        CHECK(hold(fixture, last));
      }
    }
    CHECK(failed <= 1);
    agree(fixture);
    end(fixture);
  }
}

void tests_of_runs(void) {
  RUN("runs: like a tree", like_a_tree);
  RUN("runs: a long prompt", a_long_prompt);
  RUN("runs: sparse prompts", sparse_prompts);
  RUN("runs: no memory changes nothing", no_memory_changes_nothing);
}
