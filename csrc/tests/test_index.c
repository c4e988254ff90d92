#include "check.h"
void tests_of_index(void) {}
