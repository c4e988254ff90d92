/* One harness as a libFuzzer program: FUZZ_ENTRY names it. */
#include "check.h"
#include "fuzz.h"

struct check_state check_state;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

void check_failed(const char *file, int line, const char *what) {
  fprintf(stderr, "%s:%d: %s\n", file, line, what);
  abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  FUZZ_ENTRY(data, bytes);
  return 0;
}
