#include "clasp.h"

#include "clasp_locks.h"
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef clasp_locks_types_error_code_t error_code;

static int fail(error_code *error, bool waited) {
    static const int numbers[] = {
        [CLASP_LOCKS_TYPES_ERROR_CODE_DEADLOCK] = EDEADLK,
        [CLASP_LOCKS_TYPES_ERROR_CODE_ACCESS] = EPERM,
        [CLASP_LOCKS_TYPES_ERROR_CODE_READ_ONLY] = EROFS,
        [CLASP_LOCKS_TYPES_ERROR_CODE_NOT_PERMITTED] = EPERM,
        [CLASP_LOCKS_TYPES_ERROR_CODE_FAMILY_MISMATCH] = ENOTSUP,
        [CLASP_LOCKS_TYPES_ERROR_CODE_NO_ENTRY] = ENOENT,
        [CLASP_LOCKS_TYPES_ERROR_CODE_INVALID_NAME] = EINVAL,
        [CLASP_LOCKS_TYPES_ERROR_CODE_IS_DIRECTORY] = EISDIR,
        [CLASP_LOCKS_TYPES_ERROR_CODE_NOT_A_FILE] = EINVAL,
        [CLASP_LOCKS_TYPES_ERROR_CODE_QUOTA] = ENOLCK,
        [CLASP_LOCKS_TYPES_ERROR_CODE_UNAVAILABLE] = ENOLCK,
        [CLASP_LOCKS_TYPES_ERROR_CODE_UNSUPPORTED] = ENOTSUP,
        [CLASP_LOCKS_TYPES_ERROR_CODE_REPLACED] = ESTALE,
        [CLASP_LOCKS_TYPES_ERROR_CODE_LOST] = EOWNERDEAD,
    };
    size_t tag = error->tag;
    int number = tag < sizeof numbers / sizeof *numbers ? numbers[tag] : 0;
    if (tag == CLASP_LOCKS_TYPES_ERROR_CODE_TIMEOUT) number = waited ? ETIMEDOUT : EWOULDBLOCK;
    clasp_locks_types_error_code_free(error);
    errno = number ? number : EIO;
    return -1;
}

/* Appends the parts of a path, each after one '/', without "." among them. */
static void append(char *to, const char *path) {
    to += strlen(to);
    while (*path) {
        size_t length = strcspn(path, "/");
        if (length > 0 && !(length == 1 && *path == '.')) {
            *to++ = '/';
            memcpy(to, path, length);
            to += length;
        }
        path += length + strspn(path + length, "/");
    }
    *to = 0;
}

struct space {
    clasp_locks_types_own_lockspace_t handle;
    char *path;
};

/* The lockspaces that the host granted, which do not change. */
static struct space *spaces;
static size_t space_count;

static bool load(void) {
    static bool loaded;
    if (loaded) return true;
    clasp_locks_preopens_list_tuple2_own_lockspace_string_t list;
    clasp_locks_preopens_get_lockspaces(&list);
    spaces = calloc(list.len + 1, sizeof *spaces);
    if (!spaces) return false;
    for (size_t each = 0; each < list.len; each++) {
        clasp_locks_string_t granted = list.ptr[each].f1;
        char *given = strndup((const char *)granted.ptr, granted.len);
        char *path = calloc(1, granted.len + 2);
        if (!given || !path) abort();
        append(path, given);
        free(given);
        spaces[space_count++] = (struct space){list.ptr[each].f0, path};
    }
    loaded = true;
    return true;
}

/* What opens a name in a lockspace, with an argument of its own. */
typedef bool opener(clasp_locks_types_borrow_lockspace_t, clasp_locks_string_t *, void *opened,
                    error_code *);

