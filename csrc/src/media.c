/* Medium names, compared without regard to case and kept in capitals. */
#include "media.h"

#include <string.h>

#include "kvsync.h"

/* GPU; then the host's memory; then what nobody knows; then what lies on disks and in networks. */
static uint8_t speed_of(const char *text) {
  static const char *const slow[] = {"DISK", "STORAGE", "FS", "OBJ", "EXTERNAL", "SHARED_STORAGE"};
  if (strcmp(text, "GPU") == 0) return 0;
  if (strcmp(text, "CPU") == 0 || strcmp(text, "CPU_PINNED") == 0) return 1;
  for (size_t i = 0; i < sizeof slow / sizeof *slow; i++)
    if (strcmp(text, slow[i]) == 0) return 3;
  return 2;
}

/* FNV-1a: the texts are short, few, and compared in full. */
static uint64_t hash_of(const char *text) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (; *text != 0; text++) hash = (hash ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
  return hash;
}

static int find(const struct kvs__media *media, const char *upper) {
  uint32_t found = kvs__map_get(&media->by_hash, hash_of(upper));
  if (found == 0) return -1;
  if (strcmp(kvs__media_name(media, found - 1)->text, upper) == 0) return (int)found - 1;
  for (uint32_t i = 0; i < media->count; i++) /* two names of one hash */
    if (strcmp(kvs__media_name(media, i)->text, upper) == 0) return (int)i;
  return -1;
}

static int add(struct kvs__media *media, struct kvs__memory *memory, const char *upper, size_t bytes) {
  uint32_t number = media->count;
  struct kvs__medium_name **page = &media->pages[number / KVS__MEDIA_PAGE], *name;
  if (number == KVS__MEDIA_PAGE * KVS__MEDIA_PAGES) return -1;
  if (*page == NULL) *page = kvs__alloc_zero(memory, KVS__MEDIA_PAGE * sizeof **page);
  if (*page == NULL) return -1;
  name = &(*page)[number % KVS__MEDIA_PAGE];
  name->text = kvs__alloc(memory, bytes + 1);
  if (name->text == NULL) return -1;
  memcpy(name->text, upper, bytes + 1);
  name->bytes = (uint8_t)bytes;
  name->speed = speed_of(upper);
  if (!kvs__map_set(&media->by_hash, memory, hash_of(upper), number + 1)) {
    kvs__free(memory, name->text, bytes + 1);
    name->text = NULL;
    return -1;
  }
  media->count++;
  return (int)number;
}

int kvs__media_find(struct kvs__media *media, struct kvs__memory *memory, const char *text, size_t bytes,
                    int make) {
  char upper[KVS_MEDIUM_BYTES_MAX + 1];
  int number;
  if (bytes == 0 || bytes > KVS_MEDIUM_BYTES_MAX || memchr(text, 0, bytes) != NULL) return -1;
  for (size_t i = 0; i < bytes; i++)
    upper[i] = text[i] >= 'a' && text[i] <= 'z' ? (char)(text[i] - 'a' + 'A') : text[i];
  upper[bytes] = 0;
  number = find(media, upper);
  return number < 0 && make ? add(media, memory, upper, bytes) : number;
}

int kvs__media_init(struct kvs__media *media, struct kvs__memory *memory) {
  memset(media, 0, sizeof *media);
  if (kvs__media_find(media, memory, "GPU", 3, 1) == (int)KVS__MEDIUM_GPU) return 1;
  kvs__media_end(media, memory);
  return 0;
}

void kvs__media_end(struct kvs__media *media, struct kvs__memory *memory) {
  for (uint32_t i = 0; i < media->count; i++) {
    const struct kvs__medium_name *name = kvs__media_name(media, i);
    kvs__free(memory, name->text, name->bytes + 1u);
  }
  for (uint32_t i = 0; i < KVS__MEDIA_PAGES; i++)
    kvs__free(memory, media->pages[i], KVS__MEDIA_PAGE * sizeof **media->pages);
  kvs__map_end(&media->by_hash, memory);
}
