//! `serve`: an upstream that is never the bottleneck, and that reports its true service time in each answer.

mod answers;
mod connection;
pub(crate) mod outgoing;
mod service;
mod settings;
mod stats;
pub(crate) mod ticks;

use std::cell::RefCell;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use adit::base::Rng;
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::{Core, Listener, MailReceiver, MailSender, Signal, mailbox};
use adit::tls::{
    ALPN_HTTP1, Authority, CertError, CertSet, Connection, ReloadingCerts, ServerCert, ServerConfig, ServerSettings,
    TlsError, Versions, server_config,
};
use rustls_pki_types::UnixTime;

use crate::core_thread::{CoreError, CoreSettings, CoreThread};
use answers::Answers;
pub use service::{ServiceTime, ServiceTimeError};
pub use settings::{
    ANSWER_LEN_MAX, AnswerSettings, Certificate, EVENTS_MAX, Form, HttpsSettings, SERVICE_MAX, ServeSettings,
};
pub(crate) use stats::Stats;

/// The request field that asks for a service time other than the one in the settings, in microseconds.
pub const WANTED_SERVICE: &str = "X-Want-Service-Us";
/// The request field with which a call is held until it is released (`POST /release`): an MCP call before the first
/// byte of its answer, an event stream after its head. Its value is ignored.
pub const HOLD: &str = "X-Want-Hold";
/// The field in which `GET /stats` reports how many calls are held.
pub const HELD: &str = "X-Held";
/// The field in which `POST /release` reports how many calls it released.
pub const RELEASED: &str = "X-Released";
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The validity of the certificates of an authority that is created at the start, in days.
const VALID_DAYS: u32 = 7;

