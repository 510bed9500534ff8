//! Which processes hold a lock file and wait for it, as far as Linux tells in
//! `/proc`. Reading it costs the processes nothing; nothing is locked for it.
//!
//! - `/proc/PID/fdinfo/FD` has the locks that a process holds through a descriptor. It
//!   can be read for processes of the same user, or of all users by root.
//! - `/proc/locks` has the waits in the kernel, but not the process of a wait for an
//!   open file description lock.
//! - `/proc/PID/task/TID/syscall` has the process of such a wait, where it may be read.

use clasp_host::engine::file::{WaitingLine, waiting_lines};
use serde::Serialize;
use std::{
    collections::{HashMap, HashSet},
    fmt, fs,
    io::{self, Read},
    ops::RangeInclusive,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What tells a file from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(path: &Path) -> io::Result<FileId> {
        fs::metadata(path).map(|found| FileId::from(&found))
    }
}

/// Whether a path leads to the file that the engine reports as `id`.
pub(crate) fn is(path: &Path, id: &str) -> bool {
    FileId::of(path).is_ok_and(|file| format!("{}:{}", file.device, file.inode) == id)
}

/// Devices as `/proc/locks` writes them. On overlayfs and btrfs they are not those of the
/// files, but of the mounted file systems.
#[derive(Default)]
struct Devices(HashMap<u64, String>);

impl Devices {
    /// The file as `/proc/locks` writes it.
    fn in_locks(&mut self, file: FileId, path: &Path) -> String {
        let device = self
            .0
            .entry(file.device)
            .or_insert_with(|| mounted(path).unwrap_or_else(|| written(file.device)));
        format!("{device}:{}", file.inode)
    }
}

fn written(device: u64) -> String {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    format!("{major:02x}:{minor:02x}")
}

/// The device of the file system that is mounted where a path leads.
fn mounted(path: &Path) -> Option<String> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    let mount = found.stx_mnt_id.to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    // Such as `36 35 98:0 / /mnt rw - ext4 /dev/sda1 rw`.
    let mut lines = mounts.lines().map(str::split_whitespace);
    let device = lines.find_map(|mut words| (words.next()? == mount).then(|| words.nth(1))?)?;
    let (major, minor) = device.split_once(':')?;
    Some(written(rustix::fs::makedev(
        major.parse().ok()?,
        minor.parse().ok()?,
    )))
}

/// Whether `/proc` shows the processes of the whole machine, and not those of a container
/// only.
pub(crate) fn sees_the_machine() -> bool {
    /// The number of the first PID namespace, which is part of the kernel's interface.
    const FIRST: &str = "pid:[4026531836]";
    fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace == Path::new(FIRST))
}

impl From<&cap_std::fs::Metadata> for FileId {
    fn from(found: &cap_std::fs::Metadata) -> FileId {
        use cap_std::fs::MetadataExt;

        FileId {
            device: found.dev(),
            inode: found.ino(),
        }
    }
}

impl From<&fs::Metadata> for FileId {
    fn from(found: &fs::Metadata) -> FileId {
        FileId {
            device: found.dev(),
            inode: found.ino(),
        }
    }
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// The command line, up to 4096 bytes of it.
    pub(crate) command: String,
    /// It is suspended, for example by SIGSTOP.
    pub(crate) stopped: bool,
}

/// With a long command shortened in the middle: its end has the guest of `clasp run`.
impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 60;
        let Process { pid, command, .. } = self;
        let length = command.chars().count();
        if length <= 2 * SHOWN {
            write!(f, "{pid} {command}")?;
        } else {
            let start: String = command.chars().take(SHOWN).collect();
            let end: String = command.chars().skip(length - SHOWN).collect();
            write!(f, "{pid} {start} ... {end}")?;
        }
        f.write_str(if self.stopped { " [suspended]" } else { "" })
    }
}

/// A sentence about processes that could not be inspected, if there may be any.
pub(crate) fn about_hidden(hidden: usize) -> Option<String> {
    let processes = match hidden {
        0 => None,
        1 => Some("1 process".to_owned()),
        more => Some(format!("{more} processes")),
    };
    let advice = match rustix::process::geteuid().is_root() {
        true => "",
        false => "; root can inspect all",
    };
    let hidden = processes.map(|some| format!("{some} could not be inspected{advice}"));
    let outside = (!sees_the_machine())
        .then(|| "processes outside this container could not be inspected".to_owned());
    let sentences: Vec<_> = [hidden, outside].into_iter().flatten().collect();
    (!sentences.is_empty()).then(|| sentences.join("\n"))
}

