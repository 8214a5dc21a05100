//! Reviews whose objects have not been seen stored yet.
//!
//! Callers of a webhook are not authenticated, and a later webhook may refuse the object. So nothing is done for a review
//! until a watch shows its object. Only the time of admission is taken from here, for a metric.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use headstart_core::image::ImageSetId;
use headstart_core::workload::DeploymentKey;

/// The limit for the reviews that wait for their objects. Beyond it the oldest is dropped. On the leader a review waits for
/// milliseconds, so an API server's own reviews never come near this number, and forged ones only fill it. A standby takes
/// none, so its reviews wait until they expire. A review takes about 250 bytes.
pub const MAX_PENDING_REVIEWS: usize = 4096;

/// The time for which a review waits for its object to be stored. Webhooks behind us may take up to 30 s each, and most
/// clusters have few.
pub const REVIEW_LIFETIME: Duration = Duration::from_secs(60);

/// A review that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingReview {
    /// The images.
    pub images: ImageSetId,
    /// The time at which the review came in.
    pub admitted: Instant,
}

/// The reviews that wait for their objects, on every replica.
#[derive(Debug, Default)]
pub struct PendingReviews {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    reviews: HashMap<Arc<DeploymentKey>, (u64, PendingReview)>,
    /// The numbers of the reviews, the oldest first.
    order: BTreeMap<u64, Arc<DeploymentKey>>,
    next: u64,
}

impl PendingReviews {
    /// Records a review, in place of an older one of the same Deployment. Expired reviews are dropped, and the oldest if there
    /// is no room. For these, only the metric lacks a value: the watch brings the object all the same.
    pub fn record(&self, key: DeploymentKey, review: PendingReview) {
        let mut waiting = lock(&self.waiting);
        waiting.remove(&key);
        waiting.expire(review.admitted);
        if waiting.reviews.len() >= MAX_PENDING_REVIEWS {
            waiting.pop_oldest();
        }
        let number = waiting.next;
        waiting.next += 1;
        let key = Arc::new(key);
        waiting.order.insert(number, key.clone());
        waiting.reviews.insert(key, (number, review));
    }

    /// Removes and returns the review of a stored object. A review of other images stays: its object may be next.
    pub fn take_confirmed(
        &self,
        key: &DeploymentKey,
        stored: &ImageSetId,
    ) -> Option<PendingReview> {
        let mut waiting = lock(&self.waiting);
        if waiting.reviews.get(key)?.1.images != *stored {
            return None;
        }
        waiting.remove(key)
    }

    /// Drops the reviews whose objects were not stored in time. Returns their number.
    pub fn expire(&self, now: Instant) -> usize {
        lock(&self.waiting).expire(now)
    }
}

impl Waiting {
    fn remove(&mut self, key: &DeploymentKey) -> Option<PendingReview> {
        let (number, review) = self.reviews.remove(key)?;
        self.order.remove(&number);
        Some(review)
    }

    fn pop_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_first() {
            self.reviews.remove(&key);
        }
    }

    fn expire(&mut self, now: Instant) -> usize {
        let before = self.reviews.len();
        // Two threads may record in a different order than they read the clock, by far less than a lifetime.
        while let Some((_, key)) = self.order.first_key_value()
            && let Some((_, review)) = self.reviews.get(key)
            && now.duration_since(review.admitted) >= REVIEW_LIFETIME
        {
            self.pop_oldest();
        }
        before - self.reviews.len()
    }
}

/// A panic in a critical section leaves these maps consistent, so poison is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> DeploymentKey {
        DeploymentKey {
            namespace: "shop".into(),
            name: name.into(),
        }
    }

    fn review(images: &str) -> PendingReview {
        PendingReview {
            images: images.into(),
            admitted: Instant::now(),
        }
    }

    #[tokio::test]
    async fn a_review_is_confirmed_by_the_images_it_promised_and_no_others() {
        let reviews = PendingReviews::default();
        reviews.record(key("a"), review("v2"));
        assert_eq!(reviews.take_confirmed(&key("a"), &"v1".into()), None);
        assert!(reviews.take_confirmed(&key("a"), &"v2".into()).is_some());
        assert_eq!(reviews.take_confirmed(&key("a"), &"v2".into()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn without_room_the_oldest_review_goes() {
        let reviews = PendingReviews::default();
        for i in 0..MAX_PENDING_REVIEWS {
            reviews.record(key(&i.to_string()), review("v1"));
        }
        reviews.record(key("0"), review("v2"));
        reviews.record(key("one more"), review("v1"));
        let waits =
            |name: &str, images: &str| reviews.take_confirmed(&key(name), &images.into()).is_some();
        assert!(waits("0", "v2"), "a newer one for the same Deployment");
        assert!(!waits("1", "v1"));
        assert!(waits("2", "v1") && waits("one more", "v1"));
        tokio::time::advance(REVIEW_LIFETIME).await;
        let left = MAX_PENDING_REVIEWS - 3;
        assert_eq!(reviews.expire(Instant::now()), left);
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_whose_reviews_are_never_taken_keeps_those_of_a_minute() {
        let reviews = PendingReviews::default();
        for i in 0..10_000 {
            reviews.record(key(&i.to_string()), review("v1"));
            tokio::time::advance(Duration::from_millis(30)).await;
        }
        let kept = REVIEW_LIFETIME.as_millis() / 30;
        let waiting = lock(&reviews.waiting);
        assert_eq!(waiting.reviews.len(), usize::try_from(kept).unwrap());
        assert_eq!(waiting.order.len(), waiting.reviews.len());
    }
}
