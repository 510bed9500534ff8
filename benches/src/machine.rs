//! The machine of a run: figures mean nothing without it.

use serde::{Deserialize, Serialize};
use std::fs;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) file_system: String,
    pub(crate) clasp: String,
    pub(crate) wasmtime: String,
}

impl Machine {
    pub(crate) fn this(directory: &std::path::Path) -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or_else(|| "unknown".into(), |(_, value)| value.trim().to_owned())
        };
        let kib: u64 = field(&read("/proc/meminfo"), "MemTotal")
            .trim_end_matches(" kB")
            .parse()
            .unwrap_or(0);
        let kind = rustix::fs::statfs(directory).map_or(0, |found| found.f_type);
        Machine {
            processor: field(&read("/proc/cpuinfo"), "model name"),
            processors: std::thread::available_parallelism().map_or(0, Into::into),
            memory_gib: kib.div_ceil(1 << 20),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            file_system: match kind {
                0xef53 => "ext4".into(),
                0x0102_1994 => "tmpfs".into(),
                0x794c_7630 => "overlayfs".into(),
                0x5846_5342 => "xfs".into(),
                0x9123_683e => "btrfs".into(),
                other => format!("{other:#x}"),
            },
            clasp: env!("CARGO_PKG_VERSION").into(),
            wasmtime: "48".into(),
        }
    }
}
