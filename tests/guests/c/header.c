/* The functions of <clasp.h>, each with what it does to other holders and the errors that it gives.
 *
 * A word says which cases: `alone`, or those with a lock that another process has (`taken`), with
 * one that may only be shared (`shared-only`), or with few locks (`quota`). */
#include <clasp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHORT INT64_C(5000000)

#define holds(condition) check(condition, #condition, __LINE__)
#define fails(call, number) refused(call, number, #call, __LINE__)

static void check(int holds, const char *what, int line) {
    if (holds) return;
    printf("line %d: not so: %s (errno: %s)\n", line, what, strerror(errno));
    exit(1);
}

static void refused(int result, int number, const char *what, int line) {
    if (result == -1 && errno == number) return;
    printf("line %d: %s gave %d (errno: %s) instead of: %s\n", line, what, result,
           strerror(errno), strerror(number));
    exit(1);
}

static clasp_guard try(const char *path, enum clasp_mode mode) {
    return clasp_acquire(path, mode, 0);
}

static int is_free(const char *path) {
    clasp_scoped clasp_guard guard = try(path, CLASP_EXCLUSIVE);
    holds(guard > 0 || errno == EWOULDBLOCK);
    return guard > 0;
}

static int returns_early(void) {
    clasp_scoped clasp_guard guard = try("data/scoped", CLASP_EXCLUSIVE);
    holds(guard > 0);
    holds(!is_free("data/scoped"));
    return 1;
}

static void scopes(void) {
    holds(returns_early());
    holds(is_free("data/scoped"));
    for (int turn = 0; turn < 3; turn++) {
        clasp_scoped clasp_guard guard = try("data/scoped", CLASP_EXCLUSIVE);
        holds(guard > 0);
        if (turn == 1) goto out;
    }
out:
    holds(is_free("data/scoped"));
    /* A guard that was refused is not released. */
    clasp_scoped clasp_guard held = try("data/scoped", CLASP_EXCLUSIVE);
    {
        clasp_scoped clasp_guard none = try("data/scoped", CLASP_EXCLUSIVE);
        fails(none, EWOULDBLOCK);
    }
    holds(!is_free("data/scoped"));
}

static void modes(void) {
    clasp_guard one = clasp_acquire("data/modes", CLASP_SHARED, CLASP_FOREVER);
    clasp_guard two = clasp_acquire("data/modes", CLASP_SHARED, SHORT);
    holds(one > 0 && two > 0);
    fails(try("data/modes", CLASP_EXCLUSIVE), EWOULDBLOCK);
    holds(clasp_try_upgrade(one) == 0);
    holds(clasp_release(two) == 0);
    holds(clasp_try_upgrade(one) == 1);
    fails(try("data/modes", CLASP_SHARED), EWOULDBLOCK);
    uint64_t first, second;
    holds(clasp_fencing_token(one, &first) == 0);
    holds(clasp_downgrade(one) == 0);
    two = try("data/modes", CLASP_SHARED);
    holds(two > 0);
    holds(clasp_release(one) == 0 && clasp_release(two) == 0);
    one = try("data/modes", CLASP_EXCLUSIVE);
    holds(clasp_fencing_token(one, &second) == 0 && second > first);
    holds(clasp_release(one) == 0);
}

static void files(void) {
    clasp_guard guard = try("data/file", CLASP_EXCLUSIVE);
    struct stat before, after;
    holds(stat("data/file", &before) == 0);
    holds(clasp_touch(guard) == 0);
    holds(stat("data/file", &after) == 0);
    holds(after.st_mtim.tv_sec > before.st_mtim.tv_sec ||
          after.st_mtim.tv_nsec > before.st_mtim.tv_nsec);
    holds(clasp_check(guard) == 0);
    holds(unlink("data/file") == 0);
    fails(clasp_check(guard), ESTALE);
    clasp_release(guard);
}

static void paths(void) {
    holds(mkdir("data/directory", 0777) == 0);
    clasp_guard guard = try("data//./directory/lock", CLASP_EXCLUSIVE);
    holds(guard > 0);
    holds(chdir("data/directory") == 0);
    fails(try("lock", CLASP_EXCLUSIVE), EWOULDBLOCK);
    fails(try("./lock", CLASP_EXCLUSIVE), EWOULDBLOCK);
    fails(try("/data/directory/lock", CLASP_EXCLUSIVE), EWOULDBLOCK);
    holds(clasp_release(guard) == 0);

    fails(try("/elsewhere/lock", CLASP_EXCLUSIVE), ENOTSUP);
    fails(try("/database", CLASP_EXCLUSIVE), ENOTSUP);
    fails(try("/data", CLASP_EXCLUSIVE), EINVAL);
    fails(try("../lock", CLASP_EXCLUSIVE), EINVAL);
    fails(try("/data/missing/lock", CLASP_EXCLUSIVE), ENOENT);
    fails(try("/data/directory", CLASP_EXCLUSIVE), EISDIR);
}