/// How a lock is held or asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Shared => "shared",
            Mode::Exclusive => "exclusive",
        })
    }
}

/// The kind of a native lock, by the call that takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Kind {
    /// `flock`.
    #[serde(rename = "flock")]
    Flock,
    /// `fcntl` with `F_OFD_SETLK`: a lock of an open file description.
    #[serde(rename = "fcntl-ofd")]
    Ofd,
    /// `fcntl` with `F_SETLK`, or `lockf`: a lock of a process.
    #[serde(rename = "fcntl")]
    Posix,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Flock => "flock",
            Kind::Ofd => "fcntl of an open file",
            Kind::Posix => "fcntl",
        })
    }
}

/// A lock that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Hold {
    /// `None` if this process may not see which process it is.
    pub(crate) process: Option<Process>,
    pub(crate) kind: Kind,
    pub(crate) mode: Mode,
    /// The process that took it, if the kernel tells. A process that has inherited the lock
    /// is another.
    #[serde(skip)]
    taker: Option<u32>,
    /// The first byte.
    pub(crate) start: u64,
    /// The last byte; `None` for all up to the end of the file.
    pub(crate) end: Option<u64>,
}

impl Hold {
    pub(crate) fn is_whole_file(&self) -> bool {
        self.start == 0 && self.end.is_none()
    }
}

/// A process that waits for a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Wait {
    /// `None` if this process may not see which process it is.
    pub(crate) process: Option<Process>,
    /// `None` if that is not known.
    pub(crate) mode: Option<Mode>,
}

/// What is known about one lock file.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Use {
    pub(crate) holders: Vec<Hold>,
    /// Hosts of clasp in the order in which they will get the lock. Each user has an order
    /// of its own; those of this user come first.
    pub(crate) queue: Vec<Wait>,
    /// Processes that wait in the kernel and have no place in that order.
    pub(crate) waiters: Vec<Wait>,
    /// Processes that have the file open.
    #[serde(skip)]
    pub(crate) openers: Vec<Process>,
}

impl Use {
    /// Whether two processes hold locks that do not exclude each other, though one of them
    /// is exclusive: one with `flock`, the other with `fcntl`.
    pub(crate) fn is_mixed(&self) -> bool {
        let kinds = |pid: u32| {
            let holds = self.holders.iter();
            let its = holds.filter(move |h| h.process.as_ref().is_some_and(|p| p.pid == pid));
            its.map(|hold| hold.kind == Kind::Flock)
        };
        let named = |hold: &Hold| hold.process.as_ref().map(|process| process.pid);
        let exclusive = self.holders.iter().filter(|h| h.mode == Mode::Exclusive);
        let mut pairs = exclusive.filter_map(named).flat_map(|one| {
            let others = self.holders.iter().filter_map(named);
            others.map(move |other| (one, other))
        });
        pairs.any(|(one, other)| kinds(one).all(|kind| kinds(other).all(|of| of != kind)))
    }

    pub(crate) fn is_free(&self) -> bool {
        self.holders.is_empty() && self.queue.is_empty() && self.waiters.is_empty()
    }
}

/// What a look at all processes has found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) files: HashMap<FileId, Use>,
    /// Processes of other users, which this one may not inspect.
    pub(crate) hidden: usize,
}

impl Found {
    /// Whether a lock that was not found is not held.
    pub(crate) fn is_complete(&self) -> bool {
        self.hidden == 0 && sees_the_machine()
    }
}

/// A line of `/proc/locks` or of `fdinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    waits: bool,
    kind: Kind,
    mode: Mode,
    pid: Option<u32>,
    file: String,
    start: u64,
    end: Option<u64>,
}

