//! Telling other processes over Redis what they must forget. Messages may be lost, and anybody who can write to Redis can send
//! some: the worst that a message does is that something is read again.

use crate::link::Link;
use async_trait::async_trait;
use futures_util::StreamExt;
use omt_kernel::port::{Broadcast, Local, Remembers, Stale};
use serde::{Deserialize, Serialize};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};
use uuid::Uuid;

/// How long subscribing may take, and how long the pause after it failed is.
const SUBSCRIBING: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(1);
/// How often a process says something, so that it hears itself; and how long it hears nothing until it takes the connection for dead.
const SIGN: Duration = Duration::from_secs(5);
const DEAF: Duration = Duration::from_secs(16);
/// Messages that wait to be sent. More are left out: what they are about is soon read again.
const WAITING: usize = 1_024;

/// What goes over the wire. Others forget what it names; nothing where it is a sign of life.
#[derive(Serialize, Deserialize)]
struct Message {
    from: Uuid,
    stale: Option<Stale>,
}

/// A broadcast over a channel of Redis, beside the one in the process.
pub struct RedisBroadcast {
    local: Local,
    out: mpsc::Sender<Stale>,
}

impl RedisBroadcast {
    /// Begins to send and to hear. Both end when it is dropped.
    pub(crate) fn start(link: Arc<Link>, channel: String) -> Arc<Self> {
        let (out, waiting) = mpsc::channel(WAITING);
        let (this, me) = (Arc::new(Self { local: Local::default(), out }), Uuid::new_v4());
        tokio::spawn(send(link.clone(), channel.clone(), me, waiting));
        tokio::spawn(hear(link, channel, me, Arc::downgrade(&this)));
        this
    }
}

#[async_trait]
impl Broadcast for RedisBroadcast {
    fn join(&self, who: Arc<dyn Remembers>) {
        self.local.join(who);
    }

    async fn tell(&self, stale: Stale) {
        self.local.tell(stale.clone()).await;
        // Full only while Redis is away.
        let _ = self.out.try_send(stale);
    }
}

async fn send(link: Arc<Link>, channel: String, from: Uuid, mut waiting: mpsc::Receiver<Stale>) {
    loop {
        let stale = match timeout(SIGN, waiting.recv()).await {
            Ok(Some(stale)) => Some(stale),
            Ok(None) => return,
            Err(_) => None,
        };
        let Ok(message) = serde_json::to_string(&Message { from, stale }) else { continue };
        // One that cannot be sent now is old when it could be.
        link.ask(async |connection| redis::cmd("PUBLISH").arg(&channel).arg(&message).query_async::<()>(connection).await).await;
    }
}

async fn hear(link: Arc<Link>, channel: String, me: Uuid, whose: Weak<RedisBroadcast>) {
    while whose.strong_count() > 0 {
        let subscribed = async {
            let mut subscription = link.client.get_async_pubsub().await?;
            subscription.subscribe(&channel).await?;
            Ok::<_, redis::RedisError>(subscription)
        };
        if let Ok(Ok(mut subscription)) = timeout(SUBSCRIBING, subscribed).await {
            // Nobody knows what was said before.
            if let Some(this) = whose.upgrade() {
                this.local.tell(Stale::Everything).await;
            }
            let mut messages = subscription.on_message();
            while let Ok(Some(message)) = timeout(DEAF, messages.next()).await {
                let Some(this) = whose.upgrade() else { return };
                // A newer version may speak of what this one does not know, and therefore does not remember.
                let Ok(message) = serde_json::from_slice::<Message>(message.get_payload_bytes()) else { continue };
                if let Some(stale) = message.stale.filter(|_| message.from != me) {
                    this.local.tell(stale).await;
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
