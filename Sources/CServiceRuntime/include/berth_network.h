#ifndef BERTH_NETWORK_H
#define BERTH_NETWORK_H

/// The process that listens on the Unix socket at `path` (SO_PEERCRED); 0 where it is in no pid namespace of ours, -1
/// with errno.
int berth_listener_pid(const char *path);

/// A socket of rtnetlink(7) in the network namespace of process `pid`, with a deadline of 2 s for each answer; -1 with
/// errno. Another namespace than the caller's needs CAP_SYS_ADMIN. The calling thread is back in its own afterwards.
int berth_route_socket(int pid);

#endif
