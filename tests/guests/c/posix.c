// Carries out what it is told on standard input: one command for each line, one line as the
// answer. The tests build it twice, as a guest and as a native program, and compare.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOTS 8

static int slots[SLOTS];

static const char *name_of(int error) {
    switch (error) {
    case EACCES: return "EACCES";
    case EAGAIN: return "EAGAIN";
    case EBADF: return "EBADF";
    case EDEADLK: return "EDEADLK";
    case EINVAL: return "EINVAL";
    case ENOENT: return "ENOENT";
    case ENOLCK: return "ENOLCK";
    case ENOTSUP: return "ENOTSUP";
    case EOVERFLOW: return "EOVERFLOW";
    case ESTALE: return "ESTALE";
    default: return strerror(error);
    }
}

static void answer(int result) { puts(result == -1 ? name_of(errno) : "ok"); }

static int number_of(const char *word, const char *const *words) {
    for (int n = 0; words[n]; n++)
        if (strcmp(words[n], word) == 0) return n;
    fprintf(stderr, "unknown word: %s\n", word);
    exit(2);
}

static const char *const commands[] = {"getlk", "setlk", "setlkw", "ofd-getlk", "ofd-setlk", "ofd-setlkw", 0};
static const int numbers[] = {F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW};
static const char *const types[] = {"read", "write", "unlock", 0};
static const short type_numbers[] = {F_RDLCK, F_WRLCK, F_UNLCK};
static const char *const whences[] = {"set", "cur", "end", 0};
static const short whence_numbers[] = {SEEK_SET, SEEK_CUR, SEEK_END};
static const char *const operations[] = {"sh", "ex", "un", "sh-nb", "ex-nb", 0};
static const int operation_numbers[] = {LOCK_SH, LOCK_EX, LOCK_UN, LOCK_SH | LOCK_NB, LOCK_EX | LOCK_NB};
static const char *const functions[] = {"unlock", "lock", "try", "test", 0};
static const int function_numbers[] = {F_ULOCK, F_LOCK, F_TLOCK, F_TEST};
static const char *const modes[] = {"r", "w", "rw", 0};
static const int mode_numbers[] = {O_RDONLY, O_WRONLY, O_RDWR};

static void lock(int fd, const char *command, const char *type, const char *whence, long long start, long long len) {
    int number = numbers[number_of(command, commands)];
    struct flock range = {
        .l_type = type_numbers[number_of(type, types)],
        .l_whence = whence_numbers[number_of(whence, whences)],
        .l_start = start,
        .l_len = len,
    };
    int result = fcntl(fd, number, &range);
    if (result == -1 || (number != F_GETLK && number != F_OFD_GETLK)) {
        answer(result);
    } else if (range.l_type == F_UNLCK) {
        puts("free");
    } else {
        printf("%s %lld %lld\n", types[range.l_type == F_WRLCK], (long long)range.l_start, (long long)range.l_len);
    }
}

int main(void) {
    char line[512], word[16], a[200], b[200], c[16];
    int slot;
    long long start, len;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "open %d %199s %15s", &slot, a, c) == 3) {
            slots[slot] = open(a, mode_numbers[number_of(c, modes)] | (c[0] == 'r' && !c[1] ? 0 : O_CREAT), 0666);
            answer(slots[slot]);
        } else if (sscanf(line, "close %d", &slot) == 1) {
            answer(close(slots[slot]));
        } else if (sscanf(line, "fcntl %d %15s %15s %199s %lld %lld", &slot, word, c, a, &start, &len) == 6) {
            lock(slots[slot], word, c, a, start, len);
        } else if (sscanf(line, "flock %d %15s", &slot, c) == 2) {
            answer(flock(slots[slot], operation_numbers[number_of(c, operations)]));
        } else if (sscanf(line, "lockf %d %15s %lld", &slot, c, &len) == 3) {
            answer(lockf(slots[slot], function_numbers[number_of(c, functions)], len));
        } else if (sscanf(line, "seek %d %lld", &slot, &start) == 2) {
            answer(lseek(slots[slot], start, SEEK_SET) == -1 ? -1 : 0);
        } else if (sscanf(line, "size %d %lld", &slot, &len) == 2) {
            answer(ftruncate(slots[slot], len));
        } else if (sscanf(line, "getfl %d", &slot) == 1) {
            int flags = fcntl(slots[slot], F_GETFL);
            int access = flags & (O_RDONLY | O_WRONLY | O_RDWR);
            printf("%s\n", access == O_RDWR ? "rw" : access == O_WRONLY ? "w" : "r");
        } else if (sscanf(line, "rename %199s %199s", a, b) == 2) {
            answer(rename(a, b));
        } else if (sscanf(line, "unlink %199s", a) == 1) {
            answer(unlink(a));
        } else {
            fprintf(stderr, "unknown command: %s", line);
            return 2;
        }
        fflush(stdout);
    }
    return 0;
}
