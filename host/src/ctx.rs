//! What one guest may lock.

use cap_std::{ambient_authority, fs::Dir};
#[cfg(feature = "descriptors")]
use clasp_engine::{Error, backend::Identity};
use clasp_engine::{
    Grant, Limits, LockManager, LockUse, Owner, OwnerHandle as LocksHandle,
    file::{Family, FileSpace, Order},
};
use std::{io, path::Path};

/// A directory in which a guest may take locks, and how.
///
/// By default it grants both modes, with the default family and order of the
/// operating system ([`Posix`](Family::Posix) and [`Fair`](Order::Fair) on
/// Linux). Lock files are created on demand. Network file systems are refused.
///
/// A host that makes a store for each request opens a directory once, and clones
/// this for each store.
#[derive(Debug, Clone)]
pub struct Lockspace {
    files: FileSpace,
    shared_only: bool,
}

impl Lockspace {
    /// The files below `dir`.
    pub fn new(dir: Dir) -> Lockspace {
        Lockspace {
            files: FileSpace::new(dir),
            shared_only: false,
        }
    }

    /// The files below the directory at `path`, with the authority of the
    /// process.
    ///
    /// # Errors
    /// If `path` is no directory that can be opened.
    pub fn open_ambient(path: impl AsRef<Path>) -> io::Result<Lockspace> {
        Dir::open_ambient_dir(path, ambient_authority()).map(Lockspace::new)
    }

    /// Which programs of the machine exclude the guest: those that use the
    /// same family of locks.
    ///
    /// A guest can also call `fcntl` and `flock` as a POSIX program does
    /// (`clasp:locks/ranges`, `clasp:locks/flock`). Such a lock has the family of the
    /// call, and excludes programs that make the same call.
    pub fn family(mut self, family: Family) -> Lockspace {
        self.files = self.files.family(family);
        self
    }

    /// In which order hosts get the locks: first come first served, or as the
    /// kernel has it.
    pub fn order(mut self, order: Order) -> Lockspace {
        self.files = self.files.order(order);
        self
    }

    /// Whether only shared locks are granted. The files are then opened read-only,
    /// and none is created.
    pub fn shared_only(mut self, shared_only: bool) -> Lockspace {
        self.shared_only = shared_only;
        self
    }

    /// Whether missing lock files may be created. Directories never are.
    pub fn create(mut self, create: bool) -> Lockspace {
        self.files = self.files.create(create);
        self
    }

    /// The permissions of lock files that are created, less the umask: `0o666`
    /// unless set; see [`FileSpace::creation_mode`].
    pub fn creation_mode(mut self, mode: u32) -> Lockspace {
        self.files = self.files.creation_mode(mode);
        self
    }

    /// Whether lock files may lie on a network file system, or on one of a type
    /// that is not known to be local. A request may hang there, whatever its
    /// timeout.
    pub fn network(mut self, network: bool) -> Lockspace {
        self.files = self.files.network(network);
        self
    }

    /// The grant for an [`Owner`](crate::engine::Owner), by which the host itself takes
    /// locks in this directory.
    pub fn grant(&self) -> Grant {
        self.grant_of(self.files.clone())
    }

    #[cfg(feature = "descriptors")]
    pub(crate) fn name_of(&self, file: &std::fs::File) -> Result<(String, Identity), Error> {
        self.files.name_of(file)
    }

    fn grant_of(&self, files: FileSpace) -> Grant {
        Grant::new(files.into_space()).shared_only(self.shared_only)
    }

    /// The grant for locks that exclude programs which use `flock`.
    pub(crate) fn flock_grant(&self) -> Grant {
        let files = self.files.clone().family(Family::Flock);
        self.grant_of(files).family_of_call(true)
    }
}

/// What a guest is granted under one of its paths.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    pub(crate) path: String,
    pub(crate) grant: Grant,
    /// For locks of `flock`, where the back end has them.
    pub(crate) flock: Option<Grant>,
    /// The directory, if it is one.
    #[cfg(feature = "descriptors")]
    pub(crate) space: Option<Lockspace>,
}

