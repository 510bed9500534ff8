//! The functions of C that take the place of those of wasi-libc.
#![allow(unsafe_code)]

use crate::{
    errno::Errno,
    locks::{self, FileId, Place, Wasi},
    request::{self, Belongs, Command, Mode, NoRange},
};
use std::{
    ffi::{CString, c_int, c_void},
    mem::MaybeUninit,
    slice, str,
};

/// The functions of WASI 0.1, on which wasi-libc is built.
mod imports {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub(super) fn fd_close(fd: i32) -> i32;
        pub(super) fn fd_fdstat_set_flags(fd: i32, flags: i32) -> i32;
        pub(super) fn fd_prestat_get(fd: i32, prestat: i32) -> i32;
        pub(super) fn fd_prestat_dir_name(fd: i32, path: i32, len: i32) -> i32;
        pub(super) fn fd_renumber(fd: i32, to: i32) -> i32;
        pub(super) fn path_open(
            fd: i32,
            lookup: i32,
            path: i32,
            len: i32,
            flags: i32,
            rights: i64,
            inherited: i64,
            fd_flags: i32,
            opened: i32,
        ) -> i32;
        pub(super) fn path_rename(
            fd: i32,
            old: i32,
            old_len: i32,
            new_fd: i32,
            new: i32,
            new_len: i32,
        ) -> i32;
    }
}

unsafe extern "C" {
    /// Of the wasi-libc that is built on WASI 0.1. One that is built on WASI 0.2 opens files by
    /// other functions than those of this file, and has not this one: programs do not link,
    /// rather than lose their locks.
    fn __wasi_fd_fdstat_get(fd: i32, stat: *mut FdStat) -> u16;
}

/// `fdstat` of WASI 0.1.
#[repr(C)]
struct FdStat {
    file_type: u8,
    flags: u16,
    rights: u64,
    inherited: u64,
}

/// To read a file or a directory.
const RIGHT_READ: u64 = 1 << 1 | 1 << 14;
const RIGHT_WRITE: u64 = 1 << 6;

fn fdstat(fd: c_int) -> Result<FdStat, Errno> {
    let mut stat = MaybeUninit::<FdStat>::uninit();
    // SAFETY: the function writes an `fdstat` to the address, which is valid for that.
    let error = unsafe { __wasi_fd_fdstat_get(fd, stat.as_mut_ptr()) };
    match error {
        // SAFETY: the function has written it.
        0 => Ok(unsafe { stat.assume_init() }),
        error => Err(Errno(error.into())),
    }
}

/// The path of a directory that the program was started with.
fn preopen(fd: i32) -> Option<String> {
    if locks::is_known(fd) {
        return None;
    }
    // A tag for the kind, of which there is one, and the length of the path.
    let mut prestat = [0_u32; 2];
    // SAFETY: the function writes a `prestat`, 8 bytes, to the address.
    if unsafe { imports::fd_prestat_get(fd, prestat.as_mut_ptr() as i32) } != 0 {
        return None;
    }
    let mut path = vec![0_u8; prestat[1] as usize];
    // SAFETY: the function writes as many bytes as it is told to the address.
    let error =
        unsafe { imports::fd_prestat_dir_name(fd, path.as_mut_ptr() as i32, path.len() as i32) };
    (error == 0)
        .then_some(path)
        .and_then(|path| String::from_utf8(path).ok())
}

/// # Safety
/// The bytes must be there and stay unchanged for as long as the answer is used.
unsafe fn text<'a>(path: i32, len: i32) -> Option<&'a str> {
    // SAFETY: the caller vouches for the bytes.
    let bytes = unsafe { slice::from_raw_parts(path as *const u8, len as usize) };
    str::from_utf8(bytes).ok()
}

#[cfg(feature = "c")]
unsafe extern "C" {
    /// Of `c/exports.c`.
    fn clasp_posix_realloc(
        old: *mut c_void,
        old_len: usize,
        align: usize,
        len: usize,
    ) -> *mut c_void;
}

/// Opens a file, and notes its path.
///
/// # Safety
/// As `path_open` of WASI 0.1: the addresses must be those of a path and of a descriptor.
#[unsafe(no_mangle)]
unsafe extern "C" fn __imported_wasi_snapshot_preview1_path_open(
    fd: i32,
    lookup: i32,
    path: i32,
    len: i32,
    flags: i32,
    rights: i64,
    inherited: i64,
    fd_flags: i32,
    opened: i32,
) -> i32 {
    // Every program that opens files exports it thereby.
    #[cfg(feature = "c")]
    std::hint::black_box(clasp_posix_realloc as *const ());
    // SAFETY: the arguments are passed on.
    let error = unsafe {
        imports::path_open(
            fd, lookup, path, len, flags, rights, inherited, fd_flags, opened,
        )
    };
    if error == 0 {
        // SAFETY: the path was passed by the caller, and the function has written the
        // descriptor.
        let (path, opened) = unsafe { (text(path, len), *(opened as *const i32)) };
        if let Some(path) = path {
            locks::opened(opened, fd, preopen(fd), path);
        }
    }
    error
}

