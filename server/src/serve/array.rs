//! Running an array until it is told to end: engine, NBD front end, REST API.

use std::net::SocketAddr;
use std::sync::Arc;

use metropod::{Array, Options};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use crate::cli::{Failure, ServeOptions, print_json};
use crate::{api, nbd};

use super::ending::Ending;
use super::export::ArrayExports;
use super::{Exposure, ReadyLine, runtime, warn_if_reachable};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 256;

/// Carries out `metropod serve`.
pub fn run(options: ServeOptions) -> Result<(), Failure> {
    let runtime = runtime()?;
    // Taken before the recovery, so that an address in use is noticed at once; listened on after it, so that clients
    // of several arrays are refused meanwhile and go to the next one.
    let api = runtime.block_on(async { Reserved::take("--api", options.api) })?;
    let nbd = runtime.block_on(async { Reserved::take("--nbd", options.nbd) })?;
    warn_if_reachable("the link port", options.listen, Exposure::InTheClear);
    warn_if_reachable("the REST API", options.api, Exposure::NoCredentials);
    warn_if_reachable("NBD", options.nbd, Exposure::NoCredentials);
    let until_stdin_closes = options.until_stdin_closes;
    let array = Array::open(Options {
        name: options.name,
        directory: options.data,
        listen: options.listen,
        advertise: options.advertise,
        mediator: options.mediator,
        journal_bytes: options.journal_bytes.0,
        capacity_bytes: options.capacity.map(|capacity| capacity.0),
        overlay_entries: metropod::OVERLAY_ENTRIES_DEFAULT,
        scrub_bytes_per_s: options.scrub_rate.0,
    })?;
    let served = runtime.block_on(serve(&array, api, nbd, until_stdin_closes));
    runtime.shutdown_background();
    array.close();
    served
}

async fn serve(array: &Array, api: Reserved, nbd: Reserved, until_stdin_closes: bool) -> Result<(), Failure> {
    let (api, nbd) = (api.listen()?, nbd.listen()?);
    let ready =
        ReadyLine { listen: array.address(), api: Some(api.local_addr()?), nbd: Some(nbd.local_addr()?) };
    let (stopping, stopped) = watch::channel(false);
    let stop = || {
        let mut stopped = stopped.clone();
        async move {
            // The sender is gone only when this function is.
            let _stopped = stopped.wait_for(|stop| *stop).await;
        }
    };
    let api = tokio::spawn(api::serve(api, api::router(array.clone()), stop()));
    let exports = Arc::new(ArrayExports::new(array.clone()));
    let nbd = tokio::spawn(nbd::serve(nbd, exports, nbd::Limits::default(), stop()));
    tracing::info!(listen = %ready.listen, api = ?ready.api, nbd = ?ready.nbd, "array is ready");
    let mut ending = Ending::listen(until_stdin_closes)?;
    print_json(&ready)?;
    ending.wait().await;
    stopping.send_replace(true);
    for front in [api, nbd] {
        if let Err(error) = front.await {
            tracing::error!(%error, "a front end met a bug");
        }
    }
    Ok(())
}

/// An address that is ours but not listened on yet.
struct Reserved {
    socket: TcpSocket,
    option: &'static str,
    address: SocketAddr,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; choose another address with {option}")]
struct ListenError {
    option: &'static str,
    address: SocketAddr,
    source: std::io::Error,
}

impl Reserved {
    fn take(option: &'static str, address: SocketAddr) -> Result<Reserved, ListenError> {
        let bound = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(socket)
        };
        match bound() {
            Ok(socket) => Ok(Reserved { socket, option, address }),
            Err(source) => Err(ListenError { option, address, source }),
        }
    }

    fn listen(self) -> Result<TcpListener, ListenError> {
        let Reserved { socket, option, address } = self;
        socket.listen(BACKLOG).map_err(|source| ListenError { option, address, source })
    }
}
