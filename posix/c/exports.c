// The allocator that a component exports. C compilers can mark a function as exported; Rust
// leaves that to the linker's options, and this library is to need none.
#include <stddef.h>

extern void *cabi_realloc(void *old, size_t old_len, size_t align, size_t len);

__attribute__((export_name("cabi_realloc")))
void *clasp_posix_realloc(void *old, size_t old_len, size_t align, size_t len) {
    return cabi_realloc(old, old_len, align, len);
}
