// `sqlite-c DATABASE COUNT WHO`: adds rows to a database, one in each transaction.

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(sqlite3 *database) {
    fprintf(stderr, "%s (%d)\n", sqlite3_errmsg(database), sqlite3_extended_errcode(database));
    return 1;
}

int main(int argc, char **argv) {
    sqlite3 *database;
    sqlite3_stmt *insert;
    if (argc != 4) {
        fprintf(stderr, "usage: sqlite-c DATABASE COUNT WHO\n");
        return 2;
    }
    if (sqlite3_open(argv[1], &database) != SQLITE_OK) return fail(database);
    sqlite3_busy_timeout(database, 60000);
    if (sqlite3_exec(database, "CREATE TABLE IF NOT EXISTS entry(who, n)", 0, 0, 0) != SQLITE_OK)
        return fail(database);
    const char *sql = "INSERT INTO entry VALUES(?1, ?2)";
    if (sqlite3_prepare_v2(database, sql, -1, &insert, 0) != SQLITE_OK) return fail(database);
    for (int n = 0; n < atoi(argv[2]); n++) {
        sqlite3_bind_text(insert, 1, argv[3], -1, SQLITE_STATIC);
        sqlite3_bind_int(insert, 2, n);
        if (sqlite3_step(insert) != SQLITE_DONE) return fail(database);
        sqlite3_reset(insert);
    }
    sqlite3_finalize(insert);
    return sqlite3_close(database) == SQLITE_OK ? 0 : 1;
}
