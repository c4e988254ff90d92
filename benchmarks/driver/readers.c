/* How long a question takes while nothing else happens, and beside a writer that never rests: no Python, no GIL.
 *
 *   readers SCRIPT LAPS
 *
 * The kinds of steps (script.h):
 *
 *   p  apply the payload first          w  apply the payload again and again, in the writer's thread
 *   q  match the tokens (uint32), LAPS times idle and LAPS times beside the writer
 *
 * Prints one line of JSON: microseconds at the median, at 99 of a hundred and at most; the writer's millions of blocks
 * a second. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "script.h"

#define STEPS_MAX 65536

struct writer {
  kvs_index *index;
  struct step *steps;
  size_t count;
  atomic_int stop;
  uint64_t blocks;
};

static double now_us(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return 1e6 * (double)time.tv_sec + 1e-3 * (double)time.tv_nsec;
}

static void *write_on(void *opaque) {
  struct writer *writer = opaque;
  for (size_t at = 0; !atomic_load(&writer->stop); at = (at + 1) % writer->count) {
    const struct step *step = &writer->steps[at];
    kvs_applied applied;
    must(kvs_index_apply(writer->index, step->engine, step->data, step->bytes, -1, &applied));
    writer->blocks += applied.stored + applied.removed;
  }
  return NULL;
}

static int compare(const void *left, const void *right) {
  double a = *(const double *)left, b = *(const double *)right;
  return (a > b) - (a < b);
}

/* Ask `laps` times and print what it took; how many engines matched. */
static uint32_t ask(kvs_index *index, const struct step *question, size_t laps, const char *name,
                    double *seconds) {
  double *took = malloc(laps * sizeof *took), began = now_us();
  uint32_t matched = 0;
  if (took == NULL) fail("out of memory");
  for (size_t lap = 0; lap < laps; lap++) {
    double start = now_us();
    matched = match(index, question);
    took[lap] = now_us() - start;
  }
  *seconds = 1e-6 * (now_us() - began);
  qsort(took, laps, sizeof *took, compare);
  printf("\"%s\": {\"p50\": %.2f, \"p99\": %.2f, \"max\": %.2f, ", name, took[laps / 2], took[laps * 99 / 100],
         took[laps - 1]);
  free(took);
  return matched;
}

int main(int count, char **arguments) {
  if (count != 3) fail("usage: readers SCRIPT LAPS");
  FILE *script = open_script(arguments[1]);
  size_t laps = strtoul(arguments[2], NULL, 10);
  struct writer writer = {.index = make_index(), .steps = calloc(STEPS_MAX, sizeof(struct step))};
  struct step step, question = {0};
  uint32_t engines = 0;
  if (writer.steps == NULL || laps == 0) fail("give a number of laps above 0");
  while (take_step(script, writer.index, &engines, &step)) {
    if (step.kind == 'q') {
      question = step;
    } else if (step.kind == 'w') {
      if (writer.count == STEPS_MAX) fail("the script has too many steps for the writer");
      writer.steps[writer.count++] = step;
    } else {
      apply(writer.index, &step);
      free(step.data);
    }
  }
  fclose(script);
  if (question.data == NULL || writer.count == 0) fail("the script has no question, or nothing to write");
  double seconds;
  pthread_t thread;
  printf("{");
  ask(writer.index, &question, laps, "idle", &seconds);
  printf("\"written\": 0}, ");
  if (pthread_create(&thread, NULL, write_on, &writer) != 0) fail("no thread can be made");
  uint32_t matched = ask(writer.index, &question, laps, "ingest", &seconds);
  atomic_store(&writer.stop, 1);
  pthread_join(thread, NULL);
  printf("\"written\": %.3f}, \"matched\": %u}\n", 1e-6 * (double)writer.blocks / seconds, matched);
  for (size_t at = 0; at < writer.count; at++) free(writer.steps[at].data);
  free(writer.steps);
  free(question.data);
  kvs_index_destroy(writer.index);
  return 0;
}
