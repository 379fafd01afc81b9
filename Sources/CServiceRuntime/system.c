#define _GNU_SOURCE
#include "berth_system.h"

#include <malloc.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

int berth_release_unused_memory(void) {
#ifdef __GLIBC__
    return malloc_trim(0);
#else
    return 0;
#endif
}

int berth_pidfd_open(int pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int berth_pidfd_send_signal(int pidfd, int signal) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}
