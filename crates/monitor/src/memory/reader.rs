use std::{
    fmt, fs, io,
    path::{Component, Path, PathBuf},
    sync::Mutex,
};

use serde::Serialize;
use sysinfo::{MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::sync::lock;

/// What a [`MemoryReader`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryReading {
    /// Bytes that the process holds in memory.
    pub used: u64,
    /// Bytes that it may hold.
    pub limit: u64,
}

/// Where the memory manager gets its numbers from.
///
/// A reading may block: it runs on a blocking thread. One that takes longer than 5 seconds has failed, and the reader is
/// not asked again before it has ended.
pub trait MemoryReader: Send + Sync + 'static {
    /// Reads usage and limit.
    ///
    /// # Errors
    ///
    /// Any; the level then stays as it is, and [`MemoryStats`](super::MemoryStats) tells the error.
    fn read(&self) -> io::Result<MemoryReading>;
}

impl<F> MemoryReader for F
where
    F: Fn() -> io::Result<MemoryReading> + Send + Sync + 'static,
{
    fn read(&self) -> io::Result<MemoryReading> {
        self()
    }
}

/// The process's resident memory, against the lowest limit that binds it.
///
/// That is the lowest memory limit of its control groups (version 2 or 1, its own group and each above it), where one is
/// set and lower than the host's memory, or else the host's memory.
pub struct SystemMemory {
    system: Mutex<System>,
    groups: ControlGroups,
}

impl SystemMemory {
    /// Prepares to read this process.
    pub fn new() -> Self {
        Self {
            system: Mutex::new(System::new()),
            groups: ControlGroups::default(),
        }
    }
}

impl Default for SystemMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SystemMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemMemory").finish_non_exhaustive()
    }
}

impl MemoryReader for SystemMemory {
    fn read(&self) -> io::Result<MemoryReading> {
        let pid = sysinfo::get_current_pid().map_err(io::Error::other)?;
        let mut system = lock(&self.system);
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[pid]),
            true,
            ProcessRefreshKind::nothing().with_memory(),
        );
        let process = system.process(pid).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "the process sees no entry of itself",
            )
        })?;
        let host = system.total_memory();
        let limit = self.groups.limit().map_or(host, |limit| limit.min(host));
        Ok(MemoryReading {
            used: process.memory(),
            limit,
        })
    }
}

/// The memory limits of the control groups that the process is in.
///
/// A limit may sit on the process's own group (a service of systemd), or only on the root that a container sees. So
/// every group from its own up to the root is asked, and the lowest limit counts.
struct ControlGroups {
    membership: PathBuf,
    root: PathBuf,
}

impl Default for ControlGroups {
    fn default() -> Self {
        Self {
            membership: "/proc/self/cgroup".into(),
            root: "/sys/fs/cgroup".into(),
        }
    }
}

impl ControlGroups {
    fn limit(&self) -> Option<u64> {
        let membership = fs::read_to_string(&self.membership).unwrap_or_default();
        let named = membership.lines().filter_map(|line| self.hierarchy(line));
        // A process that sees no membership may still see a mounted root.
        let roots = [self.version_2("/"), self.version_1("/")];
        named
            .chain(roots)
            .flat_map(|(mount, group, file)| limits(&mount, &group, file))
            .min()
    }

    /// One line of the membership file, `id:controllers:path`.
    fn hierarchy(&self, line: &str) -> Option<(PathBuf, PathBuf, &'static str)> {
        let mut fields = line.splitn(3, ':');
        let id = fields.next()?;
        let controllers = fields.next()?;
        let group = fields.next()?;
        if id == "0" && controllers.is_empty() {
            Some(self.version_2(group))
        } else if controllers.split(',').any(|name| name == "memory") {
            Some(self.version_1(group))
        } else {
            None
        }
    }

    fn version_2(&self, group: &str) -> (PathBuf, PathBuf, &'static str) {
        (self.root.clone(), below(group), "memory.max")
    }

    fn version_1(&self, group: &str) -> (PathBuf, PathBuf, &'static str) {
        (
            self.root.join("memory"),
            below(group),
            "memory.limit_in_bytes",
        )
    }
}

/// A group's path, relative to its mount point, without a way out of it.
fn below(group: &str) -> PathBuf {
    Path::new(group)
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect()
}

/// The limits set on `group` and on each group above it.
///
/// `max`, and what version 1 writes for no limit (a number near 2 to the 63), need no case of their own: the first is
/// no number, the second is more than any host has.
fn limits(mount: &Path, group: &Path, file: &str) -> Vec<u64> {
    group
        .ancestors()
        .filter_map(|group| fs::read_to_string(mount.join(group).join(file)).ok())
        .filter_map(|text| text.trim().parse().ok())
        .filter(|limit| *limit > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture(PathBuf);

    impl Fixture {
        fn new(name: &str) -> Self {
            let root =
                std::env::temp_dir().join(format!("perennial-{name}-{}", std::process::id()));
            fs::create_dir_all(&root).unwrap();
            Self(root)
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn limit(&self) -> Option<u64> {
            ControlGroups {
                membership: self.0.join("membership"),
                root: self.0.join("cgroup"),
            }
            .limit()
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let fixture = Fixture::new("v2");
        fixture.write("membership", "0::/system.slice/app.service\n");
        fixture.write("cgroup/memory.max", "max\n");
        fixture.write("cgroup/system.slice/memory.max", "2000\n");
        fixture.write("cgroup/system.slice/app.service/memory.max", "3000\n");
        assert_eq!(fixture.limit(), Some(2000));
    }

    #[test]
    fn version_1_counts_where_the_container_sees_only_its_root() {
        let fixture = Fixture::new("v1");
        fixture.write("membership", "5:cpu:/x\n4:memory:/docker/abc\n0::/\n");
        fixture.write("cgroup/memory/memory.limit_in_bytes", "4096\n");
        assert_eq!(fixture.limit(), Some(4096));
    }

    #[test]
    fn no_group_and_no_limit_are_none() {
        let fixture = Fixture::new("none");
        assert_eq!(fixture.limit(), None);
        fixture.write("membership", "0::/../../etc\nnonsense\n");
        fixture.write("cgroup/memory.max", "max\n");
        assert_eq!(fixture.limit(), None);
    }

    #[test]
    fn this_process_is_read() {
        let reading = SystemMemory::new().read().unwrap();
        assert!(reading.used > 0);
        assert!(reading.limit > 0);
    }
}
