//! What anybody on the machine could read of this test's processes while they ran: command lines and environments.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, process};

/// Often enough to see a helper such as `mosquitto_passwd`, which lives for some milliseconds.
const INTERVAL: Duration = Duration::from_millis(10);

type Seen = Arc<Mutex<BTreeSet<(String, Vec<u8>)>>>;

/// Looks at this process and all that descend from it until it is taken down.
pub struct Watch {
    seen: Seen,
    down: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub fn start() -> Self {
        let (seen, down) = (Seen::default(), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (seen, down) = (seen.clone(), down.clone());
            move || {
                while !down.load(Ordering::Relaxed) {
                    look(&seen);
                    std::thread::sleep(INTERVAL);
                }
            }
        });
        Self { seen, down, thread: Some(thread) }
    }

    /// Looks now: for a process that was started a moment ago and will soon be gone.
    pub fn look(&self) {
        look(&self.seen);
    }

    /// Everything seen, with what it is of.
    pub fn take_down(mut self) -> Vec<(String, Vec<u8>)> {
        self.down.store(true, Ordering::Relaxed);
        self.thread.take().expect("taken down once").join().expect("the watch does not panic");
        std::mem::take(&mut *self.seen.lock().unwrap()).into_iter().collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.down.store(true, Ordering::Relaxed);
    }
}

fn look(seen: &Seen) {
    let me = process::id();
    let parents: HashMap<u32, u32> = fs::read_dir("/proc")
        .expect("Linux's /proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, parent(pid)?)))
        .collect();
    let descends =
        |pid: &u32| std::iter::successors(Some(*pid), |pid| parents.get(pid).copied()).any(|pid| pid == me);
    for pid in parents.keys().filter(|pid| descends(pid)) {
        // One that is gone by now was looked at before, or was too short for anybody.
        let Ok(cmdline) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let program = String::from_utf8_lossy(cmdline.split(|byte| *byte == 0).next().unwrap_or_default());
        let program = program.rsplit('/').next().unwrap_or_default().to_owned();
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut seen = seen.lock().unwrap();
        seen.insert((format!("command line of {program}"), cmdline));
        seen.insert((format!("environment of {program}"), environment));
    }
}

/// The fourth field; the second is a name in brackets, which may hold anything.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
