/* What snapshot.c writes and loading.c reads. */
#ifndef KVS_SNAPSHOT_H
#define KVS_SNAPSHOT_H

#include "index.h"

#define KVS__SECTION_MARK UINT64_C(0x32706e7363767973)
#define KVS__SECTION_VERSION 2u

/* The low bits of an item's first byte; the others are flags. */
enum kvs__how { KVS__HOW_START, KVS__HOW_NEXT, KVS__HOW_SAME, KVS__HOW_UNTIED };
#define KVS__HOW_BITS 3u
#define KVS__HOW_DOUBTFUL 4u
#define KVS__HOW_COPIES 8u
#define KVS__HOW_ALL 15u

/* One of the starts: a block hash, and its depth. */
#define KVS__START_BYTES (2 * sizeof(uint64_t))

#endif