/// Closes a descriptor, and releases the locks that go with it.
#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_fd_close(fd: i32) -> i32 {
    // SAFETY: a descriptor is a number.
    let error = unsafe { imports::fd_close(fd) };
    if error == 0 {
        locks::closed(fd);
    }
    error
}

/// Gives a descriptor another number.
#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_fd_renumber(fd: i32, to: i32) -> i32 {
    // SAFETY: descriptors are numbers.
    let error = unsafe { imports::fd_renumber(fd, to) };
    if error == 0 {
        locks::renumbered(fd, to);
    }
    error
}

/// Renames a file or directory, and notes the new path of what is open.
///
/// # Safety
/// As `path_rename` of WASI 0.1: the addresses must be those of paths.
#[unsafe(no_mangle)]
unsafe extern "C" fn __imported_wasi_snapshot_preview1_path_rename(
    fd: i32,
    old: i32,
    old_len: i32,
    new_fd: i32,
    new: i32,
    new_len: i32,
) -> i32 {
    // SAFETY: the arguments are passed on.
    let error = unsafe { imports::path_rename(fd, old, old_len, new_fd, new, new_len) };
    if error == 0 {
        // SAFETY: the paths were passed by the caller.
        let (old, new) = unsafe { (text(old, old_len), text(new, new_len)) };
        if let (Some(old), Some(new)) = (old, new) {
            locks::renamed(
                Place(fd, preopen(fd), old),
                Place(new_fd, preopen(new_fd), new),
            );
        }
    }
    error
}

/// wasi-libc.
struct Libc;

fn file_id(stat: impl FnOnce(*mut libc::stat) -> c_int) -> Result<FileId, Errno> {
    let mut found = MaybeUninit::<libc::stat>::zeroed();
    if stat(found.as_mut_ptr()) != 0 {
        return Err(last_error());
    }
    // SAFETY: the function has written it, and zeros are valid.
    let found = unsafe { found.assume_init() };
    Ok((found.st_dev, found.st_ino))
}

impl Wasi for Libc {
    fn of_descriptor(&self, fd: i32) -> Result<FileId, Errno> {
        // SAFETY: the function writes a `stat` to the address.
        file_id(|stat| unsafe { libc::fstat(fd, stat) })
    }

    fn of_path(&self, path: &str) -> Result<FileId, Errno> {
        let path = CString::new(path).map_err(|_| Errno(libc::EINVAL))?;
        // SAFETY: the path ends with NUL, and the function writes a `stat` to the address.
        file_id(|stat| unsafe { libc::stat(path.as_ptr(), stat) })
    }

    fn access(&self, fd: i32) -> Result<(bool, bool), Errno> {
        let rights = fdstat(fd)?.rights;
        Ok((rights & RIGHT_READ != 0, rights & RIGHT_WRITE != 0))
    }
}

fn last_error() -> Errno {
    // SAFETY: there is always an `errno`.
    Errno(unsafe { *libc::__errno_location() })
}

/// The answer of a function that sets `errno` if it fails.
fn answer(result: Result<c_int, Errno>) -> c_int {
    match result {
        Ok(value) => value,
        Err(Errno(error)) => {
            // SAFETY: there is always an `errno`.
            unsafe { *libc::__errno_location() = error };
            -1
        }
    }
}

/// `struct flock` of wasi-libc.
#[repr(C)]
struct CFlock {
    l_type: i16,
    l_whence: i16,
    l_start: i64,
    l_len: i64,
    l_pid: i32,
}

/// The bytes that a request is for, as first byte and number.
fn range(fd: c_int, whence: i16, start: i64, len: i64) -> Result<(u64, u64), Errno> {
    // Whether it is open comes before whether it has an offset.
    if c_int::from(whence) != libc::SEEK_SET {
        fdstat(fd)?;
    }
    let base = match c_int::from(whence) {
        libc::SEEK_SET => 0,
        // SAFETY: this asks for the offset and does not change it.
        libc::SEEK_CUR => match unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) } {
            -1 => return Err(last_error()),
            offset => offset,
        },
        libc::SEEK_END => {
            let mut found = MaybeUninit::<libc::stat>::zeroed();
            // SAFETY: the function writes a `stat` to the address.
            if unsafe { libc::fstat(fd, found.as_mut_ptr()) } != 0 {
                return Err(last_error());
            }
            // SAFETY: the function has written it, and zeros are valid.
            unsafe { found.assume_init() }.st_size
        }
        _ => return Err(Errno(libc::EINVAL)),
    };
    request::range(base, start, len).map_err(|error| match error {
        NoRange::Negative => Errno(libc::EINVAL),
        NoRange::TooFar => Errno(libc::EOVERFLOW),
    })
}

