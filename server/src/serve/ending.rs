//! When a long-running process is to end.

use std::io::Read;

use tokio::signal::unix::{SignalKind, signal};

/// Completes on SIGTERM or SIGINT, or when stdin closes if that is asked for. Listens from the first poll on.
pub(super) async fn ending(until_stdin_closes: bool) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("asked to end by SIGTERM"),
        _ = interrupt.recv() => tracing::info!("asked to end by SIGINT"),
        () = stdin_closed(), if until_stdin_closes => tracing::info!("stdin is closed: ends"),
    }
    Ok(())
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
