//! What all guards have in common.

macro_rules! guard {
    ($guard:ident $(, $exclusive:ident)?) => {
        impl $guard {
            /// The path of the lock.
            pub fn path(&self) -> &std::path::Path {
                self.0.path()
            }

            /// Checks that the lock is still held, by the file that its path leads to.
            /// This looks the path up, which costs about as much as taking a lock.
            ///
            /// # Errors
            /// [`Closed`](crate::ErrorKind::Closed) or [`Lost`](crate::ErrorKind::Lost)
            /// if it is not held any more, [`Replaced`](crate::ErrorKind::Replaced) if
            /// its path leads to another file, and what keeps the path from being
            /// looked up.
            pub fn check(&self) -> Result<(), crate::Error> {
                self.0.check()
            }

            /// Sets the time that `last_touched` of the lock answers to now, by the
            /// clock of the file system.
            ///
            /// # Errors
            /// [`ReadOnly`](crate::ErrorKind::ReadOnly) where only shared locks are
            /// granted, [`Access`](crate::ErrorKind::Access) if the file may not be
            /// written, and what [`check`](Self::check) fails with.
            pub fn touch(&self) -> Result<(), crate::Error> {
                self.0.touch()
            }

            /// Releases the lock and says whether it was held to the end, by the file
            /// that its path leads to.
            ///
            /// # Errors
            /// As [`check`](Self::check). The lock is released in any case.
            pub fn release(self) -> Result<(), crate::Error> {
                self.0.release()
            }

            /// A pollable that is ready once the lock is not held any more;
            /// [`check`](Self::check) then says why.
            ///
            /// # Errors
            /// [`Quota`](crate::ErrorKind::Quota) if the host has no room for it.
            #[cfg(all(feature = "async", target_family = "wasm"))]
            pub fn pollable(&self) -> Result<wasip2::io::poll::Pollable, crate::Error> {
                self.0.pollable()
            }

            /// Waits until the lock is not held any more;
            /// [`check`](Self::check) then says why. A lock file that was replaced does
            /// not end this.
            ///
            /// # Errors
            /// [`Quota`](crate::ErrorKind::Quota) if the host has no room for what is
            /// needed to wait.
            #[cfg(feature = "wstd")]
            pub async fn lost(&self) -> Result<(), crate::Error> {
                self.0.lost().await
            }

            $(
                /// A number that is greater than that of every
                #[doc = stringify!($exclusive)]
                /// hold of this lock before this one that has asked for its number. It
                /// is the same at each call.
                ///
                /// Send it along with what you send to a server, or write to a file
                /// that others write too, and have the receiver refuse a lower number
                /// than it has seen: so it refuses what comes from a holder that has
                /// lost the lock and does not know.
                ///
                /// # Errors
                /// [`Unsupported`](crate::ErrorKind::Unsupported) where the file system
                /// has no extended attributes, [`Access`](crate::ErrorKind::Access) if
                /// the file may not be written, and what [`check`](Self::check) fails
                /// with.
                pub fn fencing_token(&self) -> Result<u64, crate::Error> {
                    self.0.fencing_token()
                }
            )?
        }
    };
}

pub(crate) use guard;