fn lock_command(fd: c_int, command: Command, flock: &mut CFlock) -> Result<c_int, Errno> {
    let mode = request::mode(flock.l_type).ok_or(Errno(libc::EINVAL))?;
    let (Command::Set { belongs, .. } | Command::Test(belongs)) = command;
    if belongs == Belongs::Description && flock.l_pid != 0 {
        return Err(Errno(libc::EINVAL));
    }
    let bytes = range(fd, flock.l_whence, flock.l_start, flock.l_len)?;
    match command {
        Command::Set { belongs, wait } => {
            locks::set(&Libc, fd, belongs, mode, bytes, wait)?;
        }
        Command::Test(belongs) => {
            let mode = mode.ok_or(Errno(libc::EINVAL))?;
            match locks::test(&Libc, fd, belongs, mode, bytes)? {
                None => flock.l_type = request::F_UNLCK,
                Some(found) => {
                    flock.l_type = match found.mode {
                        clasp_guest::bindings::types::Mode::Shared => request::F_RDLCK,
                        clasp_guest::bindings::types::Mode::Exclusive => request::F_WRLCK,
                    };
                    flock.l_whence = libc::SEEK_SET as i16;
                    flock.l_start = found.start as i64;
                    flock.l_len = found.len as i64;
                    // Who has it is not told (S17).
                    flock.l_pid = -1;
                }
            }
        }
    }
    Ok(0)
}

/// `fcntl` of POSIX. The commands for locks take locks by way of the host; the others are
/// those of wasi-libc.
///
/// # Safety
/// As in C. The variable arguments are where `arguments` points to, as the C ABI of wasm has
/// it.
#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl(fd: c_int, command: c_int, arguments: *const c_void) -> c_int {
    if let Some(command) = request::command(command) {
        // SAFETY: these commands have one argument, a pointer to a `struct flock`.
        let flock = unsafe { (*arguments.cast::<*mut CFlock>()).as_mut() };
        let done = flock.ok_or(Errno(libc::EFAULT));
        return answer(done.and_then(|flock| lock_command(fd, command, flock)));
    }
    answer(match command {
        libc::F_GETFD => fdstat(fd).map(|_| libc::FD_CLOEXEC),
        libc::F_SETFD => fdstat(fd).map(|_| 0),
        libc::F_GETFL => fdstat(fd).map(|stat| {
            let read = stat.rights & RIGHT_READ != 0;
            let write = stat.rights & RIGHT_WRITE != 0;
            let access = match (read, write) {
                (true, true) => libc::O_RDWR,
                (true, false) => libc::O_RDONLY,
                (false, true) => libc::O_WRONLY,
                (false, false) => libc::O_SEARCH,
            };
            c_int::from(stat.flags) | access
        }),
        libc::F_SETFL => {
            // SAFETY: this command has one argument, a number.
            let flags = unsafe { *arguments.cast::<c_int>() } & 0xfff;
            // SAFETY: both are numbers.
            match unsafe { imports::fd_fdstat_set_flags(fd, flags) } {
                0 => Ok(0),
                error => Err(Errno(error)),
            }
        }
        _ => Err(Errno(libc::EINVAL)),
    })
}

/// `flock` of BSD and Linux.
#[unsafe(no_mangle)]
extern "C" fn flock(fd: c_int, operation: c_int) -> c_int {
    let asked = request::flock(operation).ok_or(Errno(libc::EINVAL));
    answer(asked.and_then(|(mode, wait)| locks::flock(&Libc, fd, mode, wait).map(|()| 0)))
}

/// `lockf` of POSIX.
#[unsafe(no_mangle)]
extern "C" fn lockf(fd: c_int, function: c_int, len: i64) -> c_int {
    const F_ULOCK: c_int = 0;
    const F_LOCK: c_int = 1;
    const F_TLOCK: c_int = 2;
    const F_TEST: c_int = 3;

    let here = |mode, wait| {
        let bytes = range(fd, libc::SEEK_CUR as i16, 0, len)?;
        locks::set(&Libc, fd, Belongs::Process, mode, bytes, wait).map(|()| 0)
    };
    answer(match function {
        F_ULOCK => here(None, false),
        F_LOCK => here(Some(Mode::Exclusive), true),
        F_TLOCK => here(Some(Mode::Exclusive), false),
        F_TEST => range(fd, libc::SEEK_CUR as i16, 0, len).and_then(|bytes| {
            match locks::test(&Libc, fd, Belongs::Process, Mode::Exclusive, bytes)? {
                None => Ok(0),
                Some(_) => Err(Errno(libc::EACCES)),
            }
        }),
        _ => Err(Errno(libc::EINVAL)),
    })
}
