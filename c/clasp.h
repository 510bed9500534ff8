/* Locks between processes, for programs in C.
 *
 *     #include <clasp.h>
 *
 *     clasp_scoped clasp_guard guard = clasp_acquire("data/lock", CLASP_EXCLUSIVE, CLASP_FOREVER);
 *     if (guard < 0) ...
 *
 * Functions that fail return -1 and set errno:
 *
 *     EWOULDBLOCK  the lock is taken, or too few permits are free, and the timeout is 0
 *     ETIMEDOUT    the lock, or the permits, were not free in time
 *     EDEADLK      the program would wait for what it holds itself
 *     ENOLCK       the program has as many locks as the host allows, or the host cannot lock now
 *     ENOTSUP      the host has granted no locks for this path, or cannot do this; the file is in use
 *                  as another kind of lock, or with another number of permits
 *     EPERM        the host, or its user, may not do this
 *     EROFS        the host has granted the directory for reading only
 *     ENOENT       a directory of the path is missing, or the file, which the host may not create
 *     EISDIR       the path leads to a directory
 *     EINVAL       the path leads to no regular file, or cannot be the name of a lock
 *     ESTALE       another file was given the name of the lock
 *     EOWNERDEAD   the lock was lost, as one on a server can be
 *     EBADF        the guard, or the permit, is not greater than 0
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

/* Permits of a semaphore that are held, as a number greater than 0: the handle of the resource
 * `permit` of `clasp:locks/semaphores`. */
typedef int32_t clasp_permit;

/* Takes `count` permits, all at once, of the semaphore that is the file of this path and has `permits`
 * permits, from 1 to 64. It waits for them for `timeout` nanoseconds. All programs that use the
 * semaphore must give the same number of permits. */
clasp_permit clasp_acquire_permits(const char *path, uint32_t permits, uint32_t count,
                                   int64_t timeout);

/* The number of a permit, from 0; of several permits the least. No two holders have the same number at
 * the same time. */
int clasp_permit_number(clasp_permit permit);

/* Writes the numbers of the permits to `numbers`, in ascending order, but no more than `room` of them.
 * Returns how many permits there are. */
int clasp_permit_numbers(clasp_permit permit, uint32_t *numbers, int room);

/* Releases permits. They are gone, whatever the result. */
int clasp_permit_release(clasp_permit permit);

/* Fails if the permits were lost, or the file replaced. */
int clasp_permit_check(clasp_permit permit);

/* Writes a number that is greater than the one of any earlier holder of one of these permits. Fails
 * with ENOTSUP for files, whose permits cannot be lost. */
int clasp_permit_fencing_token(clasp_permit permit, uint64_t *token);

static inline void clasp_permit_scope_end(clasp_permit *permit) {
    if (*permit > 0) clasp_permit_release(*permit);
    *permit = -1;
}

/* Before a variable: its permits are released at the end of the block. */
#define clasp_permit_scoped __attribute__((cleanup(clasp_permit_scope_end)))

#ifdef __cplusplus
}
#endif
#endif
