// What mptest uses and a guest has not. A client starts no process, and one number is enough.
#include <stdlib.h>
#include <unistd.h>

static inline int clasp_one(void) { return 1; }
#define getpid clasp_one
#define system(command) (-1)
