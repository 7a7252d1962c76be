// Cuts the power of one mounted ext4 file system: what was not synced is gone at the next mount.
//
//   powercut /mnt/disk          the journal as it is on the disk (a power cut)
//   powercut /mnt/disk flush    the journal is written out first (a crash of the machine a bit later)
//
// Every later call on the file system fails with EIO; unmount and mount it to see what is left.
// Needs root, and a file system of its own: a loop mount of a file will do.
#include <fcntl.h>
#include <linux/ioctl.h>
#include <linux/types.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define EXT4_IOC_SHUTDOWN _IOR('X', 125, __u32)
#define LOG_FLUSH 1
#define NO_LOG_FLUSH 2

int main(int count, char **words) {
    int flush = count == 3 && strcmp(words[2], "flush") == 0;
    if (count != 2 && !flush) {
        fprintf(stderr, "usage: powercut MOUNT_POINT [flush]\n");
        return 2;
    }
    int fd = open(words[1], O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        perror(words[1]);
        return 1;
    }
    __u32 how = flush ? LOG_FLUSH : NO_LOG_FLUSH;
    if (ioctl(fd, EXT4_IOC_SHUTDOWN, &how) != 0) {
        perror("shutdown");
        return 1;
    }
    return 0;
}
