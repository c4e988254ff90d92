/* Models: their names, the chains that must be hashed and walked for each, and what stores teach of them. */
#include "models.h"

#include <string.h>

int kvs__model_number(kvs_index *index, const char *name, size_t bytes, uint32_t *number) {
  struct kvs__model *grown;
  char *copy;
  for (uint32_t i = 0; i < index->models_count; i++) {
    if (index->models[i].name_bytes != bytes) continue;
    if (bytes > 0 && memcmp(index->models[i].name, name, bytes) != 0) continue;
    *number = i;
    return 1;
  }
  copy = kvs__alloc_zero(&index->memory, bytes + 1);
  if (copy == NULL) return 0;
  grown = kvs__resize(&index->memory, index->models, index->models_count * sizeof *grown,
                      (index->models_count + 1) * sizeof *grown);
  if (grown == NULL) {
    kvs__free(&index->memory, copy, bytes + 1);
    return 0;
  }
  if (bytes > 0) memcpy(copy, name, bytes);
  index->models = grown;
  memset(&grown[index->models_count], 0, sizeof *grown);
  grown[index->models_count].name = copy;
  grown[index->models_count].name_bytes = bytes;
  *number = index->models_count++;
  return 1;
}

/* ---- chains ---- */

static int has_full_group(const struct kvs__engine *engine) {
  for (int i = 0; i < engine->groups_count; i++)
    if (engine->groups[i].block_size > 0 && engine->groups[i].spec == KVS__SPEC_FULL) return 1;
  return 0;
}

static int chain_add(kvs_index *index, struct kvs__model *model, uint32_t block_size, uint8_t dialect,
                     uint8_t endless) {
  for (uint32_t i = 0; i < model->chains_count; i++) {
    if (model->chains[i].block_size != block_size || model->chains[i].dialect != dialect) continue;
    model->chains[i].endless |= endless;
    return 1;
  }
  if (model->chains_count == model->chains_capacity) {
    struct kvs__chain *grown =
        kvs__list_grow(&index->memory, model->chains, &model->chains_capacity, 4, sizeof *grown);
    if (grown == NULL) return 0;
    model->chains = grown;
  }
  model->chains[model->chains_count].block_size = block_size;
  model->chains[model->chains_count].dialect = dialect;
  model->chains[model->chains_count].endless = endless;
  model->chains_count++;
  return 1;
}

int kvs__model_refresh(kvs_index *index, uint32_t number) {
  struct kvs__model *model = &index->models[number];
  int whole = 1;
  model->chains_count = 0;
  index->memory.urgent++;
  for (uint32_t i = 0; i < index->engines_count; i++) {
    const struct kvs__engine *engine = index->engines[i];
    uint32_t main_size = 0;
    int full;
    if (engine == NULL || engine->model != number || engine->dialect == KVS_DIALECT_NONE) continue;
    full = has_full_group(engine);
    for (int g = 0; g < engine->groups_count; g++) {
      const struct kvs__group *group = &engine->groups[g];
      if (group->block_size == 0) continue;
      if (full && group->spec == KVS__SPEC_FULL && main_size == 0) main_size = group->block_size;
    }
    for (int g = 0; g < engine->groups_count; g++) {
      const struct kvs__group *group = &engine->groups[g];
      if (group->block_size == 0) continue;
      whole &=
          chain_add(index, model, group->block_size, engine->dialect, !full || group->block_size != main_size);
    }
  }
  index->memory.urgent--;
  return whole;
}

/* ---- learning ---- */

static int text_is(const struct kvs__text *text, const char *word) {
  return text->at != NULL && text->bytes == strlen(word) && memcmp(text->at, word, text->bytes) == 0;
}

static uint8_t spec_told(const struct kvs__text *text) {
  if (text_is(text, "mamba")) return KVS__SPEC_STATE;
  if (text_is(text, "sliding_window") || text_is(text, "sliding_window_mla")) return KVS__SPEC_WINDOW;
  return KVS__SPEC_FULL;
}

int kvs__model_learn(kvs_index *index, struct kvs__engine *engine, struct kvs__group *group,
                     const struct kvs__event *event) {
  struct kvs__group before = *group;
  uint8_t dialect = engine->dialect;
  if (event->block_size > group->block_size) group->block_size = event->block_size;
  if (event->window >= 0) group->window = event->window;
  if (event->spec_kind.at != NULL) group->told = spec_told(&event->spec_kind);
  group->spec = group->told == KVS__SPEC_WINDOW && group->window < 0 ? KVS__SPEC_FULL : group->told;
  engine->dialect = event->dialect;
  if (dialect == engine->dialect && before.block_size == group->block_size && before.spec == group->spec)
    return 1;
  if (kvs__model_refresh(index, engine->model)) return 1;
  /* No query would walk the new chain, so its blocks must not be there. The old chains need no memory again. */
  *group = before;
  engine->dialect = dialect;
  (void)kvs__model_refresh(index, engine->model);
  return 0;
}
