// `existing pairs FILE COUNT` locks and releases a byte range; `existing sqlite FILE COUNT VFS
// SYNCHRONOUS` inserts rows, one in each transaction. Prints nanoseconds for one.

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static double pairs(const char *file, int count) {
    int fd = open(file, O_RDWR | O_CREAT, 0666);
    double begun = 0;
    // The first opens the lock.
    for (int n = -1; n < count; n++) {
        if (n == 0) begun = now();
        struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
        if (fcntl(fd, F_SETLK, &range) == -1) fail("cannot lock");
        range.l_type = F_UNLCK;
        if (fcntl(fd, F_SETLK, &range) == -1) fail("cannot release");
    }
    return (now() - begun) / count;
}

static void run(sqlite3 *database, const char *sql) {
    if (sqlite3_exec(database, sql, 0, 0, 0) != SQLITE_OK) fail(sqlite3_errmsg(database));
}

static double sqlite(const char *file, int count, const char *vfs, const char *synchronous) {
    sqlite3 *database;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    if (sqlite3_open_v2(file, &database, flags, vfs) != SQLITE_OK) fail("cannot open");
    sqlite3_busy_timeout(database, 60000);
    char sql[100];
    snprintf(sql, sizeof sql, "PRAGMA synchronous = %s; CREATE TABLE IF NOT EXISTS entry(n)", synchronous);
    run(database, sql);
    double begun = now();
    for (int n = 0; n < count; n++) run(database, "INSERT INTO entry VALUES(1)");
    double each = (now() - begun) / count;
    sqlite3_close(database);
    return each;
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 6)
        fail("usage: existing pairs FILE COUNT | existing sqlite FILE COUNT VFS SYNCHRONOUS");
    int count = atoi(argv[3]);
    double each = argc == 4 ? pairs(argv[2], count) : sqlite(argv[2], count, argv[4], argv[5]);
    printf("%.1f\n", each);
    return 0;
}
