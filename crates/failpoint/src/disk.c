/* A disk that fails, for tests. Preloaded into a process (LD_PRELOAD), it
 * watches the files below the folder that LETHE_FAULT_DISK names.
 *
 * Cut: opening "disk-fault.cut" takes back, newest first, every write and
 * truncation that no fsync or fdatasync of that file followed, and every file
 * made, renamed or removed in a folder that was not fsynced after it; then the
 * process gets SIGKILL. That is the least that POSIX promises to keep; a real
 * disk may keep more, and may lose a part of a write where this takes all.
 *
 * Full: from opening "disk-fault.full" on, what would make a file grow, or
 * make a new file or folder, is answered with ENOSPC.
 *
 * Each leaves a file of its name in the folder: how much was taken back, or
 * how often ENOSPC was answered. LETHE_FAULT_FSYNC=ignored: fsync does nothing.
 *
 * Covered: open, openat, creat, write, writev, pwrite, pwritev, ftruncate,
 * fsync, fdatasync, rename, unlink, mkdir (full only) and their 64-bit names.
 * Not covered: writes through mmap (SQLite has only its -shm file there, which
 * it makes anew after a crash), fallocate, copy_file_range, sendfile, links,
 * io_uring, and files opened before the library was loaded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* What a file was before a write that is not yet durable. */
struct undo {
    off_t at, size_before;
    size_t old_len;
    char *old;
    struct undo *next;
};

/* A file below the folder that was opened for writing. Its descriptor is never
 * closed: that would let go of the process's locks on the file. */
struct file {
    dev_t dev;
    ino_t ino;
    int own;
    struct undo *undo;
    struct file *next;
};

enum kind { MADE, RENAMED, REMOVED };

/* A change of a folder that is not yet durable. */
struct change {
    enum kind kind;
    dev_t dev;
    ino_t ino;
    char *from, *to;
    /* Another name of what is overwritten or removed; NULL: there was nothing. */
    char *kept;
    struct change *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static size_t folder_len;
static int fsync_ignored, is_full, kept_count;
static long refused;
static struct file *files;
static struct change *changes;

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_mkdir)(const char *, mode_t);

__attribute__((constructor)) static void start(void) {
    real_open = dlsym(RTLD_NEXT, "open");
    real_openat = dlsym(RTLD_NEXT, "openat");
    real_write = dlsym(RTLD_NEXT, "write");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    real_pwritev = dlsym(RTLD_NEXT, "pwritev");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_mkdir = dlsym(RTLD_NEXT, "mkdir");
    const char *named = getenv("LETHE_FAULT_DISK");
    if (named != NULL && strlen(named) < sizeof folder) {
        strcpy(folder, named);
        folder_len = strlen(folder);
    }
    const char *said = getenv("LETHE_FAULT_FSYNC");
    fsync_ignored = said != NULL && strcmp(said, "ignored") == 0;
}

static void broken(const char *what) {
    fprintf(stderr, "the disk that fails is broken itself: %s: %s\n", what, strerror(errno));
    abort();
}

static char *copy(const char *text) {
    char *copied = strdup(text);
    if (copied == NULL) broken("memory");
    return copied;
}

/* The whole path, if it is below the folder. */
static int below(int dir, const char *path, char whole[PATH_MAX]) {
    if (folder_len == 0) return 0;
    int written;
    if (path[0] == '/') {
        written = snprintf(whole, PATH_MAX, "%s", path);
    } else {
        char base[PATH_MAX], link[64];
        snprintf(link, sizeof link, dir == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dir);
        ssize_t len = readlink(link, base, sizeof base - 1);
        if (len < 0) return 0;
        base[len] = 0;
        written = snprintf(whole, PATH_MAX, "%s/%s", base, path);
    }
    return written > 0 && written < PATH_MAX && strncmp(whole, folder, folder_len) == 0 &&
           whole[folder_len] == '/';
}

static struct file *find(const struct stat *status) {
    struct file *file = files;
    while (file != NULL && (file->dev != status->st_dev || file->ino != status->st_ino))
        file = file->next;
    return file;
}

static void watch(int fd) {
    struct stat status;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || find(&status) != NULL) return;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    struct file *file = calloc(1, sizeof *file);
    if (file == NULL) broken("memory");
    file->own = real_open(link, O_RDWR | O_CLOEXEC);
    if (file->own < 0) broken("a file of its own");
    file->dev = status.st_dev;
    file->ino = status.st_ino;
    file->next = files;
    files = file;
}

static void note_count(const char *name, const char *format, long a, long b, long c) {
    char path[PATH_MAX + 32], text[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int len = snprintf(text, sizeof text, format, a, b, c);
    int fd = real_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || real_write(fd, text, len) != len) broken("its own note");
    close(fd);
}

static int no_space(void) {
    refused++;
    note_count("disk-fault.full", "%ld answers of ENOSPC\n", refused, 0, 0);
    errno = ENOSPC;
    return -1;
}

/* Before `len` bytes at `at` are written, or (len 0) the file is cut to `at`.
 * -1: the disk is full. */
