//! A provider that has nothing on offer for a while, by its own wish.

use std::time::Duration;

use provider::Script;
use transport::message::Reason;

use crate::descriptor::described;
use crate::world::{STEP, World, input};

#[tokio::test]
async fn who_rests_ends_what_runs_takes_nothing_new_and_comes_back() {
    let world = World::new();
    let script = Script::tokens(20, Duration::from_millis(5));
    let (selling, _) = world.sells_script(script).await;
    let (runs, late) = (world.buyer(10_000).await, world.buyer(10_000).await);
    let mut running = runs.asks(&selling, input() + STEP).await;
    running.begins().await;

    selling.provider.rest(true);
    assert!(selling.provider.status().resting);
    assert!(described(&world, &selling).await.offers.is_empty());
    let refused = late.asks(&selling, input() + STEP).await.refused().await;
    // Busy is no failure in the eyes of who asks.
    assert_eq!(refused.reason, Reason::Busy);
    assert!(refused.retry_after_ms.is_some());
    let whole = running.reads_on(None).await;
    assert_eq!((whole.failure, whole.chunks), (None, 20));

    selling.provider.rest(false);
    assert_eq!(described(&world, &selling).await.offers.len(), 1);
    let whole = late.asks(&selling, input() + STEP).await;
    assert_eq!(whole.reads_on(None).await.failure, None);
}
