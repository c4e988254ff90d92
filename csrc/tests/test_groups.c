/* Hybrid models: n blocks are reusable where every group would hit. Held against counting by hand, over random holdings. */
#include "check.h"
#include "kvsync.h"
#include "scene.h"

#define GROUPS_MAX 4u
#define TOKENS 96u

enum kind { FULL, WINDOW, STATE };

struct group {
  enum kind kind;
  uint32_t block_size;
  int64_t window; /* tokens */
  uint8_t held[TOKENS]; /* by block */
};

static const char *const SPECS[] = {"full_attention", "sliding_window", "mamba"};

/* Tell the engine all blocks of a group, then remove those that are not to be held. */
static void tell_group(struct scene *scene, uint32_t number, const struct group *group) {
  uint32_t tokens[TOKENS], count = TOKENS / group->block_size;
  uint64_t hashes[TOKENS];
  struct wire_stored event = {WIRE_NIL};
  for (uint32_t i = 0; i < TOKENS; i++) tokens[i] = i;
  for (uint32_t i = 0; i < count; i++) hashes[i] = i + 1; /* the same names in every group, as engines do */
  event.hashes = hashes;
  event.hashes_count = count;
  event.tokens = tokens;
  event.tokens_count = count * group->block_size;
  event.block_size = group->block_size;
  event.group = number;
  event.spec_kind = SPECS[group->kind];
  event.window = group->kind == WINDOW ? group->window : -1;
  CHECK_EQUAL(tell_stored(scene, 0, &event, check_below(2) ? WIRE_MAP : WIRE_STORED_MAX).stored, count);
  for (uint32_t i = 0; i < count; i++) {
    struct pack pack = {0};
    if (group->held[i]) continue;
    wire_batch_begin(&pack, WIRE_BATCH_3, 1);
    wire_removed(&pack, &hashes[i], 1, 0, "GPU", number, WIRE_MAP);
    wire_batch_end(&pack, WIRE_BATCH_3);
    CHECK_EQUAL(tell(scene, 0, &pack).removed, 1);
  }
}

static int group_hits(const struct group *group, uint32_t tokens) {
  uint32_t n = tokens / group->block_size, needed = n;
  if (tokens % group->block_size != 0) return 0;
  if (group->kind == STATE && n > 1) needed = 1;
  if (group->kind == WINDOW) {
    uint32_t last =
        group->window < 1 ? 0 : ((uint32_t)group->window - 1 + group->block_size - 1) / group->block_size;
    if (last < n) needed = last;
  }
  for (uint32_t i = n - needed; i < n; i++)
    if (!group->held[i]) return 0;
  return 1;
}

/* By trying every length. */
static uint32_t longest_by_hand(const struct group *groups, unsigned count) {
  uint32_t best = 0;
  for (uint32_t tokens = 1; tokens <= TOKENS; tokens++) {
    int all = 1;
    for (unsigned g = 0; g < count; g++) all &= group_hits(&groups[g], tokens);
    if (all) best = tokens;
  }
  return best;
}

static struct group random_group(const uint32_t *sizes, unsigned sizes_count) {
  struct group group = {0};
  uint64_t held = 40 + check_below(60); /* in a hundred, of those after the hole-free beginning */
  uint32_t whole = (uint32_t)check_below(TOKENS);
  group.kind = (enum kind)check_below(3);
  group.block_size = sizes[check_below(sizes_count)];
  group.window = (int64_t)check_below(40);
  for (uint32_t i = 0; i < TOKENS; i++) group.held[i] = i * group.block_size < whole || check_below(100) < held;
  return group;
}

