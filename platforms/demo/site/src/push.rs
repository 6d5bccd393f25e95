//! Who listens to one account's push channels. Queues are bounded: who does not read is cut off and has to fetch
//! again. Knows nothing of what is pushed.

use tokio::sync::mpsc;

/// Frames that wait for one listener before it is cut off.
const FRAMES_WAITING_MAX: usize = 1024;
/// Listeners of one account; the oldest goes when there are more.
const LISTENERS_MAX: usize = 32;

/// The two push channels: they carry different things, as on real platforms.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// Server-sent events: direct messages and notices.
    Events,
    /// The WebSocket: comments.
    Socket,
}

/// One pushed piece.
#[derive(Clone)]
pub(crate) struct Frame {
    /// The event's name; the WebSocket has none.
    pub(crate) event: &'static str,
    /// JSON text.
    pub(crate) data: String,
}

/// Everybody who listens to one account.
#[derive(Default)]
pub(crate) struct Listeners {
    list: Vec<(Channel, mpsc::Sender<Frame>)>,
}

impl Listeners {
    /// Adds a listener. Its stream ends when it falls behind, when the session expires or when the site stops.
    pub(crate) fn add(&mut self, channel: Channel) -> mpsc::Receiver<Frame> {
        self.list.retain(|(_, sender)| !sender.is_closed());
        if self.list.len() >= LISTENERS_MAX {
            self.list.remove(0);
        }
        let (sender, receiver) = mpsc::channel(FRAMES_WAITING_MAX);
        self.list.push((channel, sender));
        receiver
    }

    /// Hands `frame` to everybody on `channel` and returns to how many; who cannot take it is cut off.
    pub(crate) fn send(&mut self, channel: Channel, frame: &Frame) -> usize {
        let mut reached = 0;
        self.list.retain(|(on, sender)| {
            if *on != channel {
                return true;
            }
            let taken = sender.try_send(frame.clone()).is_ok();
            reached += usize::from(taken);
            taken
        });
        reached
    }

    /// Ends every stream.
    pub(crate) fn cut(&mut self) {
        self.list.clear();
    }
}
