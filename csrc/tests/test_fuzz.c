#include "check.h"
void tests_of_fuzz(void) {}
