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

/* Opens the lock of a path: in the lockspace with the longest path that it begins with. */
static int open_lock(const char *path, clasp_locks_types_own_lock_t *lock) {
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
        bool opened = clasp_locks_types_method_lockspace_open(
            clasp_locks_types_borrow_lockspace(best->handle), &name, lock, &error);
        result = opened ? 0 : fail(&error, false);
    } else {
        errno = ENOTSUP;
    }
    free(full);
    return result;
}

clasp_guard clasp_acquire(const char *path, enum clasp_mode mode, int64_t timeout) {
    if (mode != CLASP_SHARED && mode != CLASP_EXCLUSIVE) {
        errno = EINVAL;
        return -1;
    }
    clasp_locks_types_own_lock_t lock;
    if (open_lock(path, &lock) != 0) return -1;
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
