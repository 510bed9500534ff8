//! The reader-writer lock between the tasks of one component.

use async_lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::ops::{Deref, DerefMut};

/// A value that any number of readers or one writer of the tasks of this
/// component have at a time; other components and processes do not see it.
///
/// A writer that waits holds up readers that come after it. It is not
/// reentrant: a task that holds it must not wait for it again.
///
/// ```
/// use clasp_guest::ReaderWriterLock;
///
/// struct Cache { entries: ReaderWriterLock<Vec<u32>> }
///
/// impl Cache {
///     async fn refresh(&self) {
///         let mut entries = self.entries.write().await;
///         // ... other tasks do not see the cache half made ...
///         entries.push(1);
///     }
/// }
/// ```
///
/// For the attributes [`read_locked`](macro@crate::read_locked) and
/// [`write_locked`](macro@crate::write_locked) it needs no value: `ReaderWriterLock` is
/// `ReaderWriterLock<()>`, made with `default()`.
#[derive(Debug, Default)]
pub struct ReaderWriterLock<T: ?Sized = ()>(RwLock<T>);

impl<T> ReaderWriterLock<T> {
    /// A lock around a value; it is free.
    pub const fn new(value: T) -> ReaderWriterLock<T> {
        ReaderWriterLock(RwLock::new(value))
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> ReaderWriterLock<T> {
    /// Waits until no task writes, or waits to.
    pub async fn read(&self) -> ReadGuard<'_, T> {
        ReadGuard(self.0.read().await)
    }

    /// Waits until no other task reads or writes.
    pub async fn write(&self) -> WriteGuard<'_, T> {
        WriteGuard(self.0.write().await)
    }

    /// A read lock, if no task writes or waits to.
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        self.0.try_read().map(ReadGuard)
    }

    /// The write lock, if no task reads or writes.
    pub fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        self.0.try_write().map(WriteGuard)
    }

    /// The value, of which this is the only user.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

/// Holds a [`ReaderWriterLock`] for reading until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct ReadGuard<'a, T: ?Sized = ()>(RwLockReadGuard<'a, T>);

impl<T: ?Sized> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Holds a [`ReaderWriterLock`] for writing until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct WriteGuard<'a, T: ?Sized = ()>(RwLockWriteGuard<'a, T>);

impl<T: ?Sized> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_and_a_writer_is_alone() {
        let lock = ReaderWriterLock::new(1);
        let reading = (lock.try_read().unwrap(), lock.try_read().unwrap());
        assert_eq!(*reading.0 + *reading.1, 2);
        assert!(lock.try_write().is_none());
        drop(reading);
        let mut writing = lock.try_write().unwrap();
        assert!(lock.try_read().is_none());
        *writing = 7;
        drop(writing);
        assert_eq!(*lock.try_read().unwrap(), 7);
        assert_eq!(lock.into_inner(), 7);
    }
}
