/* As `count.py`, in C.
 *
 * target/posix/bin/cc -O2 count.c -o count_c.wasm     (after `cargo xtask posix`)
 * clasp run --dir ./data::data --locks ./data::data count_c.wasm 100
 */
#include <clasp.h>
#include <stdio.h>
#include <stdlib.h>

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void add(void) {
    clasp_scoped clasp_guard guard =
        clasp_acquire("data/count.lock", CLASP_EXCLUSIVE, CLASP_FOREVER);
    if (guard < 0) fail("data/count.lock");
    FILE *file = fopen("data/count", "r+");
    long number = 0;
    if (file == NULL || fscanf(file, "%ld", &number) != 1) fail("data/count");
    rewind(file);
    fprintf(file, "%ld", number + 1);
    if (fclose(file) != 0) fail("data/count");
}

int main(int argc, char **argv) {
    for (long turns = argc > 1 ? atol(argv[1]) : 1; turns > 0; turns--) add();
    return 0;
}