/* Opens what a path names: in the lockspace with the longest path that it begins with. */
static int open_path(const char *path, opener *open, void *opened) {
    if (!load()) return -1;
    char *directory = *path == '/' ? strdup("") : getcwd(NULL, 0);
    if (!directory) return -1;
    char *full = calloc(1, strlen(directory) + strlen(path) + 3);
    if (!full) {
        free(directory);
        return -1;
    }
    append(full, directory);
    append(full, path);
    free(directory);

    struct space *best = NULL;
    size_t prefix = 0;
    for (size_t each = 0; each < space_count; each++) {
        size_t length = strlen(spaces[each].path);
        bool fits = strncmp(full, spaces[each].path, length) == 0 && strchr("/", full[length]);
        if (fits && length >= prefix) {
            best = &spaces[each];
            prefix = length;
        }
    }
    int result = -1;
    if (best) {
        const char *rest = full + prefix + (full[prefix] == '/');
        clasp_locks_string_t name = {(uint8_t *)rest, strlen(rest)};
        error_code error;
        bool done = open(clasp_locks_types_borrow_lockspace(best->handle), &name, opened, &error);
        result = done ? 0 : fail(&error, false);
    } else {
        errno = ENOTSUP;
    }
    free(full);
    return result;
}

static bool open_lock(clasp_locks_types_borrow_lockspace_t space, clasp_locks_string_t *name,
                      void *opened, error_code *error) {
    return clasp_locks_types_method_lockspace_open(space, name, opened, error);
}

clasp_guard clasp_acquire(const char *path, enum clasp_mode mode, int64_t timeout) {
    if (mode != CLASP_SHARED && mode != CLASP_EXCLUSIVE) {
        errno = EINVAL;
        return -1;
    }
    clasp_locks_types_own_lock_t lock;
    if (open_path(path, open_lock, &lock) != 0) return -1;
    clasp_locks_types_borrow_lock_t borrowed = clasp_locks_types_borrow_lock(lock);
    clasp_locks_types_option_own_guard_t granted = {.is_some = true};
    error_code error;
    bool done;
    if (timeout == 0) {
        done = clasp_locks_types_method_lock_try_acquire(borrowed, mode, &granted, &error);
    } else {
        clasp_locks_types_duration_t limit = timeout;
        done = clasp_locks_types_method_lock_acquire(
            borrowed, mode, timeout < 0 ? NULL : &limit, &granted.val, &error);
    }
    clasp_locks_types_lock_drop_own(lock);
    if (!done) return fail(&error, timeout != 0);
    if (!granted.is_some) {
        errno = EWOULDBLOCK;
        return -1;
    }
    return granted.val.__handle;
}

/* The guard as the bindings take it. */
static bool held(clasp_guard guard, clasp_locks_types_borrow_guard_t *to) {
    if (guard <= 0) {
        errno = EBADF;
        return false;
    }
    *to = clasp_locks_types_borrow_guard((clasp_locks_types_own_guard_t){guard});
    return true;
}

int clasp_release(clasp_guard guard) {
    if (guard <= 0) {
        errno = EBADF;
        return -1;
    }
    error_code error;
    clasp_locks_types_own_guard_t own = {guard};
    return clasp_locks_types_static_guard_release(own, &error) ? 0 : fail(&error, false);
}

int clasp_check(clasp_guard guard) {
    clasp_locks_types_borrow_guard_t borrowed;
    error_code error;
    if (!held(guard, &borrowed)) return -1;
    return clasp_locks_types_method_guard_check(borrowed, &error) ? 0 : fail(&error, false);
}

int clasp_downgrade(clasp_guard guard) {
    clasp_locks_types_borrow_guard_t borrowed;
    error_code error;
    if (!held(guard, &borrowed)) return -1;
    return clasp_locks_types_method_guard_downgrade(borrowed, &error) ? 0 : fail(&error, false);
}

int clasp_try_upgrade(clasp_guard guard) {
    clasp_locks_types_borrow_guard_t borrowed;
    error_code error;
    bool upgraded;
    if (!held(guard, &borrowed)) return -1;
    if (!clasp_locks_types_method_guard_try_upgrade(borrowed, &upgraded, &error)) {
        return fail(&error, false);
    }
    return upgraded;
}

int clasp_fencing_token(clasp_guard guard, uint64_t *token) {
    clasp_locks_types_borrow_guard_t borrowed;
    error_code error;
    if (!held(guard, &borrowed)) return -1;
    bool done = clasp_locks_types_method_guard_fencing_token(borrowed, token, &error);
    return done ? 0 : fail(&error, false);
}

