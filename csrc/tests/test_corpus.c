/* What the fuzzers know, replayed: every file below ../fuzz/corpus through its harness, without a fuzzer. */
#include <dirent.h>
#include <sys/stat.h>

#include "check.h"
#include "fuzz.h"

/* The file's bytes at the end of an allocation of their own. */
static uint8_t *read_whole(const char *path, size_t *bytes) {
  struct stat facts;
  FILE *file = fopen(path, "rb");
  uint8_t *data = NULL;
  if (!CHECK(file != NULL)) return NULL;
  if (CHECK(fstat(fileno(file), &facts) == 0)) {
    *bytes = (size_t)facts.st_size;
    data = check_alloc(*bytes);
    CHECK_EQUAL(fread(data, 1, *bytes, file), *bytes);
  }
  fclose(file);
  return data;
}

static void replay(const char *folder, void (*harness)(const uint8_t *data, size_t bytes)) {
  struct dirent **names = NULL;
  int files = 0, count = scandir(folder, &names, NULL, alphasort);
  if (!CHECK(count > 0)) return;
  for (int i = 0; i < count; i++) {
    uint64_t failures = check_state.failures;
    size_t bytes = 0;
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
    if (names[i]->d_name[0] != '.') {
      uint8_t *data = read_whole(path, &bytes);
      if (data != NULL) harness(data, bytes);
      free(data);
      files++;
    }
    if (check_state.failures > failures) fprintf(stderr, "    in %s\n", path);
    free(names[i]);
  }
  free(names);
  CHECK(files > 0);
}

static void payloads(void) { replay(KVSYNC_CORPUS "/payload", fuzz_payload); }
static void operations(void) { replay(KVSYNC_CORPUS "/operations", fuzz_operations); }

void tests_of_corpus(void) {
  RUN("corpus: payloads that once meant something leave a sound index", payloads);
  RUN("corpus: operations give what the plain model gives", operations);
}