static int before(int fd, off_t at, size_t len) {
    struct stat status;
    if (folder_len == 0 || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return 0;
    struct file *file = find(&status);
    if (file == NULL) return 0;
    off_t end = at + (off_t)len;
    if (is_full && end > status.st_size) return no_space();
    struct undo *undo = calloc(1, sizeof *undo);
    if (undo == NULL) broken("memory");
    off_t changed_to = len == 0 || end > status.st_size ? status.st_size : end;
    undo->at = at;
    undo->size_before = status.st_size;
    undo->old_len = changed_to > at ? (size_t)(changed_to - at) : 0;
    if (undo->old_len > 0) {
        undo->old = malloc(undo->old_len);
        if (undo->old == NULL) broken("memory");
        if (pread(file->own, undo->old, undo->old_len, at) != (ssize_t)undo->old_len)
            broken("what was there before");
    }
    undo->next = file->undo;
    file->undo = undo;
    return 0;
}

static off_t place(int fd) {
    struct stat status;
    if (fcntl(fd, F_GETFL) & O_APPEND) return fstat(fd, &status) == 0 ? status.st_size : 0;
    off_t at = lseek(fd, 0, SEEK_CUR);
    return at < 0 ? 0 : at;
}

static size_t total(const struct iovec *parts, int count) {
    size_t sum = 0;
    for (int i = 0; i < count; i++) sum += parts[i].iov_len;
    return sum;
}

static void parent_of(const char *path, struct stat *status) {
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash != NULL) *slash = 0;
    if (stat(parent, status) != 0) memset(status, 0, sizeof *status);
}

static void changed(enum kind kind, const char *from, const char *to, char *kept) {
    struct stat parent;
    parent_of(to != NULL ? to : from, &parent);
    struct change *change = calloc(1, sizeof *change);
    if (change == NULL) broken("memory");
    change->kind = kind;
    change->dev = parent.st_dev;
    change->ino = parent.st_ino;
    change->from = copy(from);
    change->to = to != NULL ? copy(to) : NULL;
    change->kept = kept;
    change->next = changes;
    changes = change;
}

/* Gives what is at `path` another name, outside of what the process looks at. */
static char *keep(const char *path) {
    char name[PATH_MAX + 32];
    snprintf(name, sizeof name, "%s.disk-fault-%d", path, kept_count++);
    return link(path, name) == 0 ? copy(name) : NULL;
}

static void durable_names(const struct stat *status) {
    struct change **at = &changes;
    while (*at != NULL) {
        struct change *change = *at;
        if (change->dev != status->st_dev || change->ino != status->st_ino) {
            at = &change->next;
            continue;
        }
        *at = change->next;
        if (change->kept != NULL) real_unlink(change->kept);
        free(change->from);
        free(change->to);
        free(change->kept);
        free(change);
    }
}

static void durable(int fd) {
    struct stat status;
    if (fsync_ignored || fstat(fd, &status) != 0) return;
    if (S_ISDIR(status.st_mode)) durable_names(&status);
    struct file *file = find(&status);
    if (file == NULL) return;
    while (file->undo != NULL) {
        struct undo *undo = file->undo;
        file->undo = undo->next;
        free(undo->old);
        free(undo);
    }
}

