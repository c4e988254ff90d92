/* Names and sentences for what the header numbers. */
#include "kvsync.h"

const char *kvs_version(void) { return KVS_VERSION; }

const char *kvs_status_name(kvs_status status) {
  switch (status) {
#define X(name, code, text) \
  case KVS_##name: return "KVS_" #name;
    KVS_STATUS_MAP(X)
#undef X
  }
  return "unknown status";
}

const char *kvs_status_text(kvs_status status) {
  switch (status) {
#define X(name, code, text) \
  case KVS_##name: return text;
    KVS_STATUS_MAP(X)
#undef X
  }
  return "unknown status";
}

const char *kvs_reason_text(kvs_reason reason) {
  switch (reason) {
#define X(name, code, text) \
  case KVS_REASON_##name: return text;
    KVS_REASON_MAP(X)
#undef X
  }
  return "unknown reason";
}

const char *kvs_counter_name(unsigned counter) {
  static const char *const names[] = {
#define X(name, text) #text,
      KVS_COUNTER_MAP(X)
#undef X
  };
  return counter < KVS_COUNTERS_COUNT ? names[counter] : NULL;
}
