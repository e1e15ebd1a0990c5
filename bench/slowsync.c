/* LD_PRELOAD: fsync and fdatasync take SLOW_SYNC_US microseconds more. Syncs of several threads or processes do not
 * wait for each other, as on a disk behind a network. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void wait_longer(void)
{
    const char *text = getenv("SLOW_SYNC_US");
    long us = text ? atol(text) : 10000;
    struct timespec rest = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&rest, 0);
}

int fsync(int fd)
{
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_longer();
    return real(fd);
}

int fdatasync(int fd)
{
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_longer();
    return real(fd);
}
