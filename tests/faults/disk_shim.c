/* Makes a process's disk fail, for tests: what the file SESSIOND_DISK_FAULT names says how.
 *
 * "fsync": syncing a database's file is EIO. "full": writing to one is ENOSPC. "read-only": EROFS.
 * Anything else, or no file: nothing. A database's files have "sessiond.db" in their names. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int is_database(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strstr(path, "sessiond.db") && !strstr(path, ".lock");
}

static int is_wanted(const char *fault) {
    char found[32] = "";
    const char *path = getenv("SESSIOND_DISK_FAULT");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    ssize_t length = read(fd, found, sizeof found - 1);
    close(fd);
    return length > 0 && strncmp(found, fault, strlen(fault)) == 0;
}

static int fails(int fd, int syncs) {
    if (!is_database(fd)) return 0;
    if (syncs && is_wanted("fsync")) errno = EIO;
    else if (!syncs && is_wanted("full")) errno = ENOSPC;
    else if (!syncs && is_wanted("read-only")) errno = EROFS;
    else return 0;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int fd) { return fails(fd, 1) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fails(fd, 1) ? -1 : REAL(fdatasync)(fd); }
ssize_t write(int fd, const void *from, size_t size) {
    return fails(fd, 0) ? -1 : REAL(write)(fd, from, size);
}
ssize_t pwrite(int fd, const void *from, size_t size, off_t at) {
    return fails(fd, 0) ? -1 : REAL(pwrite)(fd, from, size, at);
}
ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at) {
    return fails(fd, 0) ? -1 : REAL(pwrite64)(fd, from, size, at);
}
