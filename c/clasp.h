/* Locks between processes, for programs in C.
 *
 *     #include <clasp.h>
 *
 *     clasp_scoped clasp_guard guard = clasp_acquire("data/lock", CLASP_EXCLUSIVE, CLASP_FOREVER);
 *     if (guard < 0) ...
 *
 * Functions that fail return -1 and set errno:
 *
 *     EWOULDBLOCK  the lock is taken, and the timeout is 0
 *     ETIMEDOUT    the lock was not free in time
 *     EDEADLK      the program would wait for a lock that it holds itself
 *     ENOLCK       the program has as many locks as the host allows, or the host cannot lock now
 *     ENOTSUP      the host has granted no locks for this path, or cannot do this
 *     EPERM        the host, or its user, may not do this
 *     EROFS        the host has granted the directory for reading only
 *     ENOENT       a directory of the path is missing, or the file, which the host may not create
 *     EISDIR       the path leads to a directory
 *     EINVAL       the path leads to no regular file, or cannot be the name of a lock
 *     ESTALE       another file was given the name of the lock
 *     EOWNERDEAD   the lock was lost, as one on a server can be
 *     EBADF        the guard is not greater than 0
 *     EIO          anything else
 *
 * A guard that was released must not be used again: the host ends a program that uses a handle which
 * it does not have.
 */
#ifndef CLASP_H
#define CLASP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A lock that is held, as a number greater than 0. It is the handle of the resource `guard` of
 * `clasp:locks/types`, so the functions of <clasp_locks.h> take it too. */
typedef int32_t clasp_guard;

enum clasp_mode {
    CLASP_SHARED,
    CLASP_EXCLUSIVE,
};

/* As a timeout: as long as the host allows. */
#define CLASP_FOREVER INT64_C(-1)

/* Takes the lock on a file, and waits for it for `timeout` nanoseconds. With the timeout 0 it does
 * not wait. The file is created if it is missing. */
clasp_guard clasp_acquire(const char *path, enum clasp_mode mode, int64_t timeout);

/* Releases a lock. The guard is gone, whatever the result. */
int clasp_release(clasp_guard guard);

/* Fails if the lock was lost, or its file replaced. */
int clasp_check(clasp_guard guard);

/* Makes an exclusive lock shared. Nobody else can hold it exclusively in between. */
int clasp_downgrade(clasp_guard guard);

/* Makes a shared lock exclusive if nobody else holds it. Returns 1 if it did, and 0 if not. */
int clasp_try_upgrade(clasp_guard guard);

/* Writes a number that is greater than the one of any earlier exclusive holder. */
int clasp_fencing_token(clasp_guard guard, uint64_t *token);

/* Sets the time at which the lock file was modified to now. */
int clasp_touch(clasp_guard guard);

static inline void clasp_scope_end(clasp_guard *guard) {
    if (*guard > 0) clasp_release(*guard);
    *guard = -1;
}

/* Before a variable: its lock is released at the end of the block, by `return` and `goto` too. */
#define clasp_scoped __attribute__((cleanup(clasp_scope_end)))

#ifdef __cplusplus
}
#endif
#endif