static void agree(const struct group *groups, unsigned count) {
  struct scene scene = scene_begin(NULL, 1);
  uint32_t tokens[TOKENS], wanted = longest_by_hand(groups, count), size = groups[0].block_size;
  kvs_query query = {.tokens = tokens, .tokens_count = TOKENS, .model = SCENE_MODEL, .model_bytes = 5};
  kvs_match_row row;
  for (uint32_t i = 0; i < TOKENS; i++) tokens[i] = i;
  for (unsigned g = 0; g < count; g++) tell_group(&scene, g, &groups[g]);
  for (unsigned g = count; g-- > 0;)
    if (groups[g].kind == FULL) size = groups[g].block_size; /* the first with full attention is counted */
  row = ask(&scene, 0, &query, NULL);
  if (!CHECK_EQUAL(row.tokens, wanted))
    for (unsigned g = 0; g < count; g++)
      fprintf(stderr, "    group %u: %s, blocks of %u, window %d\n", g, SPECS[groups[g].kind],
              groups[g].block_size, (int)groups[g].window);
  CHECK_EQUAL(row.blocks, wanted / size);
  CHECK_EQUAL(trust_of(&scene, 0), KVS_TRUST_EXACT);
  scene_end(&scene);
}

static void random_groups(const uint32_t *sizes, unsigned sizes_count, unsigned rounds) {
  for (unsigned round = 0; round < rounds && check_state.failures == 0; round++) {
    struct group groups[GROUPS_MAX];
    unsigned count = 1 + (unsigned)check_below(GROUPS_MAX);
    for (unsigned g = 0; g < count; g++) groups[g] = random_group(sizes, sizes_count);
    agree(groups, count);
  }
}

static void groups_of_one_block_size(void) {
  static const uint32_t sizes[] = {4};
  random_groups(sizes, 1, 1500);
}

static void groups_of_several_block_sizes(void) {
  static const uint32_t sizes[] = {2, 3, 4, 8, 12};
  random_groups(sizes, 5, 1500);
}

static void a_window_without_a_size_is_full_attention(void) {
  struct group group = {.kind = WINDOW, .block_size = 4, .window = -1};
  struct scene scene = scene_begin(NULL, 1);
  uint32_t tokens[TOKENS];
  kvs_query query = {.tokens = tokens, .tokens_count = TOKENS, .model = SCENE_MODEL, .model_bytes = 5};
  for (uint32_t i = 0; i < TOKENS; i++) {
    tokens[i] = i;
    group.held[i] = i != 2;
  }
  tell_group(&scene, 0, &group);
  CHECK_EQUAL(ask(&scene, 0, &query, NULL).blocks, 2);
  scene_end(&scene);
}

/* Another engine's groups, or an end of the walk for others, change nothing. */
static void neighbours_do_not_matter(void) {
  static const uint32_t sizes[] = {4, 8};
  for (unsigned round = 0; round < 200 && check_state.failures == 0; round++) {
    struct scene both = scene_begin(NULL, 2);
    struct group groups[2] = {random_group(sizes, 2), random_group(sizes, 2)};
    uint32_t tokens[TOKENS];
    kvs_query query = {.tokens = tokens, .tokens_count = TOKENS, .model = SCENE_MODEL, .model_bytes = 5};
    struct telling telling;
    for (uint32_t i = 0; i < TOKENS; i++) tokens[i] = i;
    for (unsigned g = 0; g < 2; g++) tell_group(&both, g, &groups[g]);
    telling_begin(&telling, 1, 0, (uint32_t)check_below(TOKENS / SCENE_BLOCK));
    memcpy(telling.tokens, tokens, sizeof tokens);
    tell_stored(&both, 1, &telling.event, WIRE_MAP);
    CHECK_EQUAL(ask(&both, 0, &query, NULL).tokens, longest_by_hand(groups, 2));
    CHECK_EQUAL(ask(&both, 1, &query, NULL).blocks, telling.event.hashes_count);
    scene_end(&both);
  }
}

void tests_of_groups(void) {
  RUN("groups: of one block size, as counted by hand", groups_of_one_block_size);
  RUN("groups: of several block sizes, as counted by hand", groups_of_several_block_sizes);
  RUN("groups: a window without a size is full attention", a_window_without_a_size_is_full_attention);
  RUN("groups: neighbours do not matter", neighbours_do_not_matter);
}
