/* What the fuzzers feed: any bytes whatever, of which each harness makes something and checks what comes of it.
 *
 * A harness reports with CHECK (../tests/check.h). Under libFuzzer a failed check ends the program (libfuzzer.c); the C test
 * program replays the corpus and counts them (../tests/test_corpus.c). */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* payload.c: frames as they might come over the wire, into a few engines. */
void fuzz_payload(const uint8_t *data, size_t bytes);

/* operations.c: what engines and callers do, against a plain model. */
void fuzz_operations(const uint8_t *data, size_t bytes);

#endif
