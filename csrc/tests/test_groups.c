#include "check.h"
void tests_of_groups(void) {}
