//! The tasks that live as long as the server. When one of them ends, the others would go on as if
//! nothing were, and nobody would see it: so its end is the end of the server, and a supervisor
//! starts it anew.
//!
//! They are: the web listener and that of metrics, the reader of the certificate, the recorder of session
//! events and that of the tunnels' history, the end of what is over and that of old keys' time, the passwords' thread, and the tunnel server, which stands for its
//! listener, for what tells of left out log lines and for the threads of sessions; where there are several nodes, the
//! link to them, what tells the others of this one and hears of them, what drains it, the keeper of the keys, and the opening of a database that could not
//! be reached at the start. Not among them: the log's thread, whose death is counted in lost lines; the database's,
//! without which nothing can be written and the server is not ready; and what belongs to one port, session or
//! request, which is freed with it. What runs and does no work is seen by `/readyz`.

use std::collections::HashMap;

use anyhow::anyhow;
use tokio::task::{Id, JoinSet};

/// These tasks. They end when this is dropped.
#[derive(Default)]
pub struct CoreTasks {
    running: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, &'static str>,
}

impl CoreTasks {
    /// Starts one; the name is for people.
    pub fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits for one to end, which none should, and says which it was and why.
    pub async fn first_end(&mut self) -> anyhow::Error {
        let (id, cause) = match self.running.join_next_with_id().await {
            None => return std::future::pending().await,
            Some(Ok((id, Ok(())))) => (id, anyhow!("it should not have")),
            Some(Ok((id, Err(error)))) => (id, error),
            Some(Err(error)) => (error.id(), error.into()),
        };
        let name = self.names.get(&id).unwrap_or(&"a task");
        cause.context(format!("{name} has ended, and the server with it"))
    }

    /// Ends all of them and waits until they have.
    pub async fn stop(mut self) {
        self.running.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_core_task_is_told_with_its_name_and_cause() {
        for (task, cause) in [
            ("panics", "a bug"),
            ("fails", "no disk"),
            ("ends", "should not"),
        ] {
            let mut tasks = CoreTasks::default();
            tasks.spawn("the one that lives", std::future::pending());
            tasks.spawn("the recorder", async move {
                match task {
                    "panics" => panic!("a bug"),
                    "fails" => Err(anyhow!("no disk")),
                    _ => Ok(()),
                }
            });
            let told = format!("{:#}", tasks.first_end().await);
            assert!(told.starts_with("the recorder has ended"), "{told}");
            assert!(told.contains(cause), "{told}");
            tasks.stop().await;
        }
    }

    #[tokio::test]
    async fn while_all_core_tasks_run_nothing_is_told() {
        let mut tasks = CoreTasks::default();
        assert!(tasks.first_end().now_or_never().is_none());
        tasks.spawn("the recorder", std::future::pending());
        assert!(tasks.first_end().now_or_never().is_none());
    }
}
