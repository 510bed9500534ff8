//! The completion port: one thread for all waits of the process that need none
//! of their own.

use super::operation;
use std::{
    io,
    os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    sync::OnceLock,
    thread,
};
use windows_sys::Win32::{
    Foundation::{HANDLE, INVALID_HANDLE_VALUE},
    System::{
        IO::{CreateIoCompletionPort, GetQueuedCompletionStatus, OVERLAPPED},
        Threading::INFINITE,
    },
};

/// As long as the process lives.
static PORT: OnceLock<Option<OwnedHandle>> = OnceLock::new();

/// The stack of the thread: callbacks and `tracing` events fit many times.
const STACK_BYTES: usize = 256 * 1024;

/// Has the operations of a file reported to the port; `false` if that cannot
/// be. Once for each file.
pub(super) fn adopt(file: impl AsHandle) -> bool {
    let port = PORT.get_or_init(|| match open() {
        Ok(port) => Some(port),
        Err(error) => {
            tracing::warn!(target: "clasp::wait", %error, "no completion port: waits need threads");
            None
        }
    });
    let Some(port) = port else { return false };
    let file = file.as_handle();
    // SAFETY: both handles are open.
    let adopted =
        unsafe { CreateIoCompletionPort(file.as_raw_handle(), port.as_raw_handle(), 0, 0) };
    !adopted.is_null()
}

fn open() -> io::Result<OwnedHandle> {
    // SAFETY: these arguments ask for a new port, for one thread at a time.
    let port = unsafe { CreateIoCompletionPort(INVALID_HANDLE_VALUE, ptr::null_mut(), 0, 1) };
    if port.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle is new, and only this code has it.
    let port = unsafe { OwnedHandle::from_raw_handle(port) };
    let serves = port.try_clone()?;
    thread::Builder::new()
        .name("clasp-port".into())
        .stack_size(STACK_BYTES)
        .spawn(move || serve(&serves))?;
    Ok(port)
}

fn serve(port: &OwnedHandle) {
    let port: HANDLE = port.as_raw_handle();
    loop {
        let (mut bytes, mut key) = (0, 0);
        let mut overlapped: *mut OVERLAPPED = ptr::null_mut();
        // SAFETY: the port is open, and the places outlive the call.
        let done = unsafe {
            GetQueuedCompletionStatus(
                port,
                &raw mut bytes,
                &raw mut key,
                &raw mut overlapped,
                INFINITE,
            )
        };
        let result = match done {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        };
        if overlapped.is_null() {
            // The port itself: there is nothing that could be waited for.
            let error = result.err();
            tracing::error!(target: "clasp::wait", ?error, "the completion port has failed");
            return;
        }
        // Whatever goes wrong for one must not end the waits of all.
        let passed_on = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: it is given back once, and only this thread has the port.
            unsafe { operation::over(overlapped, result) };
        }));
        if passed_on.is_err() {
            tracing::error!(target: "clasp::wait", "passing on the end of a wait has panicked");
        }
    }
}
