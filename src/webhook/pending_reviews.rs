//! Reviews whose objects have not been seen stored yet.
//!
//! Callers of a webhook are not authenticated, and a later webhook may refuse the object: nothing is done for a review
//! until a watch shows its object. Only the time of admission is taken from here, for a metric.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use headstart_core::image::ImageSetId;
use headstart_core::workload::DeploymentKey;

/// The most reviews that wait for their objects. That takes milliseconds, so a real API server never comes near this number;
/// forged reviews fill it and no more. About 200 bytes each.
pub const MAX_PENDING_REVIEWS: usize = 4096;

/// How long a review waits for its object to be stored: webhooks behind us may take up to 30 s each, and most
/// clusters have few.
pub const REVIEW_LIFETIME: Duration = Duration::from_secs(60);

/// A review that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingReview {
    /// The images.
    pub images: ImageSetId,
    /// When the review came in.
    pub admitted: Instant,
}

/// The reviews that wait for their objects.
#[derive(Debug, Default)]
pub struct PendingReviews {
    waiting: Mutex<HashMap<DeploymentKey, PendingReview>>,
}

impl PendingReviews {
    /// Records a review, in place of an older one of the same Deployment. Returns false if there is no room; then only the
    /// time of admission is missing from the metrics, because the watch brings the object all the same.
    pub fn record(&self, key: DeploymentKey, review: PendingReview) -> bool {
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= MAX_PENDING_REVIEWS && !waiting.contains_key(&key) {
            return false;
        }
        waiting.insert(key, review);
        true
    }

    /// Removes and returns the review of a stored object. A review of other images stays: its object may be next.
    pub fn take_confirmed(
        &self,
        key: &DeploymentKey,
        stored: &ImageSetId,
    ) -> Option<PendingReview> {
        let mut waiting = lock(&self.waiting);
        if waiting.get(key)?.images != *stored {
            return None;
        }
        waiting.remove(key)
    }

    /// Drops the reviews whose objects were not stored in time. Returns how many.
    pub fn expire(&self, now: Instant) -> usize {
        let mut waiting = lock(&self.waiting);
        let before = waiting.len();
        waiting.retain(|_, review| now.duration_since(review.admitted) < REVIEW_LIFETIME);
        before - waiting.len()
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
        assert!(reviews.record(key("a"), review("v2")));
        assert_eq!(reviews.take_confirmed(&key("a"), &"v1".into()), None);
        assert!(reviews.take_confirmed(&key("a"), &"v2".into()).is_some());
        assert_eq!(reviews.take_confirmed(&key("a"), &"v2".into()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn reviews_are_bounded_in_number_and_time() {
        let reviews = PendingReviews::default();
        for i in 0..MAX_PENDING_REVIEWS {
            assert!(reviews.record(key(&i.to_string()), review("v1")));
        }
        assert!(!reviews.record(key("one too many"), review("v1")));
        assert!(
            reviews.record(key("0"), review("v2")),
            "a newer one for the same Deployment fits"
        );
        tokio::time::advance(REVIEW_LIFETIME).await;
        assert_eq!(reviews.expire(Instant::now()), MAX_PENDING_REVIEWS);
        assert!(reviews.record(key("room again"), review("v1")));
    }
}
