#include "berth_system.h"

#include <malloc.h>

int berth_release_unused_memory(void) {
#ifdef __GLIBC__
    return malloc_trim(0);
#else
    return 0;
#endif
}
