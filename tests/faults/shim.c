// Makes chosen storage calls of a program fail, lie, linger or be its last.
//
//   LD_PRELOAD=shim.so FAULTS='fsync:-wal:5:EIO;pwrite:-wal:7:SHORT' FAULTS_LOG=/tmp/fired sessd
//
// Rules are separated by `;`. A rule is  call : part of the path : n-th : effect [: count]
//   call    open write pwrite fsync ftruncate rename unlink mkdir mmap fallocate; the 64-bit
//           forms, fdatasync (fsync), writev (write) and rmdir (unlink) are meant too
//   part    an empty one fits every path; one that ends in `$` fits the end of a path only
//   n-th    counts the calls that fit, from 1. The rule fires from that one on, `count` times
//           (1 if left out, -1 for ever). Every rule counts by itself; the first that fires, acts.
//   effect  EIO ENOSPC EDQUOT EMFILE ENOMEM EROFS EACCES EINTR   the call fails with it, undone
//           SHORT       a write takes half of its bytes; other calls are left alone
//           LOSE        the call says that it succeeded and does nothing
//           KILL        SIGKILL before the call · KILLAFTER  SIGKILL after it
//           DELAYn      n milliseconds of waiting before the call
//
// Each firing is one line in $FAULTS_LOG: `call n path effect`. A rule that cannot be read ends the
// program at once: a typing error must not pass for a program without faults. Children run without.
// With the recorder, the shim comes first in LD_PRELOAD: what it swallows is then not recorded.
#include "hook.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#define RULES_MAX 32
#define FIELDS_MAX 5

enum effect { PASS, FAIL, SHORT, LOSE, KILL, KILLAFTER, DELAY };

struct rule {
    const char *call, *part, *effect_name;
    long nth, count;
    enum effect effect;
    int value; // errno, or milliseconds
    atomic_long seen;
};

static struct rule rules[RULES_MAX];
static int rule_count;
static int log_fd = -1;

static void refuse(const char *rule, const char *why) {
    dprintf(2, "shim: rule `%s`: %s\n", rule, why);
    _exit(2);
}

static bool is_call(const char *name) {
    static const char *const calls[] = {"open",   "write",  "pwrite", "fsync", "ftruncate",
                                        "rename", "unlink", "mkdir",  "mmap",  "fallocate"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (strcmp(name, calls[i]) == 0) return true;
    return false;
}

static bool read_effect(struct rule *rule) {
    static const struct {
        const char *name;
        enum effect effect;
        int value;
    } effects[] = {
        {"EIO", FAIL, EIO},       {"ENOSPC", FAIL, ENOSPC}, {"EDQUOT", FAIL, EDQUOT},
        {"EMFILE", FAIL, EMFILE}, {"ENOMEM", FAIL, ENOMEM}, {"EROFS", FAIL, EROFS},
        {"EACCES", FAIL, EACCES}, {"EINTR", FAIL, EINTR},   {"SHORT", SHORT, 0},
        {"LOSE", LOSE, 0},        {"KILL", KILL, 0},        {"KILLAFTER", KILLAFTER, 0},
    };
    for (size_t i = 0; i < sizeof effects / sizeof *effects; i++) {
        if (strcmp(rule->effect_name, effects[i].name) != 0) continue;
        rule->effect = effects[i].effect;
        rule->value = effects[i].value;
        return true;
    }
    char *end;
    if (strncmp(rule->effect_name, "DELAY", 5) != 0) return false;
    rule->effect = DELAY;
    rule->value = strtol(rule->effect_name + 5, &end, 10);
    return *end == '\0' && rule->value > 0;
}

static void read_rule(char *text) {
    char *whole = strdup(text), *fields[FIELDS_MAX] = {0}, *end = "", *end_count = "";
    int n = 0;
    while (text && n < FIELDS_MAX) fields[n++] = strsep(&text, ":");
    if (text || n < 4) refuse(whole, "it has 4 or 5 fields: call:part:n-th:effect[:count]");
    if (rule_count == RULES_MAX) refuse(whole, "there are too many rules");
    struct rule *rule = &rules[rule_count];
    rule->call = fields[0];
    rule->part = fields[1];
    rule->nth = strtol(fields[2], &end, 10);
    rule->effect_name = fields[3];
    rule->count = fields[4] ? strtol(fields[4], &end_count, 10) : 1;
    if (!is_call(rule->call)) refuse(whole, "no such call");
    if (*end || *end_count || rule->nth < 1 || rule->count == 0) refuse(whole, "not such a number");
    if (!read_effect(rule)) refuse(whole, "no such effect");
    free(whole);
    rule_count++;
}

__attribute__((constructor)) static void start(void) {
    const char *faults = getenv("FAULTS"), *log = getenv("FAULTS_LOG");
    if (!faults) return;
    if (log)
        log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log && log_fd < 0) refuse(faults, "$FAULTS_LOG cannot be opened");
    char *rest = strdup(faults), *text;
    while ((text = strsep(&rest, ";")))
        if (*text) read_rule(text);
    unsetenv("FAULTS");
    unsetenv("FAULTS_LOG");
    unsetenv("LD_PRELOAD");
}

static void note(const struct rule *rule, const char *path, long n) {
    char line[PATH_MAX + 100];
    int size = snprintf(line, sizeof line, "%s %ld %s %s\n", rule->call, n, path, rule->effect_name);
    if (log_fd >= 0) syscall(SYS_write, log_fd, line, size);
}

static bool fits(const char *path, const char *part) {
    size_t size = strlen(part), path_size = strlen(path);
    if (size == 0 || part[size - 1] != '$') return strstr(path, part) != NULL;
    size--;
    return path_size >= size && strncmp(path + path_size - size, part, size) == 0;
}

