//! Which process a lease or an unfinished file belongs to, and the proof that it is gone. No clock takes part.

use std::fs;

use shard_core::sha256;

/// A process, as precisely as the system can name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The machine's name, for people.
    pub host: String,
    /// What the machine is recognised by across reboots (16 hexadecimal digits); `-` where it cannot be.
    pub machine: String,
    /// The running kernel (16 hexadecimal digits, random at each boot); `-` where it is unknown.
    pub boot: String,
    /// The space of process numbers that `pid` belongs to; `-` where it is unknown.
    pub namespace: String,
    /// The process number.
    pub pid: u32,
    /// When the process started, in the kernel's ticks since boot; `-` where it is unknown.
    pub start: String,
}

fn short_hash(text: &str) -> String {
    sha256(text.as_bytes()).to_hex()[..16].to_owned()
}

impl Process {
    /// This process.
    #[must_use]
    pub fn current() -> Self {
        let unknown = || "-".to_owned();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let machine_id = ["/etc/machine-id", "/var/lib/dbus/machine-id"]
            .iter()
            .find_map(|path| fs::read_to_string(path).ok())
            .map(|id| id.trim().to_owned())
            .filter(|id| !id.is_empty());
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let namespace = fs::read_link("/proc/self/ns/pid").ok();
        let digits = |path: std::path::PathBuf| -> String {
            path.to_string_lossy().chars().filter(char::is_ascii_digit).collect()
        };
        let pid = std::process::id();
        Self {
            machine: machine_id.map_or_else(unknown, |id| short_hash(&format!("{host}\n{id}"))),
            host,
            boot: boot.map_or_else(unknown, |id| short_hash(id.trim())),
            namespace: namespace.map(digits).filter(|digits| !digits.is_empty()).unwrap_or_else(unknown),
            pid,
            start: start_of(pid).unwrap_or_else(unknown),
        }
    }

    /// Whether it is proven that the process no longer runs. `me` is the process that asks.
    ///
    /// Proof is: the same kernel and number space, where the number is free or was given to a process that started at
    /// another time; or the same machine under another kernel, so it was rebooted. Where neither can be known, it is not
    /// proven. A container's processes have another number space and mostly another host name: there is no proof for them
    /// from outside, and a number space that was reused proves that the old one died.
    #[must_use]
    pub fn is_provably_gone(&self, me: &Self) -> bool {
        let known = |text: &str| text != "-";
        if !known(&self.boot) || !known(&me.boot) {
            return false;
        }
        if self.boot != me.boot {
            return known(&self.machine) && self.machine == me.machine;
        }
        if !known(&self.namespace) || self.namespace != me.namespace {
            return false;
        }
        if *self == *me {
            return false;
        }
        let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw) else { return false };
        if rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
            return true;
        }
        if is_zombie(self.pid) {
            return true;
        }
        match start_of(self.pid) {
            Some(start) => known(&self.start) && start != self.start,
            None => false,
        }
    }

    /// Whether it was started under the same kernel, in the same space of process numbers: then its number says whether it runs.
    #[must_use]
    pub fn is_numbered_as(&self, other: &Self) -> bool {
        let known = |text: &str| text != "-";
        known(&self.boot) && self.boot == other.boot && known(&self.namespace) && self.namespace == other.namespace
    }

    /// The process as part of a file name: digits, lowercase letters, `-` and `_` only, without the host's name.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("{}_{}_{}_{}_{}", self.machine, self.boot, self.namespace, self.pid, self.start)
    }

    /// Reads a [`Self::tag`]; the host's name stays empty.
    #[must_use]
    pub fn from_tag(tag: &str) -> Option<Self> {
        let mut parts = tag.split('_').map(str::to_owned);
        let process = Self {
            host: String::new(),
            machine: parts.next()?,
            boot: parts.next()?,
            namespace: parts.next()?,
            pid: parts.next()?.parse().ok()?,
            start: parts.next()?,
        };
        (parts.next().is_none() && process.tag() == tag).then_some(process)
    }
}

/// The fields of `/proc/<pid>/stat` after the command's name, which may itself hold spaces and parentheses.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

fn start_of(pid: u32) -> Option<String> {
    // Field 22 of proc(5), the 20th after the command.
    stat_fields(pid)?.get(19).filter(|ticks| ticks.bytes().all(|b| b.is_ascii_digit())).cloned()
}

/// Whether the process has ended and only waits for its parent. (Its first thread alone may have ended: then others live.)
fn is_zombie(pid: u32) -> bool {
    let ended = stat_fields(pid).is_some_and(|fields| fields.first().is_some_and(|state| state == "Z" || state == "X"));
    ended && fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.count() <= 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_17_only_proof_ends_a_process() {
        let me = Process::current();
        assert!(!me.is_provably_gone(&me));
        assert_eq!(Process::from_tag(&me.tag()).map(|p| Process { host: me.host.clone(), ..p }), Some(me.clone()));

        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let start = start_of(child.id()).unwrap();
        let other = Process { pid: child.id(), start, ..me.clone() };
        assert!(!other.is_provably_gone(&me), "it runs");
        assert!(Process { start: "1".to_owned(), ..other.clone() }.is_provably_gone(&me), "its number was reused");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(other.is_provably_gone(&me), "it is dead");

        let elsewhere = Process { namespace: "1".to_owned(), ..other.clone() };
        assert!(!elsewhere.is_provably_gone(&me), "another container's numbers say nothing");
        let rebooted = Process { boot: "0".repeat(16), machine: "m".to_owned(), ..other.clone() };
        assert!(rebooted.is_provably_gone(&Process { machine: "m".to_owned(), ..me.clone() }));
        assert!(!rebooted.is_provably_gone(&Process { machine: "n".to_owned(), ..me.clone() }), "another machine");
        let unknown = Process { machine: "-".to_owned(), ..rebooted };
        assert!(!unknown.is_provably_gone(&Process { machine: "-".to_owned(), ..me.clone() }));
        assert!(!Process { boot: "-".to_owned(), ..other }.is_provably_gone(&me));
    }

    #[test]
    fn a_zombie_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let me = Process::current();
        let other = Process { pid: child.id(), start: "-".to_owned(), ..me.clone() };
        for _ in 0..500 {
            if is_zombie(child.id()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(other.is_provably_gone(&me));
        child.wait().unwrap();
    }

    #[test]
    fn tags_have_one_form() {
        for bad in ["", "a_b_c_1", "a_b_c_01_e", "a_b_c_1_e_f", "a_b_c_-1_e"] {
            assert_eq!(Process::from_tag(bad), None, "{bad}");
        }
    }
}
