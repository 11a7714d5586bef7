//! Policies without a request are loaded after the start, one after the other and beside the loop, so that the first
//! request need not wait for the verifier.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::config::Config;
use crate::bpf::{BpfError, LoadTask, PreparedPolicy};

/// A start of the machine has better things to do at first.
const AFTER: Duration = Duration::from_secs(10);

pub struct Preloader {
    /// Still to be loaded, the next one last.
    policies: Vec<String>,
    due: Instant,
    work: Option<JoinHandle<Result<PreparedPolicy, BpfError>>>,
}

impl Preloader {
    /// For all `policies`, or for none if the configuration says so.
    pub fn new(config: &Config, policies: impl DoubleEndedIterator<Item = String>) -> Self {
        let policies = policies.rev().filter(|_| config.preload).collect();
        Preloader { policies, due: Instant::now(), work: None }
    }

    /// Begins some time from now.
    pub fn schedule(&mut self) {
        self.due = Instant::now().checked_add(AFTER).unwrap_or(self.due);
    }

    /// Comes back when there is something to go on with: what was loaded, if anything. Never, when all are.
    pub async fn next(&mut self) -> Option<PreparedPolicy> {
        let Some(work) = &mut self.work else {
            if self.policies.is_empty() {
                std::future::pending::<()>().await;
            }
            sleep_until(self.due).await;
            return None;
        };
        let done = work.await;
        self.work = None;
        match done {
            Ok(Ok(loaded)) => Some(loaded),
            // A request for the policy reports the error.
            Ok(Err(error)) => {
                tracing::debug!("{error}");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "loading ahead");
                None
            }
        }
    }

    /// Begins with the next one. `loading`: how, or `None` when it is loaded.
    pub fn start_next(&mut self, loading: impl Fn(&str) -> Option<LoadTask>) {
        while let Some(policy) = self.policies.pop() {
            if let Some(loading) = loading(&policy) {
                self.work = Some(tokio::task::spawn_blocking(|| loading.load()));
                return;
            }
        }
    }
}