impl Line {
    /// Such as `1: -> POSIX  ADVISORY  WRITE 1234 08:01:131 0 EOF`.
    fn parse(text: &str) -> Option<Line> {
        let mut words = text.split_whitespace().skip(1).peekable();
        let waits = words.next_if_eq(&"->").is_some();
        let kind = match words.next()? {
            "FLOCK" => Kind::Flock,
            "OFDLCK" => Kind::Ofd,
            "POSIX" => Kind::Posix,
            _ => return None,
        };
        words.next()?;
        let mode = match words.next()? {
            "READ" => Mode::Shared,
            "WRITE" => Mode::Exclusive,
            _ => return None,
        };
        let pid = words.next()?.parse().ok();
        let file = words.next()?.to_owned();
        let start = words.next()?.parse().ok()?;
        let end = words.next()?.parse().ok();
        Some(Line {
            waits,
            kind,
            mode,
            pid: pid.filter(|pid| *pid > 0),
            file,
            start,
            end,
        })
    }
}

/// The bytes of an order file that belong to one lock file.
struct Places {
    /// The user whose line it is; this one's is the first.
    line: usize,
    bytes: RangeInclusive<u64>,
    of: FileId,
}

/// A line, and a byte of it.
type Place = (usize, u64);

/// One search through the processes of the machine.
struct Search {
    found: Found,
    /// By the file on whose bytes hosts hold their places.
    lines: HashMap<FileId, Vec<Places>>,
    /// Places that were found, by lock file.
    places: HashMap<FileId, Vec<(Place, Wait)>>,
    /// Processes seen to wait in a call, by lock file.
    calling: HashMap<FileId, Vec<Process>>,
    /// The inodes of lock files and order files.
    inodes: HashSet<u64>,
    /// Processes whose descriptors were seen.
    seen: HashSet<u32>,
}

/// Looks at all processes for these files.
pub(crate) fn search<'a>(files: impl Iterator<Item = (FileId, &'a Path)>) -> io::Result<Found> {
    let mut devices = Devices::default();
    let mut written = HashMap::new();
    let mut search = Search {
        found: Found::default(),
        lines: HashMap::new(),
        places: HashMap::new(),
        calling: HashMap::new(),
        inodes: HashSet::new(),
        seen: HashSet::new(),
    };
    for (file, path) in files {
        written.insert(devices.in_locks(file, path), file);
        search.inodes.insert(file.inode);
        search.found.files.insert(file, Use::default());
        let lines = waiting_lines(file.device, file.inode);
        for (at, line) in lines.into_iter().enumerate() {
            let WaitingLine {
                device,
                inode,
                places,
                ..
            } = line;
            let order = FileId { device, inode };
            let places = Places {
                line: at,
                bytes: places,
                of: file,
            };
            search.inodes.insert(inode);
            search.lines.entry(order).or_default().push(places);
        }
    }
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
            search.look_at(pid);
        }
    }
    search.finish(
        &written,
        &fs::read_to_string("/proc/locks").unwrap_or_default(),
    );
    Ok(search.found)
}

impl Search {
    fn look_at(&mut self, pid: u32) {
        let descriptors = match fs::read_dir(format!("/proc/{pid}/fdinfo")) {
            Ok(descriptors) => descriptors,
            Err(error) => {
                let hidden = error.kind() == io::ErrorKind::PermissionDenied;
                self.found.hidden += usize::from(hidden);
                return;
            }
        };
        self.seen.insert(pid);
        // Descriptors that lead to one of the files.
        let mut open = HashMap::new();
        let mut process = None;
        for entry in descriptors.flatten() {
            let name = entry.file_name();
            let Some(descriptor) = name.to_str().and_then(|name| name.parse::<u64>().ok()) else {
                continue;
            };
            let Ok(info) = fs::read_to_string(entry.path()) else {
                continue;
            };
            let Some(file) = self.file(pid, descriptor, &info) else {
                continue;
            };
            let process = process.get_or_insert_with(|| describe(pid)).clone();
            let locks = info.lines().filter_map(|line| line.strip_prefix("lock:"));
            for line in locks.filter_map(Line::parse) {
                self.hold(file, &line, &process);
            }
            if let Some(used) = self.found.files.get_mut(&file) {
                open.insert(descriptor, file);
                if !used.openers.contains(&process) {
                    used.openers.push(process);
                }
            }
        }
        if let Some(process) = process.filter(|_| !open.is_empty()) {
            self.look_at_calls(&process, &open);
        }
    }

