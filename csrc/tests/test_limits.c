#include "check.h"
void tests_of_limits(void) {}