static void mistakes(void) {
    fails(clasp_acquire("/data/lock", (enum clasp_mode)7, 0), EINVAL);
    fails(clasp_release(-1), EBADF);
    fails(clasp_check(0), EBADF);
    fails(clasp_downgrade(-1), EBADF);
    fails(clasp_try_upgrade(-1), EBADF);
    fails(clasp_fencing_token(-1, NULL), EBADF);
    fails(clasp_touch(-1), EBADF);
    clasp_scoped clasp_guard guard = try("/data/lock", CLASP_EXCLUSIVE);
    fails(clasp_acquire("/data/lock", CLASP_SHARED, CLASP_FOREVER), EDEADLK);
    holds(clasp_check(guard) == 0);
}

static void permits(void) {
    clasp_permit one = clasp_acquire_permits("/data/permits", 3, 1, CLASP_FOREVER);
    holds(one > 0 && clasp_permit_number(one) == 0);
    {
        clasp_permit_scoped clasp_permit two = clasp_acquire_permits("/data/permits", 3, 2, SHORT);
        uint32_t numbers[2] = {7, 7};
        holds(clasp_permit_numbers(two, numbers, 1) == 2 && numbers[0] == 1 && numbers[1] == 7);
        holds(clasp_permit_numbers(two, numbers, 2) == 2 && numbers[1] == 2);
        fails(clasp_acquire_permits("/data/permits", 3, 1, 0), EWOULDBLOCK);
        fails(clasp_acquire_permits("/data/permits", 3, 1, CLASP_FOREVER), EDEADLK);
        fails(clasp_acquire_permits("/data/permits", 3, 4, 0), ENOTSUP);
        fails(clasp_acquire_permits("/data/permits", 2, 1, 0), ENOTSUP);
        holds(clasp_permit_check(two) == 0);
        uint64_t token;
        fails(clasp_permit_fencing_token(two, &token), ENOTSUP);
    }
    holds(clasp_permit_release(one) == 0);
    fails(clasp_acquire_permits("/data/permits", 65, 1, 0), ENOTSUP);
    fails(clasp_permit_release(-1), EBADF);
    fails(clasp_permit_number(0), EBADF);
    fails(clasp_permit_check(0), EBADF);
    clasp_permit_scoped clasp_permit all = clasp_acquire_permits("/data/permits", 3, 3, 0);
    holds(all > 0);
}

static void taken(void) {
    fails(try("data/taken", CLASP_SHARED), EWOULDBLOCK);
    fails(clasp_acquire("data/taken", CLASP_SHARED, SHORT), ETIMEDOUT);
    puts("waiting");
    fflush(stdout);
    clasp_scoped clasp_guard guard = clasp_acquire("data/taken", CLASP_EXCLUSIVE, CLASP_FOREVER);
    holds(guard > 0);
    puts("granted");
}

static void shared_only(void) {
    clasp_scoped clasp_guard guard = try("data/lock", CLASP_SHARED);
    holds(guard > 0);
    fails(try("data/lock", CLASP_EXCLUSIVE), EROFS);
    fails(clasp_touch(guard), EROFS);
}

static void quota(void) {
    clasp_scoped clasp_guard guard = try("data/one", CLASP_EXCLUSIVE);
    holds(guard > 0);
    fails(try("data/two", CLASP_EXCLUSIVE), ENOLCK);
}

int main(int argc, char **argv) {
    static const struct {
        const char *word, *name;
        void (*run)(void);
    } cases[] = {
        {"alone", "scopes", scopes},
        {"alone", "modes", modes},
        {"alone", "files", files},
        {"alone", "paths", paths},
        {"alone", "mistakes", mistakes},
        {"alone", "permits", permits},
        {"taken", "taken", taken},
        {"shared-only", "shared-only", shared_only},
        {"quota", "quota", quota},
    };
    for (size_t each = 0; each < sizeof cases / sizeof *cases; each++) {
        if (argc < 2 || strcmp(argv[1], cases[each].word) != 0) continue;
        cases[each].run();
        printf("ok: %s\n", cases[each].name);
    }
    return 0;
}