static const struct rule *firing(const char *call, const char *path) {
    const struct rule *found = NULL;
    for (struct rule *rule = rules; rule < rules + rule_count; rule++) {
        if (strcmp(rule->call, call) != 0 || !fits(path, rule->part)) continue;
        long n = atomic_fetch_add(&rule->seen, 1) + 1;
        bool fires = n >= rule->nth && (rule->count < 0 || n < rule->nth + rule->count);
        if (!fires || found) continue;
        note(rule, path, n);
        found = rule;
    }
    return found;
}

// What becomes of a call: waiting, dying and the error number are dealt with here, so that the
// caller is left with PASS, FAIL, SHORT, LOSE or KILLAFTER.
static enum effect before(const char *call, const char *path) {
    const struct rule *rule = firing(call, path);
    if (!rule) return PASS;
    if (rule->effect == KILL) kill(getpid(), SIGKILL);
    if (rule->effect == DELAY) {
        struct timespec wait = {rule->value / 1000, rule->value % 1000 * 1000000L};
        nanosleep(&wait, NULL);
        return PASS;
    }
    if (rule->effect == FAIL) errno = rule->value;
    return rule->effect;
}

static enum effect before_fd(const char *call, int fd) {
    char path[PATH_MAX];
    return rule_count > 0 && fd_path(fd, path) ? before(call, path) : PASS;
}

static void after(enum effect effect) {
    if (effect == KILLAFTER) kill(getpid(), SIGKILL);
}

// For calls that answer 0 or -1; `CALL` is made unless the effect says not to.
#define ALL_OR_NOTHING(EFFECT, CALL)                                                               \
    do {                                                                                           \
        enum effect chosen = EFFECT;                                                               \
        if (chosen == FAIL) return -1;                                                             \
        if (chosen == LOSE) return 0;                                                              \
        int result = CALL;                                                                         \
        after(chosen);                                                                             \
        return result;                                                                             \
    } while (0)

static size_t half(size_t size) { return size > 1 ? size / 2 : size; }

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    enum effect effect = before_fd("write", fd);
    if (effect == FAIL) return -1;
    if (effect == LOSE) return size;
    ssize_t n = real(fd, data, effect == SHORT ? half(size) : size);
    after(effect);
    return n;
}

// A short one takes the first part only.
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    enum effect effect = before_fd("write", fd);
    if (effect == FAIL) return -1;
    if (effect == LOSE) {
        ssize_t sum = 0;
        for (int i = 0; i < count; i++) sum += parts[i].iov_len;
        return sum;
    }
    struct iovec first = {parts->iov_base, half(parts->iov_len)};
    ssize_t n = effect == SHORT ? real(fd, &first, 1) : real(fd, parts, count);
    after(effect);
    return n;
}

static ssize_t write_at(__typeof__(&pwrite64) real, int fd, const void *data, size_t size,
                        off64_t offset) {
    enum effect effect = before_fd("pwrite", fd);
    if (effect == FAIL) return -1;
    if (effect == LOSE) return size;
    ssize_t n = real(fd, data, effect == SHORT ? half(size) : size, offset);
    after(effect);
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

int fsync(int fd) {
    REAL(fsync);
    ALL_OR_NOTHING(before_fd("fsync", fd), real(fd));
}

int fdatasync(int fd) {
    REAL(fdatasync);
    ALL_OR_NOTHING(before_fd("fsync", fd), real(fd));
}

int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    ALL_OR_NOTHING(before_fd("ftruncate", fd), real(fd, length));
}

int ftruncate(int fd, off_t length) {
    REAL(ftruncate);
    ALL_OR_NOTHING(before_fd("ftruncate", fd), real(fd, length));
}

int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    REAL(fallocate64);
    ALL_OR_NOTHING(before_fd("fallocate", fd), real(fd, mode, offset, length));
}

int fallocate(int fd, int mode, off_t offset, off_t length) {
    REAL(fallocate);
    ALL_OR_NOTHING(before_fd("fallocate", fd), real(fd, mode, offset, length));
}

int rename(const char *from, const char *to) {
    REAL(rename);
    ALL_OR_NOTHING(before("rename", to), real(from, to));
}

int unlink(const char *name) {
    REAL(unlink);
    ALL_OR_NOTHING(before("unlink", name), real(name));
}

int rmdir(const char *name) {
    REAL(rmdir);
    ALL_OR_NOTHING(before("unlink", name), real(name));
}

int mkdir(const char *name, mode_t mode) {
    REAL(mkdir);
    ALL_OR_NOTHING(before("mkdir", name), real(name, mode));
}

// An open cannot be lost: there would be no descriptor to give.
static int open_file(int (*real)(const char *, int, ...), const char *name, int flags,
                     mode_t mode) {
    enum effect effect = before("open", name);
    if (effect == FAIL) return -1;
    int fd = real(name, flags, mode);
    after(effect);
    return fd;
}

int open(const char *name, int flags, ...) {
    REAL(open);
    MODE_ARGUMENT;
    return open_file(real, name, flags, mode);
}

int open64(const char *name, int flags, ...) {
    REAL(open64);
    MODE_ARGUMENT;
    return open_file(real, name, flags, mode);
}

static void *map(__typeof__(&mmap64) real, void *at, size_t size, int protection, int flags, int fd,
                 off64_t offset) {
    enum effect effect = fd >= 0 ? before_fd("mmap", fd) : PASS;
    if (effect == FAIL) return MAP_FAILED;
    void *mapped = real(at, size, protection, flags, fd, offset);
    after(effect);
    return mapped;
}

void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset) {
    REAL(mmap64);
    return map(real, at, size, protection, flags, fd, offset);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    REAL(mmap);
    return map(real, at, size, protection, flags, fd, offset);
}
