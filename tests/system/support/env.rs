//! Files, units and containers of a test, removed at its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{ensure_daemon, status, systemd, try_sh, wait_for};

/// Timeout of the removal of bindings without a reload of systemd.
const EMPTY_WITHOUT_RELOAD: Duration = Duration::from_secs(2);

/// Files, units and containers of one test. Call [`TestEnv::end`] at the end; a failing test is cleaned up after too.
pub struct TestEnv {
    /// A directory for the output of programs, `/run/memcg-bpf-test/NAME`.
    pub dir: PathBuf,
    files: Vec<PathBuf>,
    units: Vec<String>,
    pub(super) clean_up: Vec<String>,
}

impl TestEnv {
    /// An environment with a running daemon. Panics outside of the test machine.
    pub fn new(name: &str) -> Self {
        assert!(
            Path::new("/data/programs").is_dir() && nix::unistd::geteuid().is_root(),
            "system tests change the machine they run on: use 'make check', which runs them in one of its own"
        );
        ensure_daemon();
        let dir = Path::new("/run/memcg-bpf-test").join(name);
        fs::create_dir_all(&dir).unwrap();
        TestEnv { dir, files: Vec::new(), units: Vec::new(), clean_up: Vec::new() }
    }

    /// A file that is removed with the environment.
    pub fn file(&mut self, path: &str, text: &str) -> &mut Self {
        let path = self.new_file(path);
        fs::write(path, text).unwrap();
        self
    }

    /// A symlink that is removed with the environment.
    pub fn link(&mut self, path: &str, target: &str) -> &mut Self {
        let path = self.new_file(path);
        std::os::unix::fs::symlink(target, path).unwrap();
        self
    }

    fn new_file(&mut self, path: &str) -> PathBuf {
        let path = PathBuf::from(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(path.symlink_metadata().is_err(), "{} is there already", path.display());
        self.files.push(path.clone());
        path
    }

    /// A unit file under /run/systemd/system; the unit is stopped at the end.
    pub fn unit(&mut self, name: &str, text: &str) -> &mut Self {
        self.stops(name).file(&format!("/run/systemd/system/{name}"), text)
    }

    /// A one-shot service that runs a command line; its output is in `dir/NAME.out`.
    pub fn service(&mut self, name: &str, command: &str, more: &str) -> &mut Self {
        let out = self.out(name);
        let text = format!(
            "[Service]\nType=oneshot\nExecStart={command}\nStandardOutput=append:{}\n{more}\n",
            out.display()
        );
        self.unit(name, &text)
    }

    /// The path of a service's output.
    pub fn out(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.out"))
    }

    /// A drop-in `50-memory.conf` with one assignment in the recommended spelling, under /etc.
    pub fn policy(&mut self, unit: &str, line: &str) -> &mut Self {
        let kind = unit.rsplit_once('.').unwrap().1;
        let section = format!("{}{}", kind[..1].to_uppercase(), &kind[1..]);
        self.file(
            &format!("/etc/systemd/system/{unit}.d/50-memory.conf"),
            &format!("[{section}]\nX-MemoryBPFPolicy={line}\n"),
        )
    }

    /// Stops a unit at the end.
    pub fn stops(&mut self, unit: &str) -> &mut Self {
        self.units.push(unit.to_owned());
        self
    }

    /// A script that runs at the end; its status is ignored.
    pub fn at_end(&mut self, script: String) -> &mut Self {
        self.clean_up.push(script);
        self
    }

    /// Makes systemd read the files.
    pub fn reload(&mut self) -> &mut Self {
        systemd::daemon_reload();
        self
    }

    /// Removes everything and waits until the daemon has no binding or registration left.
    pub fn end(mut self) {
        self.take_down();
        // A reload is slow, and the next test that writes unit files reloads. It is needed here only if a running
        // unit had a drop-in.
        if !is_empty_within(EMPTY_WITHOUT_RELOAD) {
            systemd::daemon_reload();
            wait_for("the daemon to have no binding or registration left", || {
                status().is_empty().then_some(())
            });
        }
    }

    /// As [`TestEnv::end`], without a daemon.
    pub fn end_without_daemon(mut self) {
        self.take_down();
        systemd::daemon_reload();
    }

    fn take_down(&mut self) {
        if self.files.is_empty() && self.units.is_empty() && self.clean_up.is_empty() {
            return;
        }
        for script in self.clean_up.drain(..).rev() {
            try_sh(&script);
        }
        for unit in &self.units {
            drop(systemd::try_kill(unit, "all", Signal::SIGKILL));
        }
        systemd::try_stop(&self.units.join(" "));
        systemd::reset_failed(self.units.join(" "));
        self.units.clear();
        for file in self.files.drain(..) {
            drop(fs::remove_file(&file));
            // A drop-in directory of this test; others are not empty.
            file.parent().filter(|d| d.extension().is_some_and(|e| e == "d")).map(fs::remove_dir);
        }
        drop(fs::remove_dir_all(&self.dir));
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.take_down();
            drop(systemd::try_daemon_reload());
        }
    }
}

/// True if the daemon has no binding and no registration.
fn is_empty_within(limit: Duration) -> bool {
    let began = Instant::now();
    while !status().is_empty() {
        if began.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}
