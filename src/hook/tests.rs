mod attach;
mod invalid_input;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::fake_daemon::{Behaviour, FakeDaemon};
use super::*;
use crate::source::xattr::CgroupRecord;

/// Records in memory: by cgroup, or an error for all.
#[derive(Clone, Default)]
struct Memory {
    records: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    forbidden: bool,
    /// An owner without root: writes the owner policy instead of records.
    owner: bool,
    owner_policies: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Memory {
    fn records(&self) -> Records {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let (read, write, owner) = (self.clone(), self.clone(), self.clone());
        Records {
            read: Box::new(move |cgroup| Ok(read.records.lock().unwrap().get(cgroup.as_str()).cloned())),
            write: Box::new(move |cgroup, record| {
                if write.forbidden || write.owner {
                    return Err(denied());
                }
                write.records.lock().unwrap().insert(cgroup.as_str().to_owned(), record.to_vec());
                Ok(())
            }),
            write_owner_policy: Box::new(move |cgroup, line| {
                if !owner.owner {
                    return Err(denied());
                }
                owner.owner_policies.lock().unwrap().insert(cgroup.as_str().to_owned(), line.to_owned());
                Ok(())
            }),
        }
    }
}

/// An environment with one container, c1 with PID 7, whose bundle names its scope.
struct TestEnv {
    dir: tempfile::TempDir,
    memory: Memory,
    environment: Environment,
}

impl TestEnv {
    fn new(bus: String) -> TestEnv {
        TestEnv::with(bus, Memory::default())
    }

    /// With a short timeout for tests in which the daemon does not reply.
    fn late(daemon: &FakeDaemon, behaviour: Behaviour) -> TestEnv {
        let mut env = TestEnv::new(daemon.address());
        if matches!(behaviour, Behaviour::Slow | Behaviour::BusSilent) {
            env.environment.deadline = Duration::from_millis(800);
        }
        // The hook must have received a reply, and repeats the call until then.
        if behaviour == Behaviour::Busy {
            env.environment.deadline = Duration::from_secs(3);
        }
        env
    }

    fn with(bus: String, memory: Memory) -> TestEnv {
        let dir = tempfile::tempdir().unwrap();
        let proc = dir.path().join("proc");
        std::fs::create_dir_all(proc.join("7")).unwrap();
        std::fs::write(proc.join("7/cgroup"), "0::/machine.slice/libpod-c1.scope/container\n").unwrap();
        std::fs::write(
            dir.path().join("config.json"),
            r#"{"linux":{"cgroupsPath":"machine.slice:libpod:c1"}}"#,
        )
        .unwrap();
        let environment = Environment {
            bus,
            // Long, so that a busy machine does not affect tests. Tests of timeouts shorten it.
            deadline: Duration::from_secs(60),
            proc,
            records: memory.records(),
        };
        TestEnv { dir, memory, environment }
    }

    fn state(&self, status: &str, annotations: &[(&str, &str)]) -> Vec<u8> {
        let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
        serde_json::json!({"ociVersion": "1.0", "id": "c1", "pid": 7, "bundle": self.dir.path(), "status": status, "annotations": annotations})
            .to_string()
            .into_bytes()
    }

    fn run(&self, annotations: &[(&str, &str)]) -> HookResult {
        run(&self.state("created", annotations), None, &self.environment)
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
const REQUIRED: (&str, &str) = ("memcg.bpf/required", "true");

fn no_bus() -> String {
    "unix:path=/nonexistent/bus".to_owned()
}
