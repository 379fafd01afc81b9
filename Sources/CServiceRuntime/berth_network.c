#define _GNU_SOURCE
#include "berth_network.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

int berth_listener_pid(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    int file = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (file < 0) return -1;
    int pid = -1;
    if (connect(file, (struct sockaddr *)&address, sizeof address) == 0 &&
        getsockopt(file, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) {
        pid = peer.pid;
    }
    int error = errno;
    close(file);
    errno = error;
    return pid;
}

static int route_socket(void) {
    int file = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (file < 0) return -1;
    struct timeval deadline = {.tv_sec = 2};
    setsockopt(file, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
    return file;
}

int berth_route_socket(int pid) {
    char path[64];
    struct stat own_stat, other_stat;
    snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
    int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (own < 0) return -1;
    int other = open(path, O_RDONLY | O_CLOEXEC);
    if (other < 0 || fstat(own, &own_stat) != 0 || fstat(other, &other_stat) != 0) {
        int error = errno;
        close(own);
        if (other >= 0) close(other);
        errno = error;
        return -1;
    }
    int file;
    if (own_stat.st_ino == other_stat.st_ino && own_stat.st_dev == other_stat.st_dev) {
        file = route_socket();
    } else {
        file = -1;
        if (setns(other, CLONE_NEWNET) == 0) {
            file = route_socket();
            int error = errno;
            // A thread that stayed there would open everybody's next connection in the wrong network.
            if (setns(own, CLONE_NEWNET) != 0) abort();
            errno = error;
        }
    }
    int error = errno;
    close(own);
    close(other);
    errno = error;
    return file;
}
