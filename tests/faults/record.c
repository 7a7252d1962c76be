// Records, in one order, what a program does to its files and what it tells its clients.
//
//   LD_PRELOAD=record.so REC_DIR=/data REC_LOG=/tmp/log sessd
//
// Seen: every change of a file or folder below $REC_DIR (save `*-shm`, SQLite's shared index, which
// is rebuilt after any crash), and every byte written to a client: to an accepted Unix stream
// connection, or to one inherited at the start (not on stderr). Not seen: writes through mmap, and
// what children do; the variables are taken out of the environment so that they run unwatched.
//
// The order errs on the strict side, so that the log never makes the program look safer than it is:
//   - a change is made and logged under one mutex: the log's order is the kernel's order;
//   - a sync logs its begin and, once it has succeeded, its end. Its end makes durable only what was
//     logged before its begin, since a write that ran beside the sync may have missed it;
//   - what a client is told is logged before the bytes leave; how many left is filled in later.
//
// Log: the 8 bytes "SESSREC1", then records, all numbers little-endian:
//   u8 kind, u8 zero, u16 path bytes, u32 data bytes, u64 number, path, data
//
//   kind                path        number                      data
//   'N' new file        file        0                           -
//   'D' new folder      folder      0                           -
//   'W' write           file        offset                      bytes that were written
//   'T' truncate        file        length                      -
//   'B' sync begins     file/folder ticket                      -
//   'S' sync succeeded  file/folder ticket of its begin         -
//   'U' unlink, rmdir   file/folder 0                           -
//   'R' rename          old name    0                           new name
//   'A' told a client   -           connection | taken << 32    bytes that were offered
//
// Paths are relative to $REC_DIR, which itself is "". Connections count from 1 in the order of being
// accepted. `taken` is how many of the offered bytes the kernel took, 0xffffffff as long as that is
// not known: a program killed there may have told them all.
#include "hook.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#define DESCRIPTORS_MAX 65536
#define INHERITED_MAX 256
#define TAKEN_UNKNOWN 0xffffffffull
#define HEADER_BYTES 16
#define TAKEN_AT 12

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static uint64_t log_end;
static char *buffer;
static size_t buffer_bytes;
static char dir[PATH_MAX];
static size_t dir_bytes;
static uint64_t tickets;
static uint32_t connections;
static uint32_t connection_of[DESCRIPTORS_MAX]; // 0: not a client's

// A recorder that misses a call proves nothing, so it takes the program down with it.
static void give_up(const char *what) {
    dprintf(2, "record: %s: %s\n", what, strerror(errno));
    abort();
}

// The log is written by bare system calls: no hook, of ours or of a shim, sees them.
static void log_at(uint64_t place, const void *bytes, size_t size) {
    const char *rest = bytes;
    while (size > 0) {
        long n = syscall(SYS_pwrite64, log_fd, rest, size, place);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) give_up("writing $REC_LOG");
        rest += n, place += n, size -= n;
    }
}

// Appends one record and returns where it begins. The mutex is held.
static uint64_t record(char kind, const char *path, uint64_t number, const struct iovec *parts,
                       size_t data_bytes) {
    uint16_t path_bytes = strlen(path);
    size_t size = HEADER_BYTES + path_bytes + data_bytes;
    if (size > buffer_bytes) {
        buffer = realloc(buffer, size);
        if (!buffer) give_up("memory for a record");
        buffer_bytes = size;
    }
    uint32_t data_bytes32 = data_bytes;
    memset(buffer, 0, HEADER_BYTES);
    buffer[0] = kind;
    memcpy(buffer + 2, &path_bytes, 2);
    memcpy(buffer + 4, &data_bytes32, 4);
    memcpy(buffer + 8, &number, 8);
    memcpy(buffer + HEADER_BYTES, path, path_bytes);
    char *to = buffer + HEADER_BYTES + path_bytes;
    for (size_t left = data_bytes; left > 0; parts++) {
        size_t n = parts->iov_len < left ? parts->iov_len : left;
        memcpy(to, parts->iov_base, n);
        to += n, left -= n;
    }
    uint64_t place = log_end;
    log_at(place, buffer, size);
    log_end += size;
    return place;
}

