#include "check.h"
void tests_of_memory(void) {}
