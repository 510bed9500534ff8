// `sqlite-worker DATABASE WHO [VFS]`: for each line of its standard input, moves one unit from one
// account to another in a transaction, and prints the number of the transaction after its commit.

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

static void check(int result, sqlite3 *database) {
    if (result == SQLITE_OK || result == SQLITE_DONE) return;
    printf("error %d: %s\n", sqlite3_extended_errcode(database), sqlite3_errmsg(database));
    exit(1);
}

static void run(sqlite3 *database, const char *sql) {
    check(sqlite3_exec(database, sql, 0, 0, 0), database);
}

int main(int argc, char **argv) {
    sqlite3 *database;
    char line[200];
    check(sqlite3_open_v2(argv[1], &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, argc > 3 ? argv[3] : 0), database);
    sqlite3_busy_timeout(database, 60000);
    // A process that is killed loses no commit for that; only the machine could. The small cache
    // has each transaction write the database before its commit.
    run(database, "PRAGMA synchronous = OFF; PRAGMA cache_size = 5");
    for (long n = 1; fgets(line, sizeof line, stdin); n++) {
        run(database, "BEGIN IMMEDIATE");
        run(database, "UPDATE account SET money = money - 1 WHERE id = 1");
        run(database, "UPDATE account SET money = money + 1 WHERE id = 2");
        run(database, "UPDATE filler SET data = randomblob(3000)");
        snprintf(line, sizeof line, "INSERT INTO entry VALUES('%s', %ld)", argv[2], n);
        run(database, line);
        run(database, "COMMIT");
        printf("%ld\n", n);
        fflush(stdout);
    }
    return 0;
}
