//! Overlapped operations: to wait for one, to be told when it is over, to end
//! it.

use super::code;
use crate::{
    file::{
        error::translate,
        kernel::{Done, Waited},
    },
    sync::Mutex,
};
use std::{
    cell::{OnceCell, UnsafeCell},
    fs::File,
    io,
    os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle},
    ptr,
    sync::Arc,
};
use windows_sys::Win32::{
    Foundation::{ERROR_IO_PENDING, ERROR_OPERATION_ABORTED, HANDLE, STATUS_PENDING},
    System::{
        IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED},
        Threading::CreateEventW,
    },
};

/// What a call that may take long has achieved when it returns.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// All.
    Over,
    /// The system goes on with it.
    Pending,
}

impl Begun {
    /// From the answer of the call, which is an error if the system does not
    /// go on with it.
    pub(super) fn new(done: i32) -> io::Result<Begun> {
        if done != 0 {
            return Ok(Begun::Over);
        }
        match io::Error::last_os_error() {
            error if code(&error) == Some(ERROR_IO_PENDING) => Ok(Begun::Pending),
            error => Err(error),
        }
    }
}

/// Begins an operation. The pointer is valid until the operation is over.
type Begin = dyn Fn(BorrowedHandle<'_>, *mut OVERLAPPED) -> io::Result<Begun> + Send + Sync;

thread_local! {
    static EVENT: OnceCell<Arc<OwnedHandle>> = const { OnceCell::new() };
}

/// An event that no other thread uses.
fn event() -> io::Result<Arc<OwnedHandle>> {
    let kept = EVENT.try_with(|kept| kept.get().map(Arc::clone));
    if let Ok(Some(event)) = kept {
        return Ok(event);
    }
    // SAFETY: what is null is optional; 1 makes an event that stays set.
    let event = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
    if event.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle is new, and only this code has it.
    let event = Arc::new(unsafe { OwnedHandle::from_raw_handle(event) });
    // A thread that is ending cannot keep it.
    let _ = EVENT.try_with(|kept| kept.set(Arc::clone(&event)));
    Ok(event)
}

/// An operation at the start of the file that is reported by an event and by
/// no completion port: that is what the lowest bit says.
fn reported_by(event: &OwnedHandle) -> OVERLAPPED {
    OVERLAPPED {
        hEvent: event.as_raw_handle().map_addr(|handle| handle | 1),
        ..OVERLAPPED::default()
    }
}

/// Waits until an operation is over.
///
/// # Safety
/// The operation is pending on this file and reported by an event.
unsafe fn wait_for(file: BorrowedHandle<'_>, overlapped: *mut OVERLAPPED) -> io::Result<()> {
    let mut bytes = 0;
    loop {
        // SAFETY: as the caller says, and 1 has the call wait.
        let done =
            unsafe { GetOverlappedResult(file.as_raw_handle(), overlapped, &raw mut bytes, 1) };
        if done != 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // SAFETY: it is valid; the system may write to it at any time.
        let status = unsafe { (&raw const (*overlapped).Internal).read_volatile() };
        if status != STATUS_PENDING as usize {
            return Err(error);
        }
        // The waiting itself has failed, and the system still has the pointer.
        // SAFETY: the file is open; the pointer is only compared.
        unsafe { CancelIoEx(file.as_raw_handle(), overlapped) };
    }
}

/// Does an operation that takes no time worth mentioning.
pub(super) fn complete(
    file: BorrowedHandle<'_>,
    begin: impl FnOnce(*mut OVERLAPPED) -> io::Result<Begun>,
) -> io::Result<()> {
    let event = event()?;
    let overlapped = UnsafeCell::new(reported_by(&event));
    match begin(overlapped.get())? {
        Begun::Over => Ok(()),
        // SAFETY: it is pending, and `reported_by` an event.
        Begun::Pending => unsafe { wait_for(file, overlapped.get()) },
    }
}

/// One operation that may take long.
pub(super) struct Operation {
    file: Arc<File>,
    begin: Box<Begin>,
    state: Mutex<State>,
}

enum State {
    Idle,
    /// The system has this pointer.
    Running(*mut OVERLAPPED),
    /// Not to begin any more.
    Cancelled,
    Over,
}

// SAFETY: the pointer is only passed to the system, under the mutex, and taken
// out of the state before what it points to goes.
unsafe impl Send for State {}

/// Which operation it is, and who is to be told.
type Whose = Option<(Arc<Operation>, Done)>;

/// What goes on by itself: its own until the completion port has it.
///
/// The system is given a pointer to the first field and gives it back.
#[repr(C)]
struct Started {
    overlapped: OVERLAPPED,
    /// None if it could not begin. Locked until that is known: the port may
    /// have it before.
    whose: Arc<Mutex<Whose>>,
}

impl Operation {
    /// # Safety
    /// `begin` uses its pointer for one overlapped operation on the file that
    /// it is given, and answers as [`Begun`] says.
    pub(super) unsafe fn new(
        file: Arc<File>,
        begin: impl Fn(BorrowedHandle<'_>, *mut OVERLAPPED) -> io::Result<Begun> + Send + Sync + 'static,
    ) -> Operation {
        Operation {
            file,
            begin: Box::new(begin),
            state: Mutex::new(State::Idle),
        }
    }

    /// Waits on the calling thread.
    pub(super) fn run(&self) -> io::Result<Waited> {
        let file = self.file.as_handle();
        let event = event()?;
        let overlapped = UnsafeCell::new(reported_by(&event));
        let mut state = self.state.lock();
        if let State::Cancelled = *state {
            return Ok(Waited::Cancelled);
        }
        if (self.begin)(file, overlapped.get())? == Begun::Over {
            *state = State::Over;
            return Ok(Waited::Granted);
        }
        *state = State::Running(overlapped.get());
        drop(state);
        // SAFETY: it is pending, and `reported_by` an event.
        let result = unsafe { wait_for(file, overlapped.get()) };
        *self.state.lock() = State::Over;
        ended(result)
    }

    /// Begins it; `done` is called by the thread of the completion port that
    /// the file belongs to.
    pub(super) fn start(self: &Arc<Self>, done: Done) -> io::Result<()> {
        let mut state = self.state.lock();
        if let State::Cancelled = *state {
            return Err(io::Error::from_raw_os_error(ERROR_OPERATION_ABORTED as i32));
        }
        // The system's until the port gives it back. It gives back what is over
        // at once, too; what could not begin it mostly does not, but a filter
        // of the file system may have it do so, so that is never freed here.
        let whose = Arc::<Mutex<Whose>>::default();
        let started = Box::into_raw(Box::new(Started {
            overlapped: OVERLAPPED::default(),
            whose: Arc::clone(&whose),
        }));
        let overlapped = started.cast();
        let mut whose = whose.lock();
        (self.begin)(self.file.as_handle(), overlapped)?;
        *whose = Some((Arc::clone(self), done));
        *state = State::Running(overlapped);
        Ok(())
    }

    /// Ends it, also before it has begun.
    pub(super) fn cancel(&self) {
        let mut state = self.state.lock();
        match *state {
            State::Idle => *state = State::Cancelled,
            State::Running(overlapped) => {
                let file: HANDLE = self.file.as_raw_handle();
                // SAFETY: the file is open; the pointer is only compared.
                // That nothing is found means that it is over.
                unsafe { CancelIoEx(file, overlapped) };
            }
            State::Cancelled | State::Over => {}
        }
    }
}

/// Passes on that a started operation is over.
///
/// # Safety
/// The completion port has given back this pointer, for the first time.
pub(super) unsafe fn over(overlapped: *mut OVERLAPPED, result: io::Result<()>) {
    // SAFETY: only `start` gives operations to the port, as the first field of
    // what it made of a box.
    let started = unsafe { Box::from_raw(overlapped.cast::<Started>()) };
    let Some((operation, done)) = started.whose.lock().take() else {
        return;
    };
    *operation.state.lock() = State::Over;
    done(ended(result).map_err(|error| translate(&error)));
}

fn ended(result: io::Result<()>) -> io::Result<Waited> {
    match result {
        Ok(()) => Ok(Waited::Granted),
        // Also by other code, such as the system when a thread ends.
        Err(error) if code(&error) == Some(ERROR_OPERATION_ABORTED) => Ok(Waited::Cancelled),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    //! The operations are connections to pipes, which end on Wine, too.

    use super::{super::port, *};
    use std::{
        sync::{
            atomic::{AtomicU64, Ordering},
            mpsc,
        },
        thread,
        time::Duration,
    };
    use windows_sys::Win32::{
        Foundation::{ERROR_PIPE_CONNECTED, INVALID_HANDLE_VALUE},
        Storage::FileSystem::{FILE_FLAG_OVERLAPPED, PIPE_ACCESS_DUPLEX},
        System::Pipes::{ConnectNamedPipe, CreateNamedPipeW},
    };

    const LIVENESS_TIMEOUT: Duration = Duration::from_secs(30);
    const STILL_BLOCKED: Duration = Duration::from_millis(60);

    struct Pipe {
        name: String,
        file: Arc<File>,
    }

    impl Pipe {
        fn new() -> Pipe {
            static NUMBERS: AtomicU64 = AtomicU64::new(0);
            let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
            let name = format!(r"\\.\pipe\clasp-{}-{number}", std::process::id());
            let wide: Vec<u16> = name.encode_utf16().chain([0]).collect();
            let open = PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED;
            // SAFETY: the name ends with a zero, and what is null is optional.
            let pipe = unsafe { CreateNamedPipeW(wide.as_ptr(), open, 0, 1, 0, 0, 0, ptr::null()) };
            assert_ne!(pipe, INVALID_HANDLE_VALUE);
            // SAFETY: the handle is new, and only this code has it.
            let file = Arc::new(unsafe { File::from_raw_handle(pipe) });
            Pipe { name, file }
        }

        /// What waits until a client connects.
        fn operation(&self) -> Arc<Operation> {
            // SAFETY: a connection is one such operation.
            Arc::new(unsafe {
                Operation::new(Arc::clone(&self.file), |file, overlapped| {
                    match Begun::new(ConnectNamedPipe(file.as_raw_handle(), overlapped)) {
                        // The client was faster than the thread.
                        Err(error) if code(&error) == Some(ERROR_PIPE_CONNECTED) => Ok(Begun::Over),
                        begun => begun,
                    }
                })
            })
        }

        fn connect(&self) -> File {
            File::options()
                .read(true)
                .write(true)
                .open(&self.name)
                .unwrap()
        }
    }

    /// Begins on a thread, or with the completion port.
    fn begin(pipe: &Pipe, threadless: bool) -> (Arc<Operation>, mpsc::Receiver<Waited>) {
        let operation = pipe.operation();
        let (send, ended) = mpsc::channel();
        if threadless {
            assert!(port::adopt(&*pipe.file));
            let done =
                move |result: Result<Waited, crate::Error>| send.send(result.unwrap()).unwrap();
            operation.start(Box::new(done)).unwrap();
        } else {
            let operation = Arc::clone(&operation);
            thread::spawn(move || send.send(operation.run().unwrap()).unwrap());
        }
        (operation, ended)
    }

    #[test]
    fn an_operation_ends_with_its_event() {
        for threadless in [false, true] {
            let pipe = Pipe::new();
            let (operation, ended) = begin(&pipe, threadless);
            assert!(ended.recv_timeout(STILL_BLOCKED).is_err());
            let _client = pipe.connect();
            assert_eq!(ended.recv_timeout(LIVENESS_TIMEOUT), Ok(Waited::Granted));
            // Too late, and no harm.
            operation.cancel();
        }
    }

    #[test]
    fn an_operation_is_cancelled() {
        for threadless in [false, true] {
            let pipe = Pipe::new();
            let (operation, ended) = begin(&pipe, threadless);
            assert!(ended.recv_timeout(STILL_BLOCKED).is_err());
            operation.cancel();
            assert_eq!(ended.recv_timeout(LIVENESS_TIMEOUT), Ok(Waited::Cancelled));
        }
    }

    #[test]
    fn an_operation_is_cancelled_before_it_begins() {
        let pipe = Pipe::new();
        let operation = pipe.operation();
        operation.cancel();
        assert_eq!(operation.run().unwrap(), Waited::Cancelled);
        let operation = pipe.operation();
        operation.cancel();
        assert!(port::adopt(&*pipe.file));
        assert!(
            operation
                .start(Box::new(|_| panic!("it was not begun")))
                .is_err()
        );
    }

    #[test]
    fn what_cannot_begin_is_an_error() {
        let file = Arc::new(File::open(std::env::current_exe().unwrap()).unwrap());
        // SAFETY: a connection is one such operation.
        let operation = Arc::new(unsafe {
            Operation::new(file, |file, overlapped| {
                Begun::new(ConnectNamedPipe(file.as_raw_handle(), overlapped))
            })
        });
        assert!(operation.run().is_err());
        assert!(
            operation
                .start(Box::new(|_| panic!("it was not begun")))
                .is_err()
        );
    }

    /// The completion and the cancellation race, and the thread that began
    /// ends meanwhile.
    #[test]
    fn an_operation_ends_once_whatever_ends_it() {
        for round in 0..200 {
            let pipe = Pipe::new();
            let (operation, ended) = begin(&pipe, round % 2 == 0);
            let cancelling = thread::spawn(move || operation.cancel());
            let client = File::options().read(true).write(true).open(&pipe.name);
            cancelling.join().unwrap();
            let ended_as = ended.recv_timeout(LIVENESS_TIMEOUT).unwrap();
            // What was granted was connected.
            assert!(ended_as == Waited::Cancelled || client.is_ok());
            assert!(ended.recv().is_err());
        }
    }
}