static void record_name(char kind, const char *path, uint64_t number) {
    record(kind, path, number, NULL, 0);
}

static void lock(void) { pthread_mutex_lock(&mutex); }
static void unlock(void) { pthread_mutex_unlock(&mutex); }

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

// Turns an absolute path into one relative to $REC_DIR; false when it is none of ours.
static bool is_ours(char *path) {
    if (strncmp(path, dir, dir_bytes) != 0) return false;
    char next = path[dir_bytes];
    if (next != '\0' && next != '/') return false;
    if (ends_with(path, "-shm") || ends_with(path, " (deleted)")) return false;
    char *rest = path + dir_bytes + (next == '/');
    memmove(path, rest, strlen(rest) + 1);
    return true;
}

static bool ours_by_fd(int fd, char path[PATH_MAX]) {
    return log_fd >= 0 && fd_path(fd, path) && is_ours(path);
}

// Resolves all but the last part of a name: the name itself may not exist yet, or not any more.
static bool ours_by_name(int at, const char *name, char path[PATH_MAX]) {
    if (log_fd < 0) return false;
    char full[PATH_MAX] = "", *last;
    if (name[0] != '/' && at != AT_FDCWD && !fd_path(at, full)) return false;
    size_t used = strlen(full);
    if (snprintf(full + used, sizeof full - used, "%s%s", used ? "/" : "", name) >=
        (int)(sizeof full - used))
        return false;
    for (used = strlen(full); used > 1 && full[used - 1] == '/'; used--) full[used - 1] = '\0';
    last = strrchr(full, '/');
    char parent[PATH_MAX];
    if (last) *last = '\0';
    if (!realpath(last ? (last == full ? "/" : full) : ".", parent)) return false;
    int n = snprintf(path, PATH_MAX, "%s/%s", parent, last ? last + 1 : full);
    return n < PATH_MAX && is_ours(path);
}

static bool is_unix_stream(int fd) {
    int domain = 0, type = 0;
    socklen_t size = sizeof(int);
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

static void number_connection(int fd) {
    if (fd < 0 || fd >= DESCRIPTORS_MAX || log_fd < 0) return;
    bool client = is_unix_stream(fd);
    lock();
    connection_of[fd] = client ? ++connections : 0;
    unlock();
}

__attribute__((constructor)) static void start(void) {
    const char *wanted_dir = getenv("REC_DIR"), *log = getenv("REC_LOG");
    if (!wanted_dir || !log) return;
    if (!realpath(wanted_dir, dir)) give_up("finding $REC_DIR");
    dir_bytes = strlen(dir);
    log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (log_fd < 0) give_up("opening $REC_LOG");
    log_at(0, "SESSREC1", 8);
    log_end = 8;
    for (int fd = 0; fd < INHERITED_MAX; fd++) {
        struct sockaddr_storage peer;
        socklen_t size = sizeof peer;
        if (fd != 2 && getpeername(fd, (struct sockaddr *)&peer, &size) == 0) number_connection(fd);
    }
    unsetenv("REC_DIR");
    unsetenv("REC_LOG");
    unsetenv("LD_PRELOAD");
}

// --- Clients -------------------------------------------------------------------------------------

static uint32_t client(int fd) {
    return fd >= 0 && fd < DESCRIPTORS_MAX ? __atomic_load_n(&connection_of[fd], __ATOMIC_RELAXED)
                                           : 0;
}

static size_t total(const struct iovec *parts, size_t count) {
    size_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += parts[i].iov_len;
    return sum;
}

static uint64_t tell(uint32_t connection, const struct iovec *parts, size_t count) {
    lock();
    uint64_t number = connection | TAKEN_UNKNOWN << 32;
    uint64_t place = record('A', "", number, parts, total(parts, count));
    unlock();
    return place;
}

// The mutex is not held while the bytes leave: a client that does not read must not stop the disk.
static ssize_t told(uint64_t place, ssize_t result) {
    int saved = errno;
    uint32_t taken = result < 0 ? 0 : result;
    log_at(place + TAKEN_AT, &taken, sizeof taken);
    errno = saved;
    return result;
}

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    REAL(accept4);
    int made = real(fd, address, size, flags);
    number_connection(made);
    return made;
}

