//! Notices that the API server's data went back in time, as it does when an etcd is restored.
//!
//! A watch that names a resourceVersion of the future is silent until the versions have caught up, which takes hours. Meanwhile
//! everything in a cache is old.

use std::cmp::Ordering;

/// The newest resourceVersion among the answers to reads and writes of one kind, each sent after the answer to the one before.
///
/// Kubernetes says since 1.35 that the versions of a kind are decimal numbers of any length, and grow. Another form is not
/// compared.
#[derive(Clone, Debug, Default)]
pub struct NewestVersion(Option<String>);

impl NewestVersion {
    /// Takes the version of the next answer. Returns true if it is older than one before.
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
    fn what_is_no_number_is_not_compared() {
        let versions = ["12", "", "a1", "0", "011", "1-2", "+3", "11"];
        let mut expected = [false; 8];
        expected[7] = true;
        assert_eq!(went_back(&versions), expected);
    }
}
