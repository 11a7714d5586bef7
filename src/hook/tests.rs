mod odd;
mod starts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::fake_daemon::{FakeDaemon, Mood};
use super::*;
use crate::source::xattr::CgroupRecord;

/// Records in memory: by cgroup, or an error for all.
#[derive(Clone, Default)]
struct Memory {
    records: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    forbidden: bool,
    /// An owner who is not root: wishes instead of records.
    owner: bool,
    wishes: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Records for Memory {
    fn read(&self, cgroup: &CgroupPath) -> io::Result<Option<Vec<u8>>> {
        Ok(self.records.lock().unwrap().get(cgroup.as_str()).cloned())
    }

    fn write(&self, cgroup: &CgroupPath, record: &[u8]) -> io::Result<()> {
        if self.forbidden || self.owner {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.records.lock().unwrap().insert(cgroup.as_str().to_owned(), record.to_vec());
        Ok(())
    }

    fn write_wish(&self, cgroup: &CgroupPath, line: &str) -> io::Result<()> {
        if !self.owner {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.wishes.lock().unwrap().insert(cgroup.as_str().to_owned(), line.to_owned());
        Ok(())
    }
}

/// A machine with one container, c1 with pid 7, whose bundle names its scope.
struct Machine {
    dir: tempfile::TempDir,
    memory: Memory,
    surroundings: Surroundings,
}

impl Machine {
    fn new(bus: String) -> Machine {
        Machine::with(bus, Memory::default())
    }

    /// With a short deadline where the daemon will not answer.
    fn late(daemon: &FakeDaemon, mood: Mood) -> Machine {
        let mut machine = Machine::new(daemon.address());
        if matches!(mood, Mood::Slow | Mood::BusSilent) {
            machine.surroundings.deadline = Duration::from_millis(800);
        }
        // It must have heard an answer, and asks again until then.
        if mood == Mood::Busy {
            machine.surroundings.deadline = Duration::from_secs(3);
        }
        machine
    }

    fn with(bus: String, memory: Memory) -> Machine {
        let dir = tempfile::tempdir().unwrap();
        let proc = dir.path().join("proc");
        std::fs::create_dir_all(proc.join("7")).unwrap();
        std::fs::write(proc.join("7/cgroup"), "0::/machine.slice/libpod-c1.scope/container\n").unwrap();
        std::fs::write(
            dir.path().join("config.json"),
            r#"{"linux":{"cgroupsPath":"machine.slice:libpod:c1"}}"#,
        )
        .unwrap();
        let surroundings = Surroundings {
            bus,
            // Long: a busy machine must not decide a test. Those about lateness shorten it.
            deadline: Duration::from_secs(60),
            proc,
            records: Box::new(memory.clone()),
        };
        Machine { dir, memory, surroundings }
    }

    fn state(&self, status: &str, annotations: &[(&str, &str)]) -> Vec<u8> {
        let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
        serde_json::json!({"ociVersion": "1.0", "id": "c1", "pid": 7, "bundle": self.dir.path(), "status": status, "annotations": annotations})
            .to_string()
            .into_bytes()
    }

    fn run(&self, annotations: &[(&str, &str)]) -> Outcome {
        run(&self.state("created", annotations), None, &self.surroundings)
    }

    fn recorded(&self) -> Option<CgroupRecord> {
        self.memory
            .records
            .lock()
            .unwrap()
            .get("/machine.slice/libpod-c1.scope")
            .map(|bytes| CgroupRecord::parse(bytes).unwrap())
    }
}

const DENY: (&str, &str) = ("memcg.bpf/policy", "deny limit=64M");
const NEEDED: (&str, &str) = ("memcg.bpf/required", "true");

fn nobody() -> String {
    "unix:path=/nonexistent/bus".to_owned()
}