    /// The file that a descriptor leads to, if it is one that is looked for.
    fn file(&self, pid: u32, descriptor: u64, info: &str) -> Option<FileId> {
        let inode = info.lines().find_map(|line| line.strip_prefix("ino:"));
        let inode = inode.and_then(|inode| inode.trim().parse().ok());
        // Not every descriptor is asked what it leads to: that may hang on a dead server.
        inode
            .is_none_or(|inode| self.inodes.contains(&inode))
            .then_some(())?;
        let file = FileId::of(Path::new(&format!("/proc/{pid}/fd/{descriptor}"))).ok()?;
        let known = self.found.files.contains_key(&file) || self.lines.contains_key(&file);
        known.then_some(file)
    }

    fn hold(&mut self, file: FileId, line: &Line, process: &Process) {
        if let Some(lines) = self.lines.get(&file) {
            let places = lines.iter().find(|p| p.bytes.contains(&line.start));
            if let Some(places) = places {
                let wait = Wait {
                    process: Some(process.clone()),
                    mode: Some(line.mode),
                };
                let place = (places.line, line.start);
                self.places
                    .entry(places.of)
                    .or_default()
                    .push((place, wait));
            }
        }
        if let Some(used) = self.found.files.get_mut(&file) {
            let hold = Hold {
                process: Some(process.clone()),
                kind: line.kind,
                mode: line.mode,
                taker: line.pid,
                start: line.start,
                end: line.end,
            };
            // One description may have several descriptors.
            if !used.holders.contains(&hold) {
                used.holders.push(hold);
            }
        }
    }

    /// Which of its threads are in a call that waits for a lock.
    fn look_at_calls(&mut self, process: &Process, open: &HashMap<u64, FileId>) {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", process.pid)) else {
            return;
        };
        for thread in threads.flatten() {
            let call = fs::read_to_string(thread.path().join("syscall")).unwrap_or_default();
            let file = waits_on(&call).and_then(|descriptor| open.get(&descriptor));
            if let Some(file) = file {
                self.calling.entry(*file).or_default().push(process.clone());
            }
        }
    }

    /// Puts together what was found.
    fn finish(&mut self, files: &HashMap<String, FileId>, locks: &str) {
        let mut waits: HashMap<FileId, Vec<Line>> = HashMap::new();
        let mut held: HashMap<FileId, Vec<Line>> = HashMap::new();
        for line in locks.lines().filter_map(Line::parse) {
            if let Some(file) = files.get(&line.file) {
                let of = if line.waits { &mut waits } else { &mut held };
                of.entry(*file).or_default().push(line);
            }
        }
        for (file, used) in &mut self.found.files {
            for line in held.remove(file).unwrap_or_default() {
                add_hidden(used, line, &self.seen);
            }
            let mut places = self.places.remove(file).unwrap_or_default();
            places.sort_by_key(|(at, _)| *at);
            places.dedup();
            used.queue = places.into_iter().map(|(_, wait)| wait).collect();

            let waits = waits.remove(file).unwrap_or_default();
            let calling = self.calling.remove(file).unwrap_or_default();
            used.waiters = waiters(&waits, calling, &used.queue);
        }
    }
}

/// A lock of a process that may not be inspected. The process that took it, which the kernel
/// names, holds it no more if its descriptors were seen: another has inherited the lock then.
fn add_hidden(used: &mut Use, line: Line, seen: &HashSet<u32>) {
    let is_this = |hold: &Hold| {
        (hold.kind, hold.mode, hold.start, hold.end) == (line.kind, line.mode, line.start, line.end)
            && hold.taker == line.pid
    };
    if used.holders.iter().any(is_this) {
        return;
    }
    let may_hold = |pid: &u32| !seen.contains(pid) && Path::new(&format!("/proc/{pid}")).exists();
    used.holders.push(Hold {
        process: line.pid.filter(may_hold).map(describe),
        kind: line.kind,
        mode: line.mode,
        taker: line.pid,
        start: line.start,
        end: line.end,
    });
}

