#ifndef BERTH_SYSTEM_H
#define BERTH_SYSTEM_H

/// Gives memory that the allocator holds but nobody uses back to the system (glibc's malloc_trim).
/// Worth calling after decoding something large; returns 1 where memory was released.
int berth_release_unused_memory(void);

/// A file descriptor that means this process and no later one with its number (pidfd_open(2)); -1 with errno.
int berth_pidfd_open(int pid);

/// Sends `signal` to the process behind `pidfd` (pidfd_send_signal(2)); 0, or -1 with errno.
int berth_pidfd_send_signal(int pidfd, int signal);

#endif
