//! When a long-running process is to end.

use std::io::Read;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for the process's end from its making on, so that no signal after the ready line finds nobody.
pub(crate) struct Ending {
    terminate: Signal,
    interrupt: Signal,
    until_stdin_closes: bool,
}

impl Ending {
    /// Within a runtime.
    pub(crate) fn listen(until_stdin_closes: bool) -> std::io::Result<Ending> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Ending { terminate, interrupt, until_stdin_closes })
    }

    /// Completes on SIGTERM or SIGINT, or when stdin closes if that is asked for.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("asked to end by SIGTERM"),
            _ = self.interrupt.recv() => tracing::info!("asked to end by SIGINT"),
            () = stdin_closed(), if self.until_stdin_closes => tracing::info!("stdin is closed: ends"),
        }
    }
}

async fn stdin_closed() {
    let (closed, wait) = tokio::sync::oneshot::channel();
    // A thread of its own: nothing can interrupt a read of stdin, so nobody may have to wait for it at the end.
    let watching = std::thread::Builder::new().name("metropod-stdin".into()).spawn(move || {
        let mut scrap = [0; 64];
        while let Ok(1..) = std::io::stdin().read(&mut scrap) {}
        let _listener_may_be_gone = closed.send(());
    });
    if watching.is_err() || wait.await.is_err() {
        // Without a watcher nothing is known about stdin; signals still end the process.
        std::future::pending::<()>().await;
    }
}
