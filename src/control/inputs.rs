//! The inputs of the control thread: signals, events of cores, and requests to the admin API.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::control::admin::router;
use crate::control::admin_listener::{AdminListener, ConnectionEnd};
use crate::control::api::Access;
use crate::control::reading::RoleKind;
use crate::control::state::State;
use crate::control::thread::{ProcessRequest, RoleEvent};
use crate::engine::MailReceiver;

/// Turns signals into requests: SIGTERM and SIGINT to end, SIGHUP for `on_hangup`. From now on these signals do not
/// kill the process. `on_hangup` is also repeated every `again_every`, if set.
///
/// # Errors
///
/// If the system does not allow receiving the signals.
pub fn signals(
    on_hangup: ProcessRequest,
    again_every: Option<Duration>,
) -> io::Result<mpsc::UnboundedReceiver<ProcessRequest>> {
    let (sender, requests) = mpsc::unbounded_channel();
    let kinds = [
        (SignalKind::terminate(), ProcessRequest::End),
        (SignalKind::interrupt(), ProcessRequest::End),
        (SignalKind::hangup(), on_hangup),
    ];
    for (kind, request) in kinds {
        let (mut signal, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move { while signal.recv().await.is_some() && sender.send(request).is_ok() {} });
    }
    if let Some(every) = again_every {
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                if sender.send(on_hangup).is_err() {
                    break;
                }
            }
        });
    }
    Ok(requests)
}

/// Forwards the events of a role's cores.
pub fn forward_events<E>(
    role: RoleKind,
    from: MailReceiver<E>,
    to: mpsc::UnboundedSender<(RoleKind, RoleEvent)>,
) -> JoinHandle<()>
where
    E: Into<RoleEvent> + Send + 'static,
{
    forward_events_with(role, from, to, |_| ())
}

/// Like [`forward_events`], but calls `inspect` with each event first, which may contain more than is forwarded.
pub fn forward_events_with<E>(
    role: RoleKind,
    mut from: MailReceiver<E>,
    to: mpsc::UnboundedSender<(RoleKind, RoleEvent)>,
    mut inspect: impl FnMut(&E) + Send + 'static,
) -> JoinHandle<()>
where
    E: Into<RoleEvent> + Send + 'static,
{
    tokio::spawn(async move {
        while let Some(event) = from.recv().await {
            inspect(&event);
            if to.send((role, event.into())).is_err() {
                break;
            }
        }
    })
}

/// Serves the admin API until the task is aborted.
///
/// # Errors
///
/// If the listener cannot be used.
pub fn serve_admin(
    listener: std::net::TcpListener,
    state: Arc<State>,
    access: Option<Access>,
) -> io::Result<JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let listener = AdminListener::new(tokio::net::TcpListener::from_std(listener)?);
    Ok(tokio::spawn(async move {
        let service = router(state, access).into_make_service_with_connect_info::<ConnectionEnd>();
        if let Err(error) = axum::serve(listener, service).await {
            tracing::error!(%error, "the admin API ended");
        }
    }))
}
