//! What tells files apart, and whether a file has a name.

use crate::file::{FileSystem, sys::Numbers};
use cap_std::fs::{Dir, Metadata, OpenOptions, OpenOptionsExt};
use std::{
    fs::File,
    io, mem,
    os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle},
    path::Path,
};
use windows_sys::{
    Wdk::{
        Storage::FileSystem::{FileFsDeviceInformation, NtQueryVolumeInformationFile},
        System::SystemServices::{FILE_FS_DEVICE_INFORMATION, FILE_REMOTE_DEVICE},
    },
    Win32::{
        Foundation::RtlNtStatusToDosError,
        Storage::FileSystem::{
            BY_HANDLE_FILE_INFORMATION, FILE_FLAG_BACKUP_SEMANTICS, FILE_ID_INFO,
            FILE_INFO_BY_HANDLE_CLASS, FILE_READ_ATTRIBUTES, FILE_STANDARD_INFO, FileIdInfo,
            FileStandardInfo, GetFileInformationByHandle, GetFileInformationByHandleEx,
            GetVolumeInformationByHandleW,
        },
        System::IO::IO_STATUS_BLOCK,
    },
};

/// Structures that the system fills in, for which any bytes are valid.
///
/// # Safety
/// They are plain data of the layout that the system has for this class.
unsafe trait Information: Sized {
    const CLASS: FILE_INFO_BY_HANDLE_CLASS;
}

// SAFETY: integers only, as the documentation of the class says.
unsafe impl Information for FILE_ID_INFO {
    const CLASS: FILE_INFO_BY_HANDLE_CLASS = FileIdInfo;
}

// SAFETY: integers, and booleans of one byte, which the system sets to 0 or 1.
unsafe impl Information for FILE_STANDARD_INFO {
    const CLASS: FILE_INFO_BY_HANDLE_CLASS = FileStandardInfo;
}

fn information<T: Information>(file: BorrowedHandle<'_>) -> io::Result<T> {
    // SAFETY: all zeros is a value of plain data.
    let mut found: T = unsafe { mem::zeroed() };
    // SAFETY: the handle is borrowed and open, and the buffer has the size that
    // is given and outlives the call.
    let done = unsafe {
        GetFileInformationByHandleEx(
            file.as_raw_handle(),
            T::CLASS,
            (&raw mut found).cast(),
            mem::size_of::<T>() as u32,
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(found)
}

/// What tells an open file from others.
pub(crate) fn numbers(file: &File, _: &Metadata) -> io::Result<Numbers> {
    numbers_of(file.as_handle())
}

fn numbers_of(file: BorrowedHandle<'_>) -> io::Result<Numbers> {
    if let Ok(found) = information::<FILE_ID_INFO>(file) {
        return Ok((
            found.VolumeSerialNumber,
            u128::from_le_bytes(found.FileId.Identifier),
        ));
    }
    // File systems that know no numbers of 128 bits.
    let mut found = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is borrowed and open, and the structure outlives the
    // call.
    if unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut found) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let index = u128::from(found.nFileIndexHigh) << 32 | u128::from(found.nFileIndexLow);
    Ok((found.dwVolumeSerialNumber.into(), index))
}

/// What tells the file a name leads to from others.
pub(crate) fn look_up(directory: &Dir, name: &Path) -> io::Result<Numbers> {
    let mut options = OpenOptions::new();
    options.access_mode(FILE_READ_ATTRIBUTES);
    // Directories too: what is one now is not the lock file any more.
    options.custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
    let file = directory.open_with(name, &options)?;
    numbers_of(file.as_handle())
}

/// Whether the file still has a name.
pub(crate) fn is_linked(file: &File) -> io::Result<bool> {
    let found: FILE_STANDARD_INFO = information(file.as_handle())?;
    Ok(found.NumberOfLinks > 0 && !found.DeletePending)
}

/// What kind of file system a file or directory is on.
pub(crate) fn file_system(file: impl AsHandle) -> io::Result<FileSystem> {
    let file = file.as_handle();
    if is_remote(file)? {
        return Ok(FileSystem::Network);
    }
    let mut name = [0_u16; 32];
    // SAFETY: the handle is borrowed and open, the buffer outlives the call and
    // has the length that is given, and what is null is optional.
    let done = unsafe {
        GetVolumeInformationByHandleW(
            file.as_raw_handle(),
            std::ptr::null_mut(),
            0,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            name.as_mut_ptr(),
            name.len() as u32,
        )
    };
    let name = String::from_utf16_lossy(name.split(|unit| *unit == 0).next().unwrap_or_default());
    // FAT numbers files by where their entry is, and others as they please.
    Ok(match &*name {
        "NTFS" | "ReFS" if done != 0 => FileSystem::Local,
        _ => FileSystem::Foreign,
    })
}

/// Whether the system says that a server answers.
#[doc(alias = "NtQueryVolumeInformationFile")]
fn is_remote(file: BorrowedHandle<'_>) -> io::Result<bool> {
    let mut found = FILE_FS_DEVICE_INFORMATION::default();
    let mut status = IO_STATUS_BLOCK::default();
    // SAFETY: the handle is borrowed and open, and both structures outlive the
    // call, which is over when it returns. The size is that of the structure of
    // this class.
    let result = unsafe {
        NtQueryVolumeInformationFile(
            file.as_raw_handle(),
            &raw mut status,
            (&raw mut found).cast(),
            mem::size_of::<FILE_FS_DEVICE_INFORMATION>() as u32,
            FileFsDeviceInformation,
        )
    };
    if result < 0 {
        // SAFETY: it only looks a number up.
        let code = unsafe { RtlNtStatusToDosError(result) };
        return Err(io::Error::from_raw_os_error(code as i32));
    }
    Ok(found.Characteristics & FILE_REMOTE_DEVICE != 0)
}
