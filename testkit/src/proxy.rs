//! A wire between client and broker that fails when told to.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards bytes both ways between its own port and a target's.
pub struct Proxy {
    address: String,
    state: Arc<State>,
}

struct State {
    target: String,
    generation: watch::Sender<u64>,
    refusing: AtomicBool,
    losing_answers: AtomicBool,
    answer_bytes: AtomicU64,
    replacement: Mutex<Option<(Vec<u8>, Vec<u8>)>>,
}

impl Proxy {
    /// Listens on a free port and forwards to `target` (host:port).
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address").to_string();
        let state = Arc::new(State {
            target: target.to_owned(),
            generation: watch::channel(0).0,
            refusing: AtomicBool::new(false),
            losing_answers: AtomicBool::new(false),
            answer_bytes: AtomicU64::new(0),
            replacement: Mutex::new(None),
        });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !shared.refusing.load(Ordering::SeqCst) {
                    tokio::spawn(forward(client, shared.clone()));
                }
            }
        });
        Self { address, state }
    }

    /// Where clients connect to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Cuts all connections, in the middle of whatever they carry; new ones are let through.
    pub fn cut(&self) {
        self.state.generation.send_modify(|generation| *generation += 1);
    }

    /// Cuts all connections and refuses new ones, until told otherwise.
    pub fn refuse(&self, refuse: bool) {
        self.state.refusing.store(refuse, Ordering::SeqCst);
        if refuse {
            self.cut();
        }
    }

    /// From now on what the target answers is lost, while what clients send arrives. End it with
    /// [`Proxy::cut`], since the stream of bytes is broken.
    pub fn lose_answers(&self, lose: bool) {
        self.state.losing_answers.store(lose, Ordering::SeqCst);
    }

    /// From now on the target's answers have `from` replaced by `to`, which is as long, where a piece of the
    /// stream holds it whole.
    ///
    /// # Panics
    /// If the two differ in length.
    pub fn replace_in_answers(&self, from: &str, to: &str) {
        assert_eq!(from.len(), to.len(), "the protocol counts bytes");
        let replacement = Some((from.as_bytes().to_vec(), to.as_bytes().to_vec()));
        *self.state.replacement.lock().expect("nobody panics with the lock held") = replacement;
    }

    /// Bytes forwarded from the target to clients so far.
    #[must_use]
    pub fn answer_bytes(&self) -> u64 {
        self.state.answer_bytes.load(Ordering::SeqCst)
    }
}

impl State {
    fn replace(&self, piece: &mut [u8]) {
        let replacement = self.replacement.lock().expect("nobody panics with the lock held");
        if let Some((from, to)) = &*replacement
            && let Some(at) = piece.windows(from.len()).position(|window| window == from.as_slice())
        {
            piece[at..at + to.len()].copy_from_slice(to);
        }
    }
}

async fn forward(client: TcpStream, state: Arc<State>) {
    let Ok(target) = TcpStream::connect(&state.target).await else { return };
    let mut cuts = state.generation.subscribe();
    let (mut client_read, mut client_write) = client.into_split();
    let (mut target_read, mut target_write) = target.into_split();
    let requests = async { tokio::io::copy(&mut client_read, &mut target_write).await.map(|_| ()) };
    let answers = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = target_read.read(&mut buffer).await?;
            if read == 0 {
                return Ok::<(), std::io::Error>(());
            }
            state.replace(&mut buffer[..read]);
            if !state.losing_answers.load(Ordering::SeqCst) {
                client_write.write_all(&buffer[..read]).await?;
                state.answer_bytes.fetch_add(read as u64, Ordering::SeqCst);
            }
        }
    };
    tokio::select! {
        _ = requests => {}
        _ = answers => {}
        _ = cuts.changed() => {}
    }
}
