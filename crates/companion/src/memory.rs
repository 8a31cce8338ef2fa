//! Keeps what is in this program's memory to this program: keys, codes and tokens pass through it.

/// Before anything else. No core file is written, wherever the system would put it; and on Linux no other program of the same
/// person can read this one's memory, environment or open files.
pub fn keep_to_ourselves() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        // Refused only where it is forbidden already.
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        // The limit does not hold for a core that is piped to a program; this does. It cannot fail with this value.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}
