/* The header of the C library, with the commands for locks that wasi-libc leaves out:
 * those of fcntl(2), and lockf(3). */
#ifndef CLASP_POSIX_FCNTL_H
#define CLASP_POSIX_FCNTL_H

#include_next <fcntl.h>

#ifndef F_GETLK
#define F_GETLK 12
#define F_SETLK 13
#define F_SETLKW 14
#endif

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38
#endif

#ifndef F_RDLCK
#define F_RDLCK 0
#define F_WRLCK 1
#define F_UNLCK 2
#endif

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
