//! A clock that goes on while the machine is suspended, as leases do.

use std::time::Duration;

/// The time since some moment before this process began.
#[cfg(unix)]
pub(crate) fn now() -> Duration {
    // On macOS, it is the monotonic clock that goes on.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(CLOCK);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// The time since some moment in this process. `Instant` goes on during suspension here.
#[cfg(not(unix))]
pub(crate) fn now() -> Duration {
    use std::{sync::OnceLock, time::Instant};

    static BEGIN: OnceLock<Instant> = OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_goes_forward() {
        let first = super::now();
        assert!(super::now() >= first);
    }
}