int accept(int fd, struct sockaddr *address, socklen_t *size) {
    REAL(accept);
    int made = real(fd, address, size);
    number_connection(made);
    return made;
}

// Forgotten before the close: after it the number may at once be another thread's file.
int close(int fd) {
    REAL(close);
    if (client(fd)) __atomic_store_n(&connection_of[fd], 0, __ATOMIC_RELAXED);
    return real(fd);
}

ssize_t send(int fd, const void *data, size_t size, int flags) {
    REAL(send);
    if (!client(fd)) return real(fd, data, size, flags);
    struct iovec part = {(void *)data, size};
    uint64_t place = tell(client(fd), &part, 1);
    return told(place, real(fd, data, size, flags));
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to,
               socklen_t to_size) {
    REAL(sendto);
    if (!client(fd)) return real(fd, data, size, flags, to, to_size);
    struct iovec part = {(void *)data, size};
    uint64_t place = tell(client(fd), &part, 1);
    return told(place, real(fd, data, size, flags, to, to_size));
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    REAL(sendmsg);
    if (!client(fd)) return real(fd, message, flags);
    uint64_t place = tell(client(fd), message->msg_iov, message->msg_iovlen);
    return told(place, real(fd, message, flags));
}

// --- Writes: a client's bytes or a file's --------------------------------------------------------

// After a plain write the descriptor stands at the write's end, with O_APPEND too.
static void record_plain_write(int fd, const char *path, const struct iovec *parts, ssize_t n) {
    if (n > 0) record('W', path, lseek64(fd, 0, SEEK_CUR) - n, parts, n);
}

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    struct iovec part = {(void *)data, size};
    if (client(fd)) {
        uint64_t place = tell(client(fd), &part, 1);
        return told(place, real(fd, data, size));
    }
    char path[PATH_MAX];
    if (!ours_by_fd(fd, path)) return real(fd, data, size);
    lock();
    ssize_t n = real(fd, data, size);
    record_plain_write(fd, path, &part, n);
    unlock();
    return n;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    if (client(fd)) {
        uint64_t place = tell(client(fd), parts, count);
        return told(place, real(fd, parts, count));
    }
    char path[PATH_MAX];
    if (!ours_by_fd(fd, path)) return real(fd, parts, count);
    lock();
    ssize_t n = real(fd, parts, count);
    record_plain_write(fd, path, parts, n);
    unlock();
    return n;
}

static ssize_t write_at(__typeof__(&pwrite64) real, int fd, const void *data, size_t size,
                        off64_t offset) {
    char path[PATH_MAX];
    if (!ours_by_fd(fd, path)) return real(fd, data, size, offset);
    struct iovec part = {(void *)data, size};
    lock();
    ssize_t n = real(fd, data, size, offset);
    if (n > 0) record('W', path, offset, &part, n);
    unlock();
    return n;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    REAL(pwrite64);
    return write_at(real, fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    REAL(pwrite);
    return write_at(real, fd, data, size, offset);
}

// Copies inside the kernel show no bytes: refused, so that the caller falls back to reading and
// writing, as the standard library's `fs::copy` does.
ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t n,
                        unsigned flags) {
    REAL(copy_file_range);
    char path[PATH_MAX];
    if (!ours_by_fd(out, path)) return real(in, in_at, out, out_at, n, flags);
    errno = EXDEV;
    return -1;
}

ssize_t sendfile64(int out, int in, off64_t *at, size_t n) {
    REAL(sendfile64);
    char path[PATH_MAX];
    if (!ours_by_fd(out, path)) return real(out, in, at, n);
    errno = EINVAL;
    return -1;
}

// --- Syncs and lengths ---------------------------------------------------------------------------

// The mutex is free during the sync itself, or a slow disk would stop everything else.
static int sync_file(int (*real)(int), int fd) {
    char path[PATH_MAX];
    if (!ours_by_fd(fd, path)) return real(fd);
    lock();
    uint64_t ticket = ++tickets;
    record_name('B', path, ticket);
    unlock();
    int failed = real(fd);
    if (failed) return failed;
    lock();
    record_name('S', path, ticket);
    unlock();
    return 0;
}

