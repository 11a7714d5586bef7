//! After the start, loads policies that are not requested yet, one at a time and beside the loop, so that the first
//! request does not wait for the verifier.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::config::Config;
use crate::bpf::{BpfError, LoadTask, PreparedPolicy};

/// Delay after the start of the daemon, because the machine may be starting.
const AFTER: Duration = Duration::from_secs(10);

pub struct Preloader {
    /// The policies to load, in reverse order.
    policies: Vec<String>,
    due: Instant,
    work: Option<JoinHandle<Result<PreparedPolicy, BpfError>>>,
}

impl Preloader {
    /// Loads all `policies`, or none if the configuration disables preloading.
    pub fn new(config: &Config, policies: impl DoubleEndedIterator<Item = String>) -> Self {
        let policies = policies.rev().filter(|_| config.preload).collect();
        Preloader { policies, due: Instant::now(), work: None }
    }

    /// Starts the delay.
    pub fn schedule(&mut self) {
        self.due = Instant::now().checked_add(AFTER).unwrap_or(self.due);
    }

    /// Returns when the next policy can be loaded, with the one that was loaded, if any. Waits forever if there is
    /// nothing left to load.
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

    /// Starts to load the next policy. `loading` returns its task, or `None` if the policy is loaded.
    pub fn start_next(&mut self, loading: impl Fn(&str) -> Option<LoadTask>) {
        while let Some(policy) = self.policies.pop() {
            if let Some(loading) = loading(&policy) {
                self.work = Some(tokio::task::spawn_blocking(|| loading.load()));
                return;
            }
        }
    }
}
