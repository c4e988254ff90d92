/* Plays a script (script.h) against the core, so that its instructions can be counted without Python's.
 *
 *   driver SCRIPT
 *
 * The kinds of steps:
 *
 *   p  apply the payload, not counted          m  apply the payload, counted
 *   q  match the tokens (uint32), counted      e  the index must hold so many entries (8 bytes)
 *
 * What is counted runs inside `measured`, which is what valgrind is told to look at:
 *
 *   valgrind --tool=callgrind --toggle-collect=measured driver SCRIPT
 *
 * Prints the number of engines that matched the last question. */
#include "script.h"

uint32_t measured(kvs_index *index, const struct step *step);

__attribute__((noinline)) uint32_t measured(kvs_index *index, const struct step *step) {
  if (step->kind == 'q') return match(index, step);
  apply(index, step);
  return 0;
}

static void expect(kvs_index *index, const uint8_t *data) {
  uint64_t expected;
  kvs_stats stats;
  memcpy(&expected, data, sizeof expected);
  kvs_index_stats(index, &stats);
  if (stats.entries != expected) fail("the index holds another number of entries than the script says");
}

int main(int count, char **arguments) {
  if (count != 2) fail("usage: driver SCRIPT");
  FILE *script = open_script(arguments[1]);
  kvs_index *index = make_index();
  uint32_t engines = 0, matched = 0;
  struct step step;
  while (take_step(script, index, &engines, &step)) {
    if (step.kind == 'p')
      apply(index, &step);
    else if (step.kind == 'e')
      expect(index, step.data);
    else
      matched = measured(index, &step);
    free(step.data);
  }
  printf("%u\n", matched);
  fclose(script);
  kvs_index_destroy(index);
  return 0;
}
