#include "check.h"
void tests_of_threads(void) {}