/// Builds a [`LocksCtx`].
///
/// `build` does not consume the builder, so one builder can build a context for
/// each store.
#[derive(Debug, Clone)]
pub struct LocksCtxBuilder {
    manager: LockManager,
    label: Option<String>,
    limits: Limits,
    spaces: Vec<Granted>,
}

impl LocksCtxBuilder {
    /// A context that grants nothing yet. Guests whose contexts share a
    /// manager queue with each other first come first served; use
    /// [`LockManager::global`] unless you have a reason not to.
    pub fn new(manager: &LockManager) -> LocksCtxBuilder {
        LocksCtxBuilder {
            manager: manager.clone(),
            label: None,
            limits: Limits::default(),
            spaces: Vec::new(),
        }
    }

    /// What the guest is called in logs, in snapshots and in reports of deadlocks,
    /// such as the name of a plugin or the number of a request. A number unless set.
    pub fn label(&mut self, label: impl Into<String>) -> &mut LocksCtxBuilder {
        self.label = Some(label.into());
        self
    }

    /// The quotas of the guest.
    pub fn limits(&mut self, limits: Limits) -> &mut LocksCtxBuilder {
        self.limits = limits;
        self
    }

    /// Grants a directory under a path of the guest, as WASI preopens do:
    /// `/data`, `locks`, or `.` for the guest's current directory. If several
    /// paths match, the longest applies; if several are equal, the last one.
    ///
    /// If the guest can also write to the directory through WASI, both should
    /// use the same guest path, so that a lock and a file of the same path are
    /// the same file.
    pub fn lockspace(
        &mut self,
        guest_path: impl Into<String>,
        space: Lockspace,
    ) -> &mut LocksCtxBuilder {
        self.spaces.push(Granted {
            path: guest_path.into(),
            grant: space.grant(),
            flock: Some(space.flock_grant()),
            #[cfg(feature = "descriptors")]
            space: Some(space),
        });
        self
    }

    /// Grants the locks of any back end, as [`lockspace`](Self::lockspace) does for
    /// directories. A back end of your own implements
    /// [`engine::backend::Space`](crate::engine::backend::Space).
    pub fn grant(&mut self, guest_path: impl Into<String>, grant: Grant) -> &mut LocksCtxBuilder {
        self.spaces.push(Granted {
            path: guest_path.into(),
            grant,
            flock: None,
            #[cfg(feature = "descriptors")]
            space: None,
        });
        self
    }

    /// The context, for one store.
    pub fn build(&self) -> LocksCtx {
        let limits = self.limits.clone();
        LocksCtx {
            owner: match &self.label {
                Some(label) => self.manager.labelled_owner(label, limits),
                None => self.manager.owner(limits),
            },
            spaces: self.spaces.clone(),
        }
    }
}

/// The locks of one guest, kept in the data of its store.
///
/// Dropping the context, as a store does with its data, ends all holds and
/// waits of the guest.
#[derive(Debug)]
pub struct LocksCtx {
    pub(crate) owner: Owner,
    pub(crate) spaces: Vec<Granted>,
}

impl LocksCtx {
    /// Starts to build a context; see [`LocksCtxBuilder::new`].
    pub fn builder(manager: &LockManager) -> LocksCtxBuilder {
        LocksCtxBuilder::new(manager)
    }

    /// Ends all holds and waits of the guest; later calls of it answer `closed`.
    ///
    /// Call this when a guest has trapped or its call was abandoned and the
    /// store lives on: the guest's handles stay in the store, and with them
    /// its locks, until the store is dropped.
    pub fn close(&self) {
        self.owner.close();
    }

    /// A handle that inspects and closes this context from any thread, also while a
    /// call of the guest waits for a lock. Such a call borrows the store, so take the
    /// handle before the call.
    pub fn handle(&self) -> LocksHandle {
        self.owner.handle()
    }

    /// The locks that the guest holds or waits for now. [`LockManager::snapshot`] returns
    /// them for all guests.
    pub fn snapshot(&self) -> Vec<LockUse> {
        self.owner.handle().snapshot()
    }
}
