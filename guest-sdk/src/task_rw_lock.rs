//! The reader-writer lock between the tasks of one component.

use async_lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A lock that any number of readers or one writer of the tasks of this
/// component have at a time; other components and processes do not see it.
///
/// A writer that waits holds up readers that come after it. It is not
/// reentrant: a task that holds it must not wait for it again.
///
/// ```
/// use clasp_guest::ReaderWriterLock;
///
/// struct Cache { lock: ReaderWriterLock }
///
/// impl Cache {
///     async fn refresh(&self) {
///         let _writing = self.lock.write().await;
///         // ... other tasks do not see the cache half made ...
///     }
/// }
/// ```
#[derive(Debug, Default)]
pub struct ReaderWriterLock(RwLock<()>);

impl ReaderWriterLock {
    /// A lock that is free.
    pub const fn new() -> ReaderWriterLock {
        ReaderWriterLock(RwLock::new(()))
    }

    /// Waits until no task writes, or waits to.
    pub async fn read(&self) -> ReadGuard<'_> {
        ReadGuard(self.0.read().await)
    }

    /// Waits until no other task reads or writes.
    pub async fn write(&self) -> WriteGuard<'_> {
        WriteGuard(self.0.write().await)
    }

    /// A read lock, if no task writes or waits to.
    pub fn try_read(&self) -> Option<ReadGuard<'_>> {
        self.0.try_read().map(ReadGuard)
    }

    /// The write lock, if no task reads or writes.
    pub fn try_write(&self) -> Option<WriteGuard<'_>> {
        self.0.try_write().map(WriteGuard)
    }
}

/// Holds a [`ReaderWriterLock`] for reading until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
#[expect(dead_code, reason = "held for its drop")]
pub struct ReadGuard<'a>(RwLockReadGuard<'a, ()>);

/// Holds a [`ReaderWriterLock`] for writing until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
#[expect(dead_code, reason = "held for its drop")]
pub struct WriteGuard<'a>(RwLockWriteGuard<'a, ()>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_and_a_writer_is_alone() {
        let lock = ReaderWriterLock::new();
        let reading = (lock.try_read().unwrap(), lock.try_read().unwrap());
        assert!(lock.try_write().is_none());
        drop(reading);
        let writing = lock.try_write().unwrap();
        assert!(lock.try_read().is_none());
        drop(writing);
        assert!(lock.try_read().is_some());
    }
}
