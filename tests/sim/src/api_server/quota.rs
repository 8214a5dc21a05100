//! Quotas on the pods of a namespace, and the objects that report them.

use serde_json::{Value, json};

use super::{ApiServer, Kind, ObjectKey, Preconditions, is_finished};

/// A quota on pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// The most pods.
    pub most: usize,
    /// True if it counts stored pods, those that have ended included.
    pub counts_finished: bool,
}

impl Quota {
    fn resource(self) -> &'static str {
        if self.counts_finished {
            "count/pods"
        } else {
            "pods"
        }
    }
}

impl ApiServer {
    /// Returns why the quota of a namespace refuses one more pod, if it does.
    pub fn refusal_by_quota(&self, namespace: &str) -> Option<String> {
        let quota = self.quota.get(namespace)?;
        let (used, most) = (self.pods_counted(*quota, namespace), quota.most);
        let resource = quota.resource();
        (used >= most).then(|| {
            format!(
                "exceeded quota: pods, requested: {resource}=1, used: {resource}={used}, limited: {resource}={most}"
            )
        })
    }

    fn pods_counted(&self, quota: Quota, namespace: &str) -> usize {
        let pods = self.list_in(Kind::Pod, namespace);
        let counted = pods.filter(|(_, pod)| quota.counts_finished || !is_finished(&pod.value));
        counted.count() + self.rollout_pods.get(namespace).copied().unwrap_or(0)
    }

    /// Sets the quota of a namespace, or removes it, with the object that reports it.
    pub fn set_quota(&mut self, namespace: &str, quota: Option<Quota>) {
        let key = ObjectKey::new(Kind::ResourceQuota, namespace, "pods");
        let _ = self.delete(&key, &Preconditions::default());
        let Some(quota) = quota else {
            self.quota.remove(namespace);
            return;
        };
        self.quota.insert(namespace.to_owned(), quota);
        let object = json!({
            "metadata": {"namespace": namespace, "name": "pods"},
            "spec": {"hard": amount(quota, quota.most)},
        });
        let _ = self.create(Kind::ResourceQuota, object, "");
        self.report_quota(namespace, 0);
    }

    /// Writes how many pods the quota of a namespace counts, and so many more that are about to be stored.
    pub fn report_quota(&mut self, namespace: &str, more: usize) {
        let Some(quota) = self.quota.get(namespace).copied() else {
            return;
        };
        let used = self.pods_counted(quota, namespace) + more;
        let key = ObjectKey::new(Kind::ResourceQuota, namespace, "pods");
        let status = json!({"hard": amount(quota, quota.most), "used": amount(quota, used)});
        let _ = self.patch_status(&key, &status);
    }
}

fn amount(quota: Quota, pods: usize) -> Value {
    json!({quota.resource(): pods.to_string()})
}