/// The waits of processes that have no place in the queue.
fn waiters(waits: &[Line], calling: Vec<Process>, queue: &[Wait]) -> Vec<Wait> {
    let queued = |pid: u32| {
        queue
            .iter()
            .any(|wait| wait.process.as_ref().is_some_and(|p| p.pid == pid))
    };
    let mut found: Vec<Wait> = Vec::new();
    let mut seen = 0;
    for line in waits {
        if let Some(pid) = line.pid {
            seen += 1;
            if !queued(pid) {
                found.push(Wait {
                    process: Some(describe(pid)),
                    mode: Some(line.mode),
                });
            }
        }
    }
    for process in calling {
        let named = waits.iter().any(|line| line.pid == Some(process.pid));
        if named {
            continue;
        }
        seen += 1;
        if !queued(process.pid) {
            found.push(Wait {
                process: Some(process),
                mode: None,
            });
        }
    }
    // The kernel does not say which processes these are. A host in the queue may be one.
    let hidden = waits.len().saturating_sub(seen);
    let perhaps_queued = hidden.min(queue.len());
    found.extend(waits.iter().skip(seen + perhaps_queued).map(|line| Wait {
        process: None,
        mode: Some(line.mode),
    }));
    found
}

/// The descriptor for whose lock a system call waits, such as
/// `72 0x5 0x26 0x7ffc...` for `fcntl`.
fn waits_on(call: &str) -> Option<u64> {
    let mut words = call.split_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let mut argument = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let descriptor = argument()?;
    let waits = if number == libc::SYS_flock {
        true
    } else if number == libc::SYS_fcntl {
        let command = argument()?;
        [libc::F_SETLKW, libc::F_OFD_SETLKW].contains(&(command as i32))
    } else {
        false
    };
    waits.then_some(descriptor)
}

/// Whether a process is suspended, or held by a debugger.
fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the state may contain anything.
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim().chars().next());
    matches!(state, Some('T' | 't'))
}

/// What a process is called, and whether it goes on.
fn describe(pid: u32) -> Process {
    let mut command = Vec::new();
    let read = fs::File::open(format!("/proc/{pid}/cmdline"))
        .and_then(|file| file.take(4096).read_to_end(&mut command));
    let command = match read {
        Ok(length) if length > 0 => command,
        _ => fs::read(format!("/proc/{pid}/comm")).unwrap_or_default(),
    };
    let text = String::from_utf8_lossy(&command);
    let words: Vec<_> = text.split(['\0', '\n']).filter(|w| !w.is_empty()).collect();
    let mut command = String::new();
    for (at, word) in words.iter().enumerate() {
        let path = Path::new(word);
        let name = path.file_name().filter(|_| at == 0);
        let word = name.map_or((*word).into(), |name| name.to_string_lossy());
        if at > 0 {
            command.push(' ');
        }
        // A name must not write to the terminal.
        command.extend(word.chars().map(|c| if c.is_control() { '?' } else { c }));
    }
    Process {
        pid,
        command,
        stopped: is_stopped(pid),
    }
}