int clasp_touch(clasp_guard guard) {
    clasp_locks_types_borrow_guard_t borrowed;
    error_code error;
    if (!held(guard, &borrowed)) return -1;
    return clasp_locks_types_method_guard_touch(borrowed, &error) ? 0 : fail(&error, false);
}

struct semaphore {
    uint32_t permits;
    clasp_locks_semaphores_own_semaphore_t handle;
};

static bool open_semaphore(clasp_locks_types_borrow_lockspace_t space, clasp_locks_string_t *name,
                           void *opened, error_code *error) {
    struct semaphore *to = opened;
    return clasp_locks_semaphores_static_semaphore_open(space, name, to->permits, &to->handle,
                                                        error);
}

clasp_permit clasp_acquire_permits(const char *path, uint32_t permits, uint32_t count,
                                   int64_t timeout) {
    struct semaphore semaphore = {.permits = permits};
    if (open_path(path, open_semaphore, &semaphore) != 0) return -1;
    clasp_locks_semaphores_borrow_semaphore_t borrowed =
        clasp_locks_semaphores_borrow_semaphore(semaphore.handle);
    clasp_locks_semaphores_option_own_permit_t granted = {.is_some = true};
    error_code error;
    bool done;
    if (timeout == 0) {
        done = clasp_locks_semaphores_method_semaphore_try_acquire(borrowed, count, &granted,
                                                                   &error);
    } else {
        clasp_locks_semaphores_duration_t limit = timeout;
        done = clasp_locks_semaphores_method_semaphore_acquire(
            borrowed, count, timeout < 0 ? NULL : &limit, &granted.val, &error);
    }
    clasp_locks_semaphores_semaphore_drop_own(semaphore.handle);
    if (!done) return fail(&error, timeout != 0);
    if (!granted.is_some) {
        errno = EWOULDBLOCK;
        return -1;
    }
    return granted.val.__handle;
}

/* The permits as the bindings take them. */
static bool held_permit(clasp_permit permit, clasp_locks_semaphores_borrow_permit_t *to) {
    if (permit <= 0) {
        errno = EBADF;
        return false;
    }
    *to = clasp_locks_semaphores_borrow_permit((clasp_locks_semaphores_own_permit_t){permit});
    return true;
}

int clasp_permit_numbers(clasp_permit permit, uint32_t *numbers, int room) {
    clasp_locks_semaphores_borrow_permit_t borrowed;
    if (!held_permit(permit, &borrowed)) return -1;
    clasp_locks_list_u32_t list;
    clasp_locks_semaphores_method_permit_numbers(borrowed, &list);
    int count = (int)list.len;
    for (int each = 0; each < count && each < room; each++) numbers[each] = list.ptr[each];
    clasp_locks_list_u32_free(&list);
    return count;
}

int clasp_permit_number(clasp_permit permit) {
    uint32_t number = 0;
    return clasp_permit_numbers(permit, &number, 1) < 0 ? -1 : (int)number;
}

int clasp_permit_release(clasp_permit permit) {
    if (permit <= 0) {
        errno = EBADF;
        return -1;
    }
    error_code error;
    clasp_locks_semaphores_own_permit_t own = {permit};
    return clasp_locks_semaphores_static_permit_release(own, &error) ? 0 : fail(&error, false);
}

int clasp_permit_check(clasp_permit permit) {
    clasp_locks_semaphores_borrow_permit_t borrowed;
    error_code error;
    if (!held_permit(permit, &borrowed)) return -1;
    return clasp_locks_semaphores_method_permit_check(borrowed, &error) ? 0 : fail(&error, false);
}

int clasp_permit_fencing_token(clasp_permit permit, uint64_t *token) {
    clasp_locks_semaphores_borrow_permit_t borrowed;
    error_code error;
    if (!held_permit(permit, &borrowed)) return -1;
    bool done = clasp_locks_semaphores_method_permit_fencing_token(borrowed, token, &error);
    return done ? 0 : fail(&error, false);
}
