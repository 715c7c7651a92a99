//! A proxy that breaks what passes through it: in front of an HTTP server it knows where requests and answers begin and
//! end, in front of anything else (PostgreSQL, Redis) it passes bytes.
//!
//! ```no_run
//! # async fn run(server: zhuji_testkit::oss::OssServer) -> std::io::Result<()> {
//! use std::time::Duration;
//! use zhuji_testkit::{FaultProxy, Moment, ProxyFault};
//!
//! let proxy = FaultProxy::start(server.address()).await?;
//! // … point a client at proxy.url() …
//! proxy.script([ProxyFault::Reset(Moment::AnswerBody), ProxyFault::Answer(503)]);
//! proxy.rate(7, 10, vec![ProxyFault::Reset(Moment::RequestBody), ProxyFault::CorruptAnswer]);
//! proxy.refuse().await;
//! proxy.accept_again().await;
//! println!("{:?}", proxy.injected());
//! # Ok(())
//! # }
//! ```

mod exchange;
mod fault;
mod http1;
mod raw;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use self::fault::Plan;
pub use self::fault::{Moment, ProxyFault};
use self::wire::{End, Link};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Raw,
}

/// What connections do when somebody knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    Open,
    Refusing,
    /// Nobody answers a knock.
    Silent,
}

/// What the owner wants now; every connection looks at it.
#[derive(Clone, Debug)]
struct Control {
    upstream: SocketAddr,
    /// Somebody asked for refusals; counted, because faults ask too.
    refusing: usize,
    silent: bool,
    paused: bool,
    /// Connections of an older generation are to be cut.
    generation: u64,
    latency: Duration,
    bytes_per_second: Option<u64>,
}

impl Control {
    fn front(&self) -> Front {
        match (self.silent, self.refusing) {
            (true, _) => Front::Silent,
            (false, 0) => Front::Open,
            (false, _) => Front::Refusing,
        }
    }
}

#[derive(Debug)]
struct Shared {
    control: watch::Sender<Control>,
    /// What the listener really does.
    front: watch::Sender<Front>,
    plan: Plan,
    exchanges: AtomicU64,
    connections: AtomicU64,
}

impl Shared {
    async fn while_paused(&self) {
        if self.control.borrow().paused {
            // The sender is in `self`.
            let _ = self.control.subscribe().wait_for(|control| !control.paused).await;
        }
    }

    async fn settled(&self) {
        let wanted = self.control.borrow().front();
        // Both senders are in `self`.
        let _ = self.front.subscribe().wait_for(|front| *front == wanted).await;
    }

    async fn refuse_for(self: &Arc<Self>, time: Duration) {
        self.control.send_modify(|control| control.refusing += 1);
        self.settled().await;
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            shared.control.send_modify(|control| control.refusing -= 1);
        });
    }
}

/// A running proxy on 127.0.0.1. It stops, and cuts what passes through it, when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
    /// Keeps the port while nobody listens on it.
    _reserved: TcpSocket,
}