static void cut(void) {
    long writes = 0, bytes = 0, names = 0;
    for (struct file *file = files; file != NULL; file = file->next) {
        for (struct undo *undo = file->undo; undo != NULL; undo = undo->next) {
            struct stat status;
            if (fstat(file->own, &status) != 0) broken("a file's size");
            if (real_pwrite(file->own, undo->old, undo->old_len, undo->at) != (ssize_t)undo->old_len)
                broken("taking back");
            if (real_ftruncate(file->own, undo->size_before) != 0) broken("taking back");
            writes++;
            bytes += undo->old_len + (status.st_size > undo->size_before
                                          ? status.st_size - undo->size_before
                                          : 0);
        }
    }
    for (struct change *change = changes; change != NULL; change = change->next) {
        names++;
        if (change->kind == MADE) real_unlink(change->from);
        if (change->kind == RENAMED) real_rename(change->to, change->from);
        if (change->kept != NULL)
            real_rename(change->kept, change->kind == RENAMED ? change->to : change->from);
    }
    note_count("disk-fault.cut", "%ld writes, %ld bytes, %ld names taken back\n", writes, bytes, names);
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* 1: the name was a word to the disk, and errno says that it was heard. */
static int heard(const char *path) {
    const char *name = strrchr(path, '/');
    name = name == NULL ? path : name + 1;
    if (folder_len == 0 || strncmp(name, "disk-fault.", 11) != 0) return 0;
    pthread_mutex_lock(&lock);
    if (strcmp(name, "disk-fault.cut") == 0) cut();
    if (strcmp(name, "disk-fault.full") == 0) {
        is_full = 1;
        note_count(name, "%ld answers of ENOSPC\n", refused, 0, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = EALREADY;
    return 1;
}

static int opened(int dir, const char *path, int flags, mode_t mode) {
    if (heard(path)) return -1;
    char whole[PATH_MAX];
    int writes = (flags & O_ACCMODE) != O_RDONLY && !(flags & O_DIRECTORY);
    if (!writes || (flags & O_TMPFILE) == O_TMPFILE || !below(dir, path, whole))
        return real_openat(dir, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat status;
    int is_new = lstat(whole, &status) != 0;
    int fd;
    if (is_new && is_full && (flags & O_CREAT)) {
        fd = no_space();
    } else {
        fd = real_openat(dir, path, flags & ~O_TRUNC, mode);
    }
    if (fd >= 0) {
        watch(fd);
        if (is_new) changed(MADE, whole, NULL, NULL);
        if (flags & O_TRUNC) {
            before(fd, 0, 0);
            if (real_ftruncate(fd, 0) != 0) broken("emptying a file");
        }
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

static mode_t mode_in(int flags, va_list rest) {
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...) {                                                   \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = mode_in(flags, rest);                                                        \
        va_end(rest);                                                                              \
        return opened(AT_FDCWD, path, flags, mode);                                                \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                               \
    int name(int dir, const char *path, int flags, ...) {                                          \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = mode_in(flags, rest);                                                        \
        va_end(rest);                                                                              \
        return opened(dir, path, flags, mode);                                                     \
    }
OPENAT(openat)
OPENAT(openat64)

int creat(const char *path, mode_t mode) {
    return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* What is done to a file, with nobody between the note of it and itself. */
#define GUARDED(type, fd, at, len, act)                                                            \
    pthread_mutex_lock(&lock);                                                                     \
    type done = before(fd, at, len) == 0 ? act : -1;                                               \
    int failure = errno;                                                                           \
    pthread_mutex_unlock(&lock);                                                                   \
    errno = failure;                                                                               \
    return done;

ssize_t write(int fd, const void *bytes, size_t len) {
    if (folder_len == 0 || len == 0) return real_write(fd, bytes, len);
    struct stat status;
    /* Pipes and sockets may block: not under the lock. */
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return real_write(fd, bytes, len);
    GUARDED(ssize_t, fd, place(fd), len, real_write(fd, bytes, len))
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    struct stat status;
    size_t len = total(parts, count);
    if (folder_len == 0 || len == 0 || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        return real_writev(fd, parts, count);
    GUARDED(ssize_t, fd, place(fd), len, real_writev(fd, parts, count))
}

#define PWRITE(name)                                                                               \
    ssize_t name(int fd, const void *bytes, size_t len, off_t at) {                                \
        if (len == 0) return real_pwrite(fd, bytes, len, at);                                      \
        GUARDED(ssize_t, fd, at, len, real_pwrite(fd, bytes, len, at))                             \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define PWRITEV(name)                                                                              \
    ssize_t name(int fd, const struct iovec *parts, int count, off_t at) {                         \
        if (total(parts, count) == 0) return real_pwritev(fd, parts, count, at);                   \
        GUARDED(ssize_t, fd, at, total(parts, count), real_pwritev(fd, parts, count, at))          \
    }
PWRITEV(pwritev)
PWRITEV(pwritev64)

#define FTRUNCATE(name)                                                                            \
    int name(int fd, off_t len) {                                                                  \
        GUARDED(int, fd, len, 0, real_ftruncate(fd, len))                                          \
    }
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)

#define FSYNC(name)                                                                                \
    int name(int fd) {                                                                             \
        pthread_mutex_lock(&lock);                                                                 \
        int done = real_##name(fd);                                                                \
        if (done == 0) durable(fd);                                                                \
        int failure = errno;                                                                       \
        pthread_mutex_unlock(&lock);                                                               \
        errno = failure;                                                                           \
        return done;                                                                               \
    }
FSYNC(fsync)
FSYNC(fdatasync)

int rename(const char *from, const char *to) {
    char whole_from[PATH_MAX], whole_to[PATH_MAX];
    if (!below(AT_FDCWD, from, whole_from) || !below(AT_FDCWD, to, whole_to))
        return real_rename(from, to);
    pthread_mutex_lock(&lock);
    char *kept = keep(whole_to);
    int done = real_rename(from, to);
    int failure = errno;
    if (done == 0) changed(RENAMED, whole_from, whole_to, kept);
    pthread_mutex_unlock(&lock);
    errno = failure;
    return done;
}

int unlink(const char *path) {
    char whole[PATH_MAX];
    if (!below(AT_FDCWD, path, whole)) return real_unlink(path);
    pthread_mutex_lock(&lock);
    char *kept = keep(whole);
    int done = real_unlink(path);
    int failure = errno;
    if (done == 0 && kept != NULL) changed(REMOVED, whole, NULL, kept);
    pthread_mutex_unlock(&lock);
    errno = failure;
    return done;
}

int mkdir(const char *path, mode_t mode) {
    char whole[PATH_MAX];
    if (is_full && below(AT_FDCWD, path, whole) && access(whole, F_OK) != 0) {
        pthread_mutex_lock(&lock);
        int done = no_space();
        pthread_mutex_unlock(&lock);
        return done;
    }
    return real_mkdir(path, mode);
}
