//! The user that the containers of prefetch pods run as.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// "nobody", by custom of static images.
const NOBODY: i64 = 65532;
/// The largest that a kubelet takes.
const MAX: i64 = i32::MAX as i64;
/// The value of the option where the cluster chooses.
const NONE: &str = "none";

/// The user and group of the containers; `None` where the cluster sets them: OpenShift has a range for each namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunAsUser(pub(crate) Option<i64>);

/// Not a user that a prefetch pod may run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("want a number from 1 to {MAX}, or {NONE} where the cluster chooses the user; 0 is root")]
pub struct InvalidUser;

impl Default for RunAsUser {
    fn default() -> Self {
        Self(Some(NOBODY))
    }
}

impl FromStr for RunAsUser {
    type Err = InvalidUser;

    fn from_str(text: &str) -> Result<Self, InvalidUser> {
        if text == NONE {
            return Ok(Self(None));
        }
        let is_number = text.bytes().all(|b| b.is_ascii_digit());
        let user = text.parse().ok().filter(|_| is_number);
        let user = user.filter(|user| (1..=MAX).contains(user));
        user.map(|user| Self(Some(user))).ok_or(InvalidUser)
    }
}

impl fmt::Display for RunAsUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(user) => user.fmt(f),
            None => f.write_str(NONE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_number_but_root_or_none() {
        for text in ["65532", "1", "1000680000", "2147483647", "none"] {
            assert_eq!(text.parse::<RunAsUser>().unwrap().to_string(), text);
        }
        for text in ["0", "-1", "+1", "2147483648", "", "None", "nobody"] {
            assert_eq!(text.parse::<RunAsUser>(), Err(InvalidUser), "{text}");
        }
    }
}
