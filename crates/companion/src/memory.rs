//! Keeps what is in this program's memory to this program: keys, codes and tokens pass through it.

/// Before anything else. No core file is written, wherever the system would put it; and on Linux no other program of the same
/// person can read this one's memory, environment or open files.
pub fn keep_to_ourselves() {
    leave_no_core();
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        // It cannot fail with this value.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}

/// Only that no core file is written: for a program that asks desktop portals. They look at `/proc/PID/root` of whoever asks,
/// and refuse everything to a program that keeps more to itself.
pub fn leave_no_core() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        // A limit does not hold for a core that is piped to a program, except this one on Linux (core(5)); no file is as
        // short as that.
        let most = Some(u64::from(cfg!(target_os = "linux")));
        // Refused only where it is forbidden already.
        let _ = setrlimit(Resource::Core, Rlimit { current: most, maximum: most });
    }
}
