/* The header of the C library, with lockf(3), which wasi-libc leaves out. */
#ifndef CLASP_POSIX_UNISTD_H
#define CLASP_POSIX_UNISTD_H

#include_next <unistd.h>

#ifndef F_ULOCK
#define F_ULOCK 0
#define F_LOCK 1
#define F_TLOCK 2
#define F_TEST 3
#endif

#ifdef __wasi__
#ifdef __cplusplus
extern "C" {
#endif
int lockf(int, int, off_t);
#ifdef __cplusplus
}
#endif
#endif

#endif
