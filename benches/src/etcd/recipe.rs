//! The mutex of etcd's own client library (`concurrency.Mutex` of Go's clientv3), in its
//! words: a key for each contender, of which the oldest has the lock, and a watch of the
//! key before one's own.

use anyhow::{Context, Result};
use clasp_etcd::Address;
use etcd_client::{
    Client, Compare, CompareOp, EventType, GetOptions, LeaseKeeper, PutOptions, SortOrder,
    SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchStream,
};
use std::time::Duration;
use tokio::runtime::Runtime;

/// The lease of a session, in seconds; the default of the library.
const TTL: i64 = 60;

/// A session and its key for one lock.
pub(crate) struct Recipe {
    runtime: Runtime,
    client: Client,
    /// Kept, as the library keeps it.
    watches: Option<WatchStream>,
    prefix: String,
    key: String,
    lease: i64,
}

impl Recipe {
    /// A session with the members of `address`, for the lock at its prefix.
    pub(crate) fn new(address: &Address) -> Result<Recipe> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let (client, lease, keeper, answers) = runtime.block_on(async {
            let mut client = Client::connect(address.members(), None).await?;
            let lease = client.lease_grant(TTL, None).await?.id();
            let (keeper, answers) = client.lease_keep_alive(lease).await?;
            anyhow::Ok((client, lease, keeper, answers))
        })?;
        runtime.spawn(async move {
            // With it, the answers would end.
            let _answers = answers;
            keep(keeper).await
        });
        let prefix = format!("{}/", address.prefix());
        Ok(Recipe {
            runtime,
            client,
            watches: None,
            key: format!("{prefix}{lease:x}"),
            prefix,
            lease,
        })
    }

    pub(crate) fn acquire(&mut self) -> Result<()> {
        let Recipe {
            runtime,
            client,
            watches,
            prefix,
            key,
            lease,
        } = self;
        runtime.block_on(async {
            let put = PutOptions::new().with_lease(*lease);
            let oldest = GetOptions::new()
                .with_prefix()
                .with_sort(SortTarget::Create, SortOrder::Ascend)
                .with_limit(1);
            let owner = TxnOp::get(prefix.as_str(), Some(oldest));
            let txn = Txn::new()
                .when([Compare::create_revision(key.as_str(), CompareOp::Equal, 0)])
                .and_then([TxnOp::put(key.as_str(), "", Some(put)), owner.clone()])
                .or_else([TxnOp::get(key.as_str(), None), owner]);
            let answer = client.txn(txn).await?;
            let revision = answer.header().context("a header")?.revision();
            let oldest = match answer.op_responses().pop() {
                Some(TxnOpResponse::Get(get)) => get.kvs().first().map(|kv| kv.create_revision()),
                _ => None,
            };
            if oldest == Some(revision) {
                return Ok(());
            }
            loop {
                let before = GetOptions::new()
                    .with_prefix()
                    .with_sort(SortTarget::Create, SortOrder::Descend)
                    .with_limit(1)
                    .with_max_create_revision(revision - 1);
                let found = client.get(prefix.as_str(), Some(before)).await?;
                let Some(last) = found.kvs().first() else {
                    break;
                };
                let since = found.header().context("a header")?.revision();
                wait_for_deletion(client, watches, last.key(), since).await?;
            }
            // The session may have ended meanwhile.
            let own = client.get(key.as_str(), None).await?;
            own.kvs().first().context("the session has ended")?;
            Ok(())
        })
    }

    pub(crate) fn release(&mut self) -> Result<()> {
        let Recipe {
            runtime,
            client,
            key,
            ..
        } = self;
        runtime.block_on(client.delete(key.as_str(), None))?;
        Ok(())
    }
}

async fn keep(mut keeper: LeaseKeeper) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_secs(TTL.unsigned_abs() / 3));
    loop {
        ticks.tick().await;
        keeper.keep_alive().await?;
    }
}

async fn wait_for_deletion(
    client: &mut Client,
    watches: &mut Option<WatchStream>,
    key: &[u8],
    since: i64,
) -> Result<()> {
    let options = WatchOptions::new().with_start_revision(since);
    let stream = match watches {
        Some(stream) => {
            stream.watch(key, Some(options)).await?;
            stream
        }
        None => watches.insert(client.watch(key, Some(options)).await?),
    };
    loop {
        let told = stream.message().await?.context("the watch has ended")?;
        let mut events = told.events().iter();
        let is_deletion = |event: &etcd_client::Event| {
            event.event_type() == EventType::Delete && event.kv().is_some_and(|kv| kv.key() == key)
        };
        if events.any(is_deletion) {
            let watch = told.watch_id();
            stream.cancel(watch).await?;
            return Ok(());
        }
    }
}