/// The holders of a file in words, for a message: `1234 python3 job.py`.
pub(crate) fn holders_of(path: &Path) -> Option<String> {
    let file = FileId::of(path).ok()?;
    let found = search([(file, path)].into_iter()).ok()?;
    let own = std::process::id();
    let mut names = Vec::new();
    for hold in &found.files.get(&file)?.holders {
        let name = match &hold.process {
            Some(process) if process.pid == own => continue,
            Some(process) => process.to_string(),
            None => "a process that this user may not inspect".to_owned(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    (!names.is_empty()).then(|| names.join(", "))
}

/// The files of a directory, with their names.
pub(crate) fn files_in(directory: &Path) -> io::Result<Vec<(PathBuf, FileId)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // A file may have been removed meanwhile.
        let found = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found?,
        };
        if found.is_file() {
            files.push((entry.path(), FileId::from(&found)));
        }
    }
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = Line::parse("1: -> POSIX  ADVISORY  WRITE 1234 08:01:131 0 EOF").unwrap();
        assert!(line.waits);
        assert_eq!((line.kind, line.mode), (Kind::Posix, Mode::Exclusive));
        assert_eq!((line.pid, line.start, line.end), (Some(1234), 0, None));
        assert_eq!(line.file, "08:01:131");
        let line = Line::parse("\t7: OFDLCK ADVISORY  READ -1 00:19:5 10 19").unwrap();
        assert!(!line.waits);
        assert_eq!((line.kind, line.mode), (Kind::Ofd, Mode::Shared));
        assert_eq!((line.pid, line.start, line.end), (None, 10, Some(19)));
        let line = Line::parse("2: FLOCK  ADVISORY  WRITE 77 fd:01:9 0 EOF").unwrap();
        assert_eq!((line.kind, line.pid), (Kind::Flock, Some(77)));
        for other in ["", "1: LEASE  ACTIVE    READ  77 fd:01:9 0 EOF", "1: ->"] {
            assert_eq!(Line::parse(other), None, "{other}");
        }
    }

    #[test]
    fn locks_that_do_not_exclude_each_other_are_noticed() {
        let hold = |pid, kind| Hold {
            process: Some(Process {
                pid,
                command: String::new(),
                stopped: false,
            }),
            kind,
            mode: Mode::Exclusive,
            taker: None,
            start: 0,
            end: None,
        };
        let mixed = |holders: Vec<Hold>| {
            let used = Use {
                holders,
                ..Use::default()
            };
            used.is_mixed()
        };
        assert!(mixed(vec![hold(1, Kind::Ofd), hold(2, Kind::Flock)]));
        assert!(mixed(vec![hold(1, Kind::Flock), hold(2, Kind::Posix)]));
        // One host with both, and a command that has inherited one of them.
        assert!(!mixed(vec![
            hold(1, Kind::Ofd),
            hold(1, Kind::Flock),
            hold(2, Kind::Flock)
        ]));
        assert!(!mixed(vec![hold(1, Kind::Ofd), hold(2, Kind::Posix)]));
        assert!(!mixed(vec![]));
    }

    #[test]
    fn a_long_command_keeps_its_end() {
        let process = Process {
            pid: 7,
            command: format!("clasp run {} guest.wasm", "x".repeat(200)),
            stopped: true,
        };
        let text = process.to_string();
        assert!(text.starts_with("7 clasp run xx"), "{text}");
        assert!(text.ends_with("x guest.wasm [suspended]"), "{text}");
        assert!(text.chars().count() < 150, "{text}");
    }

    #[test]
    fn calls_that_wait_are_told_from_others() {
        let fcntl = libc::SYS_fcntl;
        let flock = libc::SYS_flock;
        assert_eq!(waits_on(&format!("{fcntl} 0x5 0x26 0x7ff 0x0")), Some(5));
        assert_eq!(waits_on(&format!("{fcntl} 0x10 0x7 0x7ff 0x0")), Some(16));
        assert_eq!(waits_on(&format!("{fcntl} 0x5 0x25 0x7ff 0x0")), None);
        assert_eq!(waits_on(&format!("{flock} 0x3 0x2 0x0")), Some(3));
        for other in ["running", "-1 0x7ff 0x7ff", "0 0x0 0x7ff", ""] {
            assert_eq!(waits_on(other), None, "{other}");
        }
    }

    #[test]
    fn a_lock_of_a_process_that_cannot_be_seen_is_listed() {
        let mut used = Use::default();
        let parse = |text| Line::parse(text).unwrap();
        for _ in 0..2 {
            let line = parse("1: OFDLCK ADVISORY WRITE -1 08:01:131 0 EOF");
            add_hidden(&mut used, line, &HashSet::new());
        }
        assert_eq!(used.holders.len(), 1);
        assert_eq!(used.holders[0].process, None);
        assert!(used.holders[0].is_whole_file());
    }

    #[test]
    fn waits_in_the_queue_are_not_listed_twice() {
        let queued = Wait {
            process: Some(Process {
                pid: 1,
                command: "init".into(),
                stopped: false,
            }),
            mode: Some(Mode::Exclusive),
        };
        let parse = |text| Line::parse(text).unwrap();
        let waits = [
            parse("1: -> OFDLCK ADVISORY WRITE -1 08:01:131 0 EOF"),
            parse("1: -> OFDLCK ADVISORY WRITE -1 08:01:131 0 EOF"),
        ];
        let found = waiters(&waits, Vec::new(), std::slice::from_ref(&queued));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].process, None);
        let calling = vec![queued.process.clone().unwrap()];
        assert_eq!(waiters(&waits[..1], calling, &[queued]), []);
    }
}
