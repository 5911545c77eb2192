/* Writes down, in order, whatever a process does to the files of one folder ($POWER_TRACE_FOLDER), into
 * $POWER_TRACE_FILE. Loaded with LD_PRELOAD; calls that fail are not written down.
 *
 * A record: u8 operation, u64 inode, u64 offset or length, u32 length of a name, the name, u32 length of the data,
 * the data. Little-endian. Names are relative to the folder. Folders are files too: their inode is in an fsync.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MARK, FOLDER };
#define MARK_FD_NAME "ACKNOWLEDGED"

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static const char *folder;
static size_t folder_length;
static int out = -1;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_mkdir)(const char *, mode_t);
static int (*real_open)(const char *, int, ...);

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_mkdir = dlsym(RTLD_NEXT, "mkdir");
    real_open = dlsym(RTLD_NEXT, "open64");
    folder = getenv("POWER_TRACE_FOLDER");
    if (folder == NULL)
        return;
    folder_length = strlen(folder);
    out = real_open(getenv("POWER_TRACE_FILE"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* The path below the folder, or NULL. The folder itself is "". */
static const char *below(const char *path) {
    if (out < 0 || path == NULL || strncmp(path, folder, folder_length) != 0)
        return NULL;
    if (path[folder_length] == 0)
        return "";
    return path[folder_length] == '/' ? path + folder_length + 1 : NULL;
}

static const char *path_of(int fd, char *path) {
    char link[64];
    if (out < 0 || fd == out)
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 4095);
    if (length < 0)
        return NULL;
    path[length] = 0;
    return below(path);
}

static uint64_t inode_of(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 ? found.st_ino : 0;
}

static void put(uint8_t operation, uint64_t inode, uint64_t offset, const char *name, const void *data, size_t length) {
    uint32_t name_length = strlen(name), data_length = length;
    struct iovec parts[] = {{&operation, 1}, {&inode, 8}, {&offset, 8}, {&name_length, 4}, {(void *)name, name_length},
                            {&data_length, 4}, {(void *)data, length}};
    if (writev(out, parts, 7) < 0)
        abort();
}

#define LOCKED(result_type, call, record) \
    pthread_mutex_lock(&lock); \
    result_type result = call; \
    int error = errno; \
    if (result >= 0) { record; } \
    pthread_mutex_unlock(&lock); \
    errno = error; \
    return result

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    char path[4096];
    const char *name = path_of(fd, path);
    LOCKED(ssize_t, real_pwrite(fd, data, length, offset),
           if (name) put(WRITE, inode_of(fd), offset, name, data, result));
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

ssize_t write(int fd, const void *data, size_t length) {
    char path[4096];
    const char *name = path_of(fd, path);
    int mark = name && strcmp(name, MARK_FD_NAME) == 0;
    LOCKED(ssize_t, real_write(fd, data, length),
           if (mark) put(MARK, 0, 0, "", data, result);
           else if (name) put(WRITE, inode_of(fd), lseek(fd, 0, SEEK_CUR) - result, name, data, result));
}

int ftruncate64(int fd, off_t length) {
    char path[4096];
    const char *name = path_of(fd, path);
    LOCKED(int, real_ftruncate(fd, length), if (name) put(TRUNCATE, inode_of(fd), length, name, "", 0));
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int fsync(int fd) {
    char path[4096];
    const char *name = path_of(fd, path);
    LOCKED(int, real_fsync(fd), if (name) put(SYNC, inode_of(fd), 0, name, "", 0));
}
int fdatasync(int fd) {
    char path[4096];
    const char *name = path_of(fd, path);
    LOCKED(int, real_fdatasync(fd), if (name) put(SYNC, inode_of(fd), 0, name, "", 0));
}

int rename(const char *from, const char *to) {
    const char *source = below(from), *target = below(to);
    LOCKED(int, real_rename(from, to),
           if (source && target) put(RENAME, 0, 0, source, target, strlen(target)));
}

int unlink(const char *path) {
    const char *name = below(path);
    LOCKED(int, real_unlink(path), if (name) put(UNLINK, 0, 0, name, "", 0));
}

int mkdir(const char *path, mode_t mode) {
    const char *name = below(path);
    pthread_mutex_lock(&lock);
    int result = real_mkdir(path, mode), error = errno;
    struct stat found;
    if (result == 0 && name && stat(path, &found) == 0)
        put(FOLDER, found.st_ino, 0, name, "", 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static int opened(const char *path, int flags, mode_t mode) {
    const char *name = below(path);
    pthread_mutex_lock(&lock);
    int fresh = name && (flags & O_CREAT) && access(path, F_OK) != 0;
    int fd = real_open(path, flags, mode), error = errno;
    if (fd >= 0 && name && strcmp(name, MARK_FD_NAME) != 0) {
        if (fresh)
            put(CREATE, inode_of(fd), 0, name, "", 0);
        else if (flags & O_TRUNC)
            put(TRUNCATE, inode_of(fd), 0, name, "", 0);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define OPEN_MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }
int open64(const char *path, int flags, ...) { OPEN_MODE(flags) return opened(path, flags, mode); }
int open(const char *path, int flags, ...) { OPEN_MODE(flags) return opened(path, flags, mode); }
/* Not followed by the reader of the trace: whoever calls them on these files makes the test fail. */
int openat64(int at, const char *path, int flags, ...) { OPEN_MODE(flags)
    if (below(path)) return opened(path, flags, mode);
    return ((int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat64"))(at, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { OPEN_MODE(flags)
    if (below(path)) return opened(path, flags, mode);
    return ((int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat"))(at, path, flags, mode); }