int fsync(int fd) {
    REAL(fsync);
    return sync_file(real, fd);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return sync_file(real, fd);
}

static int set_length(__typeof__(&ftruncate64) real, int fd, off64_t length) {
    char path[PATH_MAX];
    if (!ours_by_fd(fd, path)) return real(fd, length);
    lock();
    int failed = real(fd, length);
    if (!failed) record_name('T', path, length);
    unlock();
    return failed;
}

int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    return set_length(real, fd, length);
}

int ftruncate(int fd, off_t length) {
    REAL(ftruncate);
    return set_length(real, fd, length);
}

// --- Names ---------------------------------------------------------------------------------------

static int open_file(int (*real)(int, const char *, int, ...), int at, const char *name, int flags,
                     mode_t mode) {
    char path[PATH_MAX];
    if (!(flags & (O_CREAT | O_TRUNC)) || !ours_by_name(at, name, path))
        return real(at, name, flags, mode);
    lock();
    bool existed = faccessat(at, name, F_OK, 0) == 0;
    int fd = real(at, name, flags, mode);
    // The new descriptor knows the true name, behind any symlink.
    if (fd >= 0 && ours_by_fd(fd, path)) {
        if (!existed) record_name('N', path, 0);
        else if (flags & O_TRUNC) record_name('T', path, 0);
    }
    unlock();
    return fd;
}

int openat(int at, const char *name, int flags, ...) {
    REAL(openat);
    MODE_ARGUMENT;
    return open_file(real, at, name, flags, mode);
}

int openat64(int at, const char *name, int flags, ...) {
    REAL(openat64);
    MODE_ARGUMENT;
    return open_file(real, at, name, flags, mode);
}

// `open` goes through the next `openat`: where they differ is only in who gives the folder. A shim
// behind this one would be passed by, so a shim stands in front.
int open(const char *name, int flags, ...) {
    REAL(openat);
    MODE_ARGUMENT;
    return open_file(real, AT_FDCWD, name, flags, mode);
}

int open64(const char *name, int flags, ...) {
    REAL(openat64);
    MODE_ARGUMENT;
    return open_file(real, AT_FDCWD, name, flags, mode);
}

int mkdir(const char *name, mode_t mode) {
    REAL(mkdir);
    char path[PATH_MAX];
    if (!ours_by_name(AT_FDCWD, name, path)) return real(name, mode);
    lock();
    int failed = real(name, mode);
    if (!failed) record_name('D', path, 0);
    unlock();
    return failed;
}

int unlinkat(int at, const char *name, int flags) {
    REAL(unlinkat);
    char path[PATH_MAX];
    if (!ours_by_name(at, name, path)) return real(at, name, flags);
    lock();
    int failed = real(at, name, flags);
    if (!failed) record_name('U', path, 0);
    unlock();
    return failed;
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }

int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

// A file that leaves the folder is gone from it. One that comes in from outside brings bytes that
// were never seen, and a hard link is a second name that the log cannot say: both end the program.
int rename(const char *from, const char *to) {
    REAL(rename);
    char old_path[PATH_MAX], new_path[PATH_MAX];
    bool from_ours = ours_by_name(AT_FDCWD, from, old_path);
    bool to_ours = ours_by_name(AT_FDCWD, to, new_path);
    if (!from_ours && !to_ours) return real(from, to);
    if (!from_ours) give_up("a file was renamed into $REC_DIR from outside");
    lock();
    int failed = real(from, to);
    if (!failed && to_ours) {
        struct iovec part = {new_path, strlen(new_path)};
        record('R', old_path, 0, &part, part.iov_len);
    } else if (!failed) {
        record_name('U', old_path, 0);
    }
    unlock();
    return failed;
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    REAL(linkat);
    char path[PATH_MAX];
    if (ours_by_name(to_at, to, path)) give_up("a hard link was made in $REC_DIR");
    return real(from_at, from, to_at, to, flags);
}

int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
