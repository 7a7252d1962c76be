// A program for the fault tools to watch: it writes records and tells a client of each.
//
//   writer FOLDER COUNT sync|nosync
//
// Record n is RECORD_BYTES bytes of a letter, at n * RECORD_BYTES of FOLDER/records. Every tenth is
// also the whole of FOLDER/latest, replaced by rename. Once a record is written (and, with `sync`,
// synced) the client on stdout is told {"id":n,"result":{}}. At the first error the client is told
// {"id":n,"error":"<call>"}, and the program ends with 3. A short write is gone on with.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORD_BYTES 700

static bool syncs;
static int current;

static void tell(const char *what) {
    char line[200];
    int size = snprintf(line, sizeof line, "{\"id\":%d,%s}\n", current, what);
    if (write(1, line, size) != size) exit(4);
}

static void check(bool good, const char *call) {
    char what[100];
    if (good) return;
    snprintf(what, sizeof what, "\"error\":\"%s\"", call);
    tell(what);
    exit(3);
}

static void write_record(int fd, off_t offset) {
    char bytes[RECORD_BYTES], *rest = bytes;
    memset(bytes, 'a' + current % 26, sizeof bytes);
    for (size_t left = sizeof bytes; left > 0;) {
        ssize_t n = pwrite(fd, rest, left, offset);
        check(n > 0, "pwrite");
        rest += n, offset += n, left -= n;
    }
    check(!syncs || fsync(fd) == 0, "fsync");
}

static void replace_latest(int folder) {
    int fd = open("latest.new", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    check(fd >= 0, "open");
    write_record(fd, 0);
    check(close(fd) == 0, "close");
    check(rename("latest.new", "latest") == 0, "rename");
    check(!syncs || fsync(folder) == 0, "fsync of the folder");
}

int main(int count, char **words) {
    if (count != 4 || chdir(words[1]) != 0) return 2;
    int records = atoi(words[2]);
    syncs = strcmp(words[3], "sync") == 0;
    int folder = open(".", O_RDONLY | O_DIRECTORY);
    int fd = open("records", O_RDWR | O_CREAT, 0600);
    check(folder >= 0 && fd >= 0, "open");
    check(!syncs || fsync(folder) == 0, "fsync of the folder");
    for (current = 0; current < records; current++) {
        write_record(fd, (off_t)current * RECORD_BYTES);
        if (current % 10 == 9) replace_latest(folder);
        tell("\"result\":{}");
    }
    return 0;
}
