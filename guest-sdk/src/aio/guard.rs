//! What all guards have in common.

macro_rules! guard {
    ($guard:ident $(, $exclusive:ident)?) => {
        impl $guard {
            /// The path of the lock.
            pub fn path(&self) -> &std::path::Path {
                self.0.path()
            }

            /// Checks that the lock is still held and that its path still refers to the
            /// file that is locked. This looks the path up, which costs about as much as
            /// taking a lock.
            ///
            /// # Errors
            /// [`Closed`](crate::ErrorKind::Closed) or [`Lost`](crate::ErrorKind::Lost)
            /// if it is not held any more, [`Replaced`](crate::ErrorKind::Replaced) if
            /// its path refers to another file, and the errors of opening a lock if the
            /// path cannot be looked up.
            pub async fn check(&self) -> Result<(), crate::Error> {
                self.0.check().await
            }

            /// Waits until the lock is not held any more, and returns the reason, of the kind
            /// [`Closed`](crate::ErrorKind::Closed) or [`Lost`](crate::ErrorKind::Lost).
            /// Replacing the lock file does not end the wait. To be awaited beside the
            /// work that the lock protects.
            pub async fn lost(&self) -> crate::Error {
                self.0.lost().await
            }

            /// Sets the time that `last_touched` of the lock returns to the current time
            /// of the file system.
            ///
            /// # Errors
            /// [`ReadOnly`](crate::ErrorKind::ReadOnly) where only shared locks are
            /// granted, [`Access`](crate::ErrorKind::Access) if the file may not be
            /// written, and the errors of [`check`](Self::check).
            pub async fn touch(&self) -> Result<(), crate::Error> {
                self.0.touch().await
            }

            /// Releases the lock, and reports whether it was held until now and its path
            /// still refers to the locked file.
            ///
            /// # Errors
            /// As [`check`](Self::check). The lock is released in any case.
            pub async fn release(self) -> Result<(), crate::Error> {
                self.0.release().await
            }

            $(
                /// Returns a number greater than any that an earlier
                #[doc = stringify!($exclusive)]
                /// holder of this lock has requested. Every call returns the same
                /// number. See [`fencing_token`](crate::InterProcessGuard::fencing_token).
                ///
                /// # Errors
                /// [`Unsupported`](crate::ErrorKind::Unsupported) where the file system
                /// has no user extended attributes, [`Access`](crate::ErrorKind::Access)
                /// if the file may not be written, and the errors of
                /// [`check`](Self::check).
                pub async fn fencing_token(&self) -> Result<u64, crate::Error> {
                    self.0.fencing_token().await
                }
            )?
        }
    };
}

pub(super) use guard;
