//! Notices that the API server's data went back in time, as it does when an etcd is restored.
//!
//! A watch that names a resourceVersion of the future is silent until the versions have caught up, which takes hours. Meanwhile
//! everything in a cache is old.

use std::cmp::Ordering;

/// The newest resourceVersion of one kind that was seen.
///
/// Kubernetes says since 1.35 that the versions of a kind are decimal numbers of any length, and grow. Another form is not
/// compared.
#[derive(Clone, Debug, Default)]
pub struct NewestVersion(Option<String>);

impl NewestVersion {
    /// Takes a version that a watch brought, which may be older than an answer before it.
    pub fn watched(&mut self, version: &str) {
        let is_newer = |newest: &String| compare(version, newest) == Ordering::Greater;
        if is_number(version) && self.0.as_ref().is_none_or(is_newer) {
            self.0 = Some(version.to_owned());
        }
    }

    /// Takes the version of the answer to a request that was sent after all that was seen before. Returns true if it is older
    /// than one of these.
    pub fn goes_back(&mut self, version: &str) -> bool {
        if !is_number(version) {
            return false;
        }
        let newest = self.0.as_deref();
        let order = newest.map(|newest| compare(version, newest));
        if order != Some(Ordering::Equal) {
            self.0 = Some(version.to_owned());
        }
        order == Some(Ordering::Less)
    }
}

/// A number of which there is one way to write it, so that numbers compare by length first.
fn is_number(version: &str) -> bool {
    version.bytes().all(|byte| byte.is_ascii_digit())
        && !version.starts_with('0')
        && !version.is_empty()
}

fn compare(one: &str, other: &str) -> Ordering {
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn went_back(versions: &[&str]) -> Vec<bool> {
        let mut newest = NewestVersion::default();
        versions.iter().map(|v| newest.goes_back(v)).collect()
    }

    #[test]
    fn versions_that_grow_or_stay_do_not_go_back() {
        assert_eq!(went_back(&["9", "10", "10", "100"]), [false; 4]);
        let beyond_64_bits = ["18446744073709551615", "18446744073709551616"];
        assert_eq!(went_back(&beyond_64_bits), [false; 2]);
    }

    #[test]
    fn a_smaller_version_goes_back_once() {
        let versions = ["1000", "999", "1000", "100000000000000000000", "5"];
        assert_eq!(went_back(&versions), [false, true, false, false, true]);
    }

    #[test]
    fn a_watch_that_is_behind_says_nothing_and_one_that_is_ahead_counts() {
        let mut newest = NewestVersion::default();
        assert!(!newest.goes_back("10"));
        newest.watched("9");
        assert!(!newest.goes_back("10"));
        newest.watched("100");
        newest.watched("abc");
        assert!(newest.goes_back("99"));
        assert!(!newest.goes_back("99"));
    }

    #[test]
    fn what_is_no_number_is_not_compared() {
        let versions = ["12", "", "a1", "0", "011", "1-2", "+3", "11"];
        let mut expected = [false; 8];
        expected[7] = true;
        assert_eq!(went_back(&versions), expected);
    }
}
