#include "check.h"
void tests_of_decode(void) {}
