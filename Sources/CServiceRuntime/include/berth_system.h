#ifndef BERTH_SYSTEM_H
#define BERTH_SYSTEM_H

/// Gives memory that the allocator holds but nobody uses back to the system (glibc's malloc_trim).
/// Worth calling after decoding something large; returns 1 where memory was released.
int berth_release_unused_memory(void);

#endif