impl FaultProxy {
    /// In front of an HTTP/1.1 server.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        Self::launch(upstream, Kind::Http)
    }

    /// In front of any TCP server: an exchange is a connection here, and of the faults it knows those that need no
    /// messages: refusing, and whatever happens [`Moment::BeforeRequest`], `RequestBody` or `AnswerBody`, after the
    /// first kilobyte in that direction.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start_raw(upstream: SocketAddr) -> io::Result<Self> {
        Self::launch(upstream, Kind::Raw)
    }

    fn launch(upstream: SocketAddr, kind: Kind) -> io::Result<Self> {
        let reserved = socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = reserved.local_addr()?;
        let listener = socket(address)?.listen(BACKLOG)?;
        let control = Control {
            upstream,
            refusing: 0,
            silent: false,
            paused: false,
            generation: 0,
            latency: Duration::ZERO,
            bytes_per_second: None,
        };
        let shared = Arc::new(Shared {
            control: watch::Sender::new(control),
            front: watch::Sender::new(Front::Open),
            plan: Plan::default(),
            exchanges: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let task = tokio::spawn(serve(listener, address, Arc::clone(&shared), kind));
        Ok(Self {
            shared,
            address,
            task,
            _reserved: reserved,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next exchanges get these, in order, before anything random.
    pub fn script(&self, faults: impl IntoIterator<Item = ProxyFault>) {
        self.shared.plan.script(faults);
    }

    /// From now on, about one in `one_in` exchanges gets one of these. The choice depends on nothing but the seed and the
    /// order in which exchanges begin.
    pub fn rate(&self, seed: u64, one_in: u32, faults: Vec<ProxyFault>) {
        self.shared.plan.rate(seed, one_in, faults);
    }

    /// Takes back what was planned and has not happened; delays and limits on the rate as well.
    pub fn clear(&self) {
        self.shared.plan.clear();
        self.set_latency(Duration::ZERO);
        self.set_bandwidth(None);
    }

    /// Faults of the script that have not happened yet.
    pub fn pending(&self) -> usize {
        self.shared.plan.pending()
    }

    /// How often each fault has happened.
    pub fn injected(&self) -> BTreeMap<String, u64> {
        self.shared.plan.injected()
    }

    /// Exchanges begun so far (connections, in front of a server that isn't HTTP).
    pub fn exchanges(&self) -> u64 {
        self.shared.exchanges.load(Ordering::Relaxed)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Every request, or every connection, waits so long before it is passed on.
    pub fn set_latency(&self, latency: Duration) {
        self.shared
            .control
            .send_modify(|control| control.latency = latency);
    }

    /// Every connection gets at most so many bytes per second in each direction.
    pub fn set_bandwidth(&self, bytes_per_second: Option<u64>) {
        self.shared
            .control
            .send_modify(|control| control.bytes_per_second = bytes_per_second);
    }

    /// Refuses new connections and cuts the open ones. The port stays reserved.
    pub async fn refuse(&self) {
        self.shared.control.send_modify(|control| {
            control.refusing += 1;
            control.generation += 1;
        });
        self.shared.settled().await;
    }

    /// Ends [`refuse`](Self::refuse).
    pub async fn accept_again(&self) {
        self.shared
            .control
            .send_modify(|control| control.refusing = control.refusing.saturating_sub(1));
        self.shared.settled().await;
    }

    /// Cuts all open connections with a reset.
    pub fn cut(&self) {
        self.shared.control.send_modify(|control| control.generation += 1);
    }

    /// Nothing moves any more: open connections stay open and silent, new ones are accepted and stay silent too.
    pub fn pause(&self) {
        self.shared.control.send_modify(|control| control.paused = true);
    }

    /// Nothing moves any more, and attempts to connect stay unanswered: the network is gone.
    pub async fn blackhole(&self) {
        self.shared.control.send_modify(|control| {
            control.paused = true;
            control.silent = true;
        });
        self.shared.settled().await;
    }

    /// Ends [`pause`](Self::pause) and [`blackhole`](Self::blackhole); what was held back goes on.
    pub async fn resume(&self) {
        self.shared.control.send_modify(|control| {
            control.paused = false;
            control.silent = false;
        });
        self.shared.settled().await;
    }

    /// Leads to another server from now on and cuts the open connections, as when the address behind a name changes
    /// and the old host goes away.
    pub fn move_to(&self, upstream: SocketAddr) {
        self.shared.control.send_modify(|control| {
            control.upstream = upstream;
            control.generation += 1;
        });
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Bound, not listening. Several may share a port, so one of them can keep it for the others.
fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Takes connections as the owner wants it, until the task is aborted, which cuts all of them.
async fn serve(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>, kind: Kind) {
    let mut control = shared.control.subscribe();
    let mut connections = JoinSet::new();
    let mut listener = Some(listener);
    // Fills the queue of a listener that nobody serves.
    let mut stuffing: Option<(TcpListener, Vec<JoinHandle<()>>)> = None;
    loop {
        let wanted = control.borrow_and_update().front();
        if wanted != *shared.front.borrow() {
            listener = None;
            if let Some((silent, knocks)) = stuffing.take() {
                drop(silent);
                knocks.iter().for_each(JoinHandle::abort);
            }
            let opened = match wanted {
                Front::Refusing => Ok(()),
                Front::Open => socket(address)
                    .and_then(|s| s.listen(BACKLOG))
                    .map(|opened| listener = Some(opened)),
                Front::Silent => silence(address).await.map(|silent| stuffing = Some(silent)),
            };
            if let Err(error) = opened {
                // The old listener's last connections may still hold it for a moment.
                tracing::debug!(%error, "the fault proxy tries again to listen");
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            shared.front.send_replace(wanted);
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = control.changed() => if changed.is_err() { return },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accepted => match accepted {
                Ok((client, _)) => {
                    shared.connections.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(connection(client, Arc::clone(&shared), kind));
                }
                // Out of file descriptors: wait for some to come back.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

/// A listener whose queue is full: the kernel drops further attempts to connect without an answer.
async fn silence(address: SocketAddr) -> io::Result<(TcpListener, Vec<JoinHandle<()>>)> {
    let silent = socket(address)?.listen(1)?;
    let mut knocks = Vec::new();
    for _ in 0..4 {
        let knock = tokio::spawn(async move {
            let held = TcpStream::connect(address).await;
            std::future::pending::<()>().await;
            drop(held);
        });
        knocks.push(knock);
    }
    // The queue is full when an attempt hangs.
    while let Ok(Ok(_)) = tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(address)).await {
    }
    Ok((silent, knocks))
}

async fn connection(client: TcpStream, shared: Arc<Shared>, kind: Kind) {
    let mut control = shared.control.subscribe();
    let generation = control.borrow().generation;
    let mut link = Link::new(client, Arc::clone(&shared));
    let end = tokio::select! {
        biased;
        _ = control.wait_for(|control| control.generation != generation) => End::Reset,
        end = async {
            match kind {
                Kind::Http => exchange::run(&mut link).await,
                Kind::Raw => raw::run(&mut link).await,
            }
        } => end,
    };
    link.end(end);
}