/// Why an upstream cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A setting is not valid.
    #[error("{0}")]
    Settings(String),
    /// The certificate cannot be used.
    #[error("HTTPS cannot be served: {0}")]
    Certificate(#[from] CertError),
    /// The upstream's thread could not be started.
    #[error("the upstream cannot run: {0}")]
    Core(#[from] CoreError),
    /// The file of calls cannot be used.
    #[error("the ids of calls cannot be stored in {} ({error}): name a file that can be written", path.display())]
    CallsFile {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// The driver failed while the server ran.
    #[error("the upstream failed: {0}")]
    Driver(io::Error),
    /// The address is in use, or does not belong to this machine.
    #[error("cannot listen at {address} ({error}): choose another, or port 0")]
    Listen {
        /// The address that was to be listened on.
        address: SocketAddr,
        /// The error of the system.
        error: io::Error,
    },
    /// The TLS configuration cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A running upstream on its own thread. Dropping it ends it.
pub struct Server {
    core: Option<CoreThread<()>>,
    stop: Option<MailSender<()>>,
    address: SocketAddr,
    https_address: Option<SocketAddr>,
    ca_pem: Option<String>,
    why: String,
}

pub(crate) type Listening = Result<(SocketAddr, Option<SocketAddr>), (SocketAddr, io::Error)>;

impl Server {
    /// Starts an upstream.
    ///
    /// # Errors
    ///
    /// If it cannot listen, or a setting is out of range.
    pub fn start(settings: ServeSettings) -> Result<Server, ServeError> {
        settings.check().map_err(ServeError::Settings)?;
        for address in std::iter::once(settings.listen).chain(settings.https.iter().map(|https| https.listen)) {
            // Bound without SO_REUSEPORT, which fails if the address is in use.
            TcpListener::bind(address).map_err(|error| ServeError::Listen { address, error })?;
        }
        let (tls, ca_pem) = match &settings.https {
            Some(https) => certificate(&https.certificate).map(|(tls, ca_pem)| (Some(tls), ca_pem))?,
            None => (None, None),
        };
        let stats = stats(&settings)?;
        let (stop, stopped) = mailbox::<()>(1);
        let (sender, receiver) = mpsc::channel::<Listening>();
        let listen = settings.listen;
        let core = CoreSettings {
            name: "upstream",
            cpu: settings.cpu,
            driver: settings.driver,
            spin: settings.spin,
            buffer_memory: settings.buffer_memory,
        };
        let core = CoreThread::start(core, move |core| serve(core, settings, stats, tls, sender, stopped))?;
        let ended = |_| ServeError::Listen { address: listen, error: io::Error::other("it ended during the start") };
        let listening = receiver.recv().map_err(ended)?;
        let (address, https_address) = listening.map_err(|(address, error)| ServeError::Listen { address, error })?;
        let why = core.why.clone();
        Ok(Server { core: Some(core), stop: Some(stop), address, https_address, ca_pem, why })
    }

    /// The address on which it listens for plain HTTP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address on which it listens for HTTPS.
    #[must_use]
    pub fn https_address(&self) -> Option<SocketAddr> {
        self.https_address
    }

    /// The certificate of the authority that was created at the start, as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The driver on which it runs, and the reason.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.why
    }

    /// Ends the upstream.
    ///
    /// # Errors
    ///
    /// If its driver had failed.
    pub fn stop(mut self) -> Result<(), ServeError> {
        self.end().map_err(ServeError::Driver)
    }

    fn end(&mut self) -> io::Result<()> {
        self.stop = None;
        self.core.take().map_or(Ok(()), CoreThread::join)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The error cannot be reported.
        let _ = self.end();
    }
}

fn stats(settings: &ServeSettings) -> Result<Stats, ServeError> {
    let Some(path) = &settings.calls_file else { return Ok(Stats::new(settings.count_doubled)) };
    Stats::continued(path).map_err(|error| ServeError::CallsFile { path: path.clone(), error })
}

/// The configuration of an HTTPS listener, and the certificate of the authority if one was created.
fn certificate(certificate: &Certificate) -> Result<(Arc<ServerConfig>, Option<String>), ServeError> {
    let now = UnixTime::now();
    let (cert, ca_pem) = match certificate {
        Certificate::Files { cert, key } => {
            let read = |path: &PathBuf| {
                let file = path.display().to_string();
                let pem = fs::read(path)
                    .map_err(|error| CertError::Unreadable { file: file.clone(), cause: error.to_string() })?;
                Ok::<_, CertError>((file, pem))
            };
            let ((cert_file, cert), (key_file, key)) = (read(cert)?, read(key)?);
            (ServerCert::from_pem((&cert_file, &cert), (&key_file, &key), now)?, None)
        }
        Certificate::Made { names } => {
            let authority = Authority::new("adit-loadtest", now, VALID_DAYS)?;
            let loopback = ["localhost", "127.0.0.1", "::1"];
            let names: Vec<&str> = names.iter().map(String::as_str).chain(loopback).collect();
            (authority.issue(&names)?.server_cert(now)?, Some(authority.cert_pem().to_owned()))
        }
    };
    let certs = ReloadingCerts::new(CertSet::new([cert])?);
    let alpn = vec![ALPN_HTTP1.to_vec()];
    let settings = ServerSettings { alpn, versions: Versions::Tls12And13, ..ServerSettings::default() };
    Ok((server_config(certs, &settings)?, ca_pem))
}

/// The state that all connections share.
struct ServerState {
    core: Core,
    settings: ServeSettings,
    answers: Answers,
    rng: RefCell<Rng>,
    stats: RefCell<Stats>,
    /// Raised when held calls are released.
    release: Signal,
}

pub(crate) async fn serve(
    core: Core,
    settings: ServeSettings,
    stats: Stats,
    tls: Option<Arc<ServerConfig>>,
    sender: mpsc::Sender<Listening>,
    mut stopped: MailReceiver<()>,
) {
    let server = Rc::new(ServerState {
        core: core.clone(),
        answers: Answers::new(&settings.answer),
        rng: RefCell::new(Rng::new(settings.seed)),
        stats: RefCell::new(stats),
        release: Signal::default(),
        settings,
    });
    let listening = server.listen(tls);
    let started = listening.is_ok();
    // The starting thread waits for this.
    let _ = sender.send(listening);
    if started {
        while stopped.recv().await.is_some() {}
    }
}

impl ServerState {
    fn listen(self: &Rc<ServerState>, tls: Option<Arc<ServerConfig>>) -> Listening {
        let plain = self.listen_at(self.settings.listen)?;
        let address = local(&plain, self.settings.listen);
        let mut https_address = None;
        if let (Some(https), Some(tls)) = (&self.settings.https, tls) {
            let listener = self.listen_at(https.listen)?;
            https_address = Some(local(&listener, https.listen));
            self.core.spawn(Rc::clone(self).accept(listener, Some(tls)));
        }
        self.core.spawn(Rc::clone(self).accept(plain, None));
        Ok((address, https_address))
    }

    fn listen_at(&self, address: SocketAddr) -> Result<Listener, (SocketAddr, io::Error)> {
        self.core.listen(&Address::Tcp(address)).map_err(|error| (address, error))
    }

    async fn accept(self: Rc<ServerState>, listener: Listener, tls: Option<Arc<ServerConfig>>) {
        loop {
            // The listener pauses by itself after an error of the system.
            let Ok((detached, _)) = listener.accept().await else { continue };
            let Ok(socket) = self.core.adopt(detached, SocketOptions::default()).await else { continue };
            let (server, tls) = (Rc::clone(&self), tls.clone());
            self.core.spawn(async move {
                let Some(tls) = tls else { return server.serve(Connection::plain(socket)).await };
                let timeout = server.core.sleep(HANDSHAKE_TIMEOUT);
                if let Ok(connection) = Connection::server(socket, &tls, None, None, timeout).await {
                    server.serve(connection).await;
                }
            });
        }
    }
}

fn local(listener: &Listener, asked: SocketAddr) -> SocketAddr {
    match listener.local() {
        Address::Tcp(address) => *address,
        Address::Unix(_) => asked,
    }
}
